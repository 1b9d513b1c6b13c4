"""Optimizers: rules that change weights by their gradients, with the formulas of Keras.

Settings are fields of a dataclass; the state consists of arrays by parameter name.
"""

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from framecnn.arguments import check_number
from framecnn.errors import SettingError, ShapeError
from framecnn.kernels.update import adam_update, sgd_update
from framecnn.training.model import TrainableModel
from framecnn.training.schedules import LearningRate, check_rate, rate_at
from framecnn.typing import Array, Shape

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer:
    """A rule that changes weights by their gradients.

    A subclass is a dataclass whose fields are its settings, ``learning_rate`` among them. It defines ``slots``, the
    names of the moments that it keeps, and :meth:`step`.

    Attributes
    ----------
    iterations : int
        Updates so far.
    moments : dict of str to dict of str to array
        Running statistics of earlier gradients: by slot, then by parameter.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    learning_rate: LearningRate

    def __post_init__(self) -> None:
        check_rate(type(self).__name__, self.learning_rate)
        self.iterations = 0
        self.moments: dict[str, dict[str, Array]] = {slot: {} for slot in self.slots}

    def step(self, outputs: tuple[Array, ...], weights: Array, gradient: Array) -> None:
        """Write updated weights and moments to ``outputs = (updated, moment of each slot ...)``.

        All arrays have the same shape; moments are read and written.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected a method step, got none; define it")

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return rate_at(self.learning_rate, self.iterations)

    def update(self, model: TrainableModel, grads: Mapping[str, Array]) -> None:
        """Update the trainable parameters of a model once.

        Parameters
        ----------
        model : Sequential
            A built model.
        grads : mapping of str to array
            The gradient of each trainable parameter, ``"conv_1/kernel" -> array``.

        Raises
        ------
        ShapeError
            If a gradient is missing, unknown, or of another shape than its parameter; or if the optimizer holds the
            moments of a different model.
        """
        model.update(self.advance(model, grads))

    def advance(self, model: TrainableModel, grads: Mapping[str, Array]) -> dict[str, Array]:
        """Update the moments and return the new parameters, without setting them.

        Parameters
        ----------
        model, grads
            As in :meth:`update`, with the same errors.

        Returns
        -------
        dict of str to array
        """
        specs = model.param_specs()
        weights = {name: value for name, value in model.parameters().items() if specs[name].trainable}
        self._check("gradients", weights, {name: np.shape(gradient) for name, gradient in grads.items()})
        for moments in filter(None, self.moments.values()):
            self._check("moments", weights, {name: moment.shape for name, moment in moments.items()})
        values = {}
        for name, weight in weights.items():
            values[name] = np.empty_like(weight)
            outputs = values[name], *(self._moment(slot, name, weight) for slot in self.slots)
            self.step(outputs, weight, np.ascontiguousarray(grads[name], weight.dtype))
        self.iterations += 1
        return values

    def _moment(self, slot: str, name: str, weights: Array) -> Array:
        """Return the moment of a parameter, zeros before its first update."""
        moments = self.moments[slot]
        if name not in moments:
            moments[name] = np.zeros_like(weights)
        return moments[name]

    def _check(self, what: str, weights: Mapping[str, Array], received: Mapping[str, Shape]) -> None:
        expected = {name: value.shape for name, value in weights.items()}
        if received != expected:
            name = min(name for name, _ in expected.items() ^ received.items())
            raise ShapeError(
                f"{type(self).__name__}.update: expected {what} of all trainable parameters of the model, {name} as "
                f"{expected.get(name, 'absent')}, got {received.get(name, 'none')}"
            )

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the state: ``"iterations"``, ``"momentum/conv_1/kernel"``, ..."""
        moments = {
            f"{slot}/{name}": value.copy() for slot, values in self.moments.items() for name, value in values.items()
        }
        return {"iterations": np.array([self.iterations], np.int64), **moments}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Set the state.

        Parameters
        ----------
        state : mapping of str to array
            What :meth:`state_dict` of an optimizer with the same slots returned.

        Raises
        ------
        ShapeError
            If it is the state of an optimizer with other slots; the current state is then kept.
        """
        moments: dict[str, dict[str, Array]] = {slot: {} for slot in self.slots}
        for key, value in state.items():
            slot, _, name = key.partition("/")
            if slot in moments and name:
                moments[slot][name] = np.array(value, order="C")
            elif key != "iterations":
                raise ShapeError(
                    f"{type(self).__name__}.load_state_dict: expected iterations and {' and '.join(self.slots)} of "
                    f"parameters, got {key!r}; pass a state_dict of the same optimizer"
                )
        names = {tuple(values) for values in moments.values()}
        if "iterations" not in state or len(names) > 1:
            raise ShapeError(
                f"{type(self).__name__}.load_state_dict: expected iterations, and {' and '.join(self.slots)} of the "
                f"same parameters, got {sorted(state)}; pass a state_dict of the same optimizer"
            )
        self.iterations, self.moments = int(np.ravel(state["iterations"])[0]), moments


@dataclass(eq=False)
class SGD(Optimizer):
    r"""Stochastic gradient descent, with or without momentum.

    .. math:: m' = \mu m - \eta g, \quad w' = w + m' \quad (\text{Nesterov: } w' = w + \mu m' - \eta g)

    Parameters
    ----------
    learning_rate : float or schedule, default 0.01
    momentum : float, default 0
        The share of a step that the next step repeats.
    nesterov : bool, default False
        Use Nesterov's momentum.

    Raises
    ------
    SettingError
        If a setting has an invalid value.

    Notes
    -----
    Keras: ``SGD``.

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> from framecnn import DenseLayer, InputLayer, Sequential
    >>> model = Sequential([InputLayer((1,)), DenseLayer(1, use_bias=False, kernel_initializer="zeros")]).build()
    >>> SGD(0.5).update(model, {"dense_1/kernel": [[1.0]]})
    >>> model.state_dict()
    {'dense_1/kernel': array([[-0.5]], dtype=float32)}
    """

    learning_rate: LearningRate = 0.01
    _: KW_ONLY
    momentum: float = 0.0
    nesterov: bool = False

    slots: ClassVar = ("momentum",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("SGD", "momentum", self.momentum)

    def step(self, outputs: tuple[Array, ...], weights: Array, gradient: Array) -> None:
        sgd_update(outputs, weights, gradient, self.rate, self.momentum, self.nesterov)


@dataclass(eq=False)
class Adam(Optimizer):
    r"""Steps along the running mean of a gradient, divided by the root of its running mean square.

    .. math:: m' = \beta_1 m + (1 - \beta_1) g, \quad v' = \beta_2 v + (1 - \beta_2) g^2, \quad
        w' = w - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \frac{m'}{\sqrt{v'} + \epsilon}

    Parameters
    ----------
    learning_rate : float or schedule, default 0.001
    beta_1, beta_2 : float, default 0.9 and 0.999
        The shares of the running mean and of the running mean square that an update keeps.
    epsilon : float, default 1e-7
        Added to the root; it keeps steps small if gradients are almost zero.

    Raises
    ------
    SettingError
        If a setting has an invalid value.

    Notes
    -----
    Keras: ``Adam``; as there, epsilon is added outside the bias correction.

    References
    ----------
    Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.

    Examples
    --------
    >>> from framecnn import DenseLayer, InputLayer, Sequential
    >>> model = Sequential([InputLayer((1,)), DenseLayer(1, use_bias=False, kernel_initializer="zeros")]).build()
    >>> Adam(0.5).update(model, {"dense_1/kernel": [[100.0]]})
    >>> model.state_dict()
    {'dense_1/kernel': array([[-0.5]], dtype=float32)}
    """

    learning_rate: LearningRate = 0.001
    _: KW_ONLY
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7

    slots: ClassVar = ("momentum", "velocity")
    weight_decay: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        who = type(self).__name__
        for name in ("beta_1", "beta_2"):
            _check_share(who, name, getattr(self, name))
        check_number(who, "epsilon", self.epsilon)
        check_number(who, "weight_decay", self.weight_decay)

    def step(self, outputs: tuple[Array, ...], weights: Array, gradient: Array) -> None:
        betas, n = (self.beta_1, self.beta_2), self.iterations + 1
        rate = self.rate * math.sqrt(1 - self.beta_2**n) / (1 - self.beta_1**n)
        adam_update(outputs, weights, gradient, rate, self.epsilon, betas, self.weight_decay * self.rate)


@dataclass(eq=False)
class AdamW(Adam):
    r"""Adam with decoupled weight decay: each update also shrinks every weight by a fixed share.

    .. math:: w' = w - \eta \lambda w - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
        \frac{m'}{\sqrt{v'} + \epsilon}

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon
        As in :class:`Adam`.
    weight_decay : float, default 0.004
        The share of a weight that an update subtracts, in units of the learning rate; also of biases, as in Keras.

    Raises
    ------
    SettingError
        If a setting has an invalid value.

    Notes
    -----
    Keras: ``AdamW``.

    References
    ----------
    Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.

    Examples
    --------
    >>> AdamW(0.01)
    AdamW(learning_rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-07, weight_decay=0.004)
    """

    weight_decay: float = 0.004  # type: ignore[misc]


def _check_share(who: str, name: str, value: float) -> None:
    if not 0 <= check_number(who, name, value) < 1:
        raise SettingError(f"{who}: expected {name} of at least 0 and below 1, got {value!r}")
