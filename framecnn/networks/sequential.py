"""A network of layers in sequence."""

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np

from framecnn.arguments import check_count
from framecnn.data.augment import Augmentation
from framecnn.errors import SettingError, ShapeError
from framecnn.layers import Backward, InputLayer, Layer, Param
from framecnn.layers.base import check_batch, check_batch_shape, check_real, set_attributes
from framecnn.layers.chain import layer_names, walk
from framecnn.layers.params import REAL, SWAPPING
from framecnn.networks.input_warnings import warn_of_input
from framecnn.networks.limits import check_description
from framecnn.networks.passes import vjp_through
from framecnn.networks.prediction import PredictionPlan
from framecnn.networks.snapshot import NetworkSnapshot, layer_snapshots
from framecnn.networks.summary import Summary, summary_rows
from framecnn.networks.training_programs import TrainingPrograms
from framecnn.storage.model_file import Description, SavedModel, State
from framecnn.text import listed
from framecnn.training import loop
from framecnn.training.history import History
from framecnn.training.losses import Loss, softmax_cross_entropy
from framecnn.training.optimizers import Optimizer
from framecnn.training.progress import Progress, print_progress
from framecnn.typing import Array, Shape

__all__ = ["Sequential"]

BATCH_SIZE = 32


class Sequential(SavedModel):
    """Layers applied one after the other.

    Any number of threads may call a model. A call uses a consistent set of parameters, taken when it begins;
    :meth:`load_state_dict`, :meth:`update`, :meth:`build` and a training step set all their parameters atomically.

    Parameters
    ----------
    layers : iterable of Layer
        The first is an InputLayer.

    Attributes
    ----------
    layers : tuple of Layer
    names : tuple of str
        ``"conv_1"``, ``"pooling_1"``, ...: the class of the layer, counted from 1 within each class.

    Raises
    ------
    SettingError
        If an item is not a layer or occurs twice, or if the first is not an InputLayer.

    Examples
    --------
    >>> from framecnn import ConvLayer, FlatteningLayer, DenseLayer
    >>> model = Sequential([InputLayer((8, 8, 3)), ConvLayer(4, kernel_size=3), FlatteningLayer(), DenseLayer(2)])
    >>> model.build(seed=0).predict(np.zeros((5, 8, 8, 3))).shape
    (5, 2)
    >>> print(model.summary())
    layer         output     parameters  multiply-adds
    --------------------------------------------------
    input_1       8 x 8 x 3           0              0
    conv_1        6 x 6 x 4         112          3,888
    flattening_1  144                 0              0
    dense_1       2                 290            288
    --------------------------------------------------
    total                           402          4,176
    activations of a prediction: 0.1 MiB
    """

    def __init__(self, layers: Iterable[Layer]):
        self.layers = tuple(layers)
        others = [type(layer).__name__ for layer in self.layers if not isinstance(layer, Layer)]
        if others:
            raise SettingError(f"Sequential: expected layers, got {', '.join(others)}")
        if len({id(layer) for layer in self.layers}) < len(self.layers):
            raise SettingError("Sequential: expected distinct layers, got one twice; create another like it")
        if not self.layers or not isinstance(self.layers[0], InputLayer):
            first = type(self.layers[0]).__name__ if self.layers else "no layer"
            raise SettingError(f"Sequential: expected an InputLayer first, got {first}; begin with InputLayer(shape)")
        self.names = layer_names(self.layers)
        self._last: NetworkSnapshot | None = None
        self._programs = TrainingPrograms()

    def __repr__(self) -> str:
        return f"Sequential({list(self.layers)})"

    @property
    def input_shape(self) -> Shape:
        """The shape of one frame."""
        first = self.layers[0]
        assert isinstance(first, InputLayer)
        return first.shape

    @property
    def output_shape(self) -> Shape:
        """The shape of the output for one frame."""
        return list(self._walk())[-1][-1]

    def _walk(self) -> Iterator[tuple[str, Layer, Shape, Shape]]:
        return walk(self.layers, self.input_shape)

    def build(self, seed: int | np.random.Generator = 0, dtype: Any = np.float32) -> Self:
        """Check all shapes and draw all parameters.

        Parameters
        ----------
        seed : int or numpy.random.Generator, default 0
        dtype : float32 (default) or float64

        Returns
        -------
        The model itself.

        Raises
        ------
        ShapeError
            If a layer does not fit the one before it; the message names it.
        SettingError
            If the dtype is neither.
        """
        rng = np.random.default_rng(seed)
        set_attributes([(layer, layer.drawn_attributes(shape, rng, dtype)) for _, layer, shape, _ in self._walk()])
        return self

    def up_to(self, name: str) -> "Sequential":
        """Return the network of the layers up to and including the one of a name; it shares their parameters.

        Raises
        ------
        SettingError
            If no layer has the name.
        """
        if name not in self.names:
            raise SettingError(f"Sequential.up_to: expected one of {listed(self.names)}, got {name!r}")
        return Sequential(self.layers[: self.names.index(name) + 1])

    def predict(self, x: Array, batch_size: int = BATCH_SIZE) -> Array:
        """Return the output of every frame.

        Parameters
        ----------
        x : (n, *input_shape) array
            Any real dtype; cast to the model's.
        batch_size : int, default 32
            Frames in memory at a time. The result is the same, bit for bit, for every batch size.

        Returns
        -------
        (n, *output_shape) array

        Raises
        ------
        ShapeError
            If the model is not built or `x` does not fit it.
        SettingError
            If the batch size is not a positive integer.
        """
        who = "Sequential.predict"
        check_count(who, "batch_size", batch_size)
        check_batch_shape(who, x, self.input_shape)
        snapshot = self._snapshot()
        dtype = snapshot.layers[0].dtype
        if len(x) <= batch_size:
            batch = check_real(who, x[:])
            y = snapshot.prediction.run(batch, dtype)
            return y.copy() if np.may_share_memory(y, batch) else y
        y = np.empty((len(x), *self.output_shape), dtype)
        for start in range(0, len(x), batch_size):
            batch = check_real(who, x[start : start + batch_size])
            y[start : start + batch_size] = snapshot.prediction.run(batch, dtype)
        return y

    __call__ = predict

    def vjp(
        self, x: Array, rng: np.random.Generator | None = None, *, wrt_input: bool = True
    ) -> tuple[Array, Backward]:
        """Return the output of a batch and a function that computes the gradients.

        Parameters
        ----------
        x : (n, *input_shape) array
            Any real dtype; cast to the model's.
        rng : numpy.random.Generator or None
            None means inference, a generator training, as for :meth:`framecnn.layers.Layer.vjp`.
        wrt_input : bool, default True
            If false, dx is None and is not computed.

        Returns
        -------
        y : (n, *output_shape) array
        backward : callable
            ``backward(dy) -> dx, {"conv_1/kernel": gradient, ...}``. For a non-trainable parameter the
            dict holds its new value, not a gradient.

        Raises
        ------
        ShapeError
            If the model is not built or `x` does not fit it.
        """
        snapshot = self._snapshot()
        x = check_batch("Sequential.vjp", x, self.input_shape, snapshot.layers[0].dtype)
        if wrt_input:
            return vjp_through(snapshot.training_passes, self.names, x, rng)
        if rng is not None and len(x):
            recorded = self._programs.vjp(snapshot.layers, self._first_with_parameters, x)
            if recorded is not None:
                return recorded
        return vjp_through(snapshot.training_passes, self.names, x, rng, self._first_with_parameters)

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int = 10,
        batch_size: int = BATCH_SIZE,
        loss: Loss = softmax_cross_entropy,
        optimizer: Optimizer | None = None,
        validation_data: tuple[Any, Any] | None = None,
        patience: int | None = None,
        augment: Augmentation | None = None,
        seed: int = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        progress: Callable[[Progress], None] | None = print_progress,
    ) -> History:
        """Train the model; :func:`framecnn.training.loop.fit` describes the parameters."""
        warn_of_input(self.input_shape, getattr(self.layers[0], "scale", 1), x)
        try:
            return loop.fit(
                self,
                x,
                y,
                epochs=epochs,
                batch_size=batch_size,
                loss=loss,
                optimizer=optimizer,
                validation_data=validation_data,
                patience=patience,
                augment=augment,
                seed=seed,
                checkpoint=checkpoint,
                resume=resume,
                progress=progress,
            )
        finally:
            self._programs = TrainingPrograms()  # frees their memory

    @cached_property
    def _first_with_parameters(self) -> int:
        """The index of the first layer with parameters, or the number of layers if none has any."""
        steps = enumerate(self._walk())
        return next((index for index, (_, layer, shape, _) in steps if layer.param_specs(shape)), len(self.layers))

    def _snapshot(self) -> NetworkSnapshot:
        """Return a snapshot; raise ShapeError if the layers do not fit (kernels do not check)."""
        self._check_built()
        snapshot, layers = self._last, layer_snapshots(self.layers)
        if snapshot is None or not all(map(operator.is_, snapshot.layers, layers)):
            snapshot = NetworkSnapshot(layers)
            dtype, shape = layers[0].dtype, self.input_shape
            for name, layer in zip(self.names, layers, strict=True):
                if (layer.input_shape, layer.dtype) != (shape, dtype):
                    raise ShapeError(
                        f"Sequential: expected {name} built for {shape} of {dtype}, got it built for "
                        f"{layer.input_shape} of {layer.dtype}; build the model again"
                    )
                shape = layer.output_shape
            self._last = snapshot
        return snapshot

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None, "_programs": TrainingPrograms()}

    def summary(self) -> Summary:
        """Return output shape, parameters and multiply-adds of every layer, printed as a table.

        Returns
        -------
        Summary
            With ``rows``, ``n_params``, ``multiply_adds`` and ``activation_bytes``.
        """
        plan = PredictionPlan.of(self.layers, self.input_shape)
        itemsize = np.dtype(np.float32).itemsize
        return Summary(summary_rows(self.layers, self.input_shape), plan.activation_bytes(BATCH_SIZE, itemsize))

    def parameters(self) -> dict[str, Array]:
        """Return all parameters by name, such as ``"conv_1/kernel"``, read-only, in the order of the layers."""
        self._check_built()
        return {
            f"{name}/{parameter}": value
            for name, layer in zip(self.names, layer_snapshots(self.layers), strict=True)
            for parameter, value in layer.params.items()
        }

    def _check_built(self) -> None:
        if not all(hasattr(layer, "params") for layer in self.layers):
            raise ShapeError("Sequential: expected a built model, got layers without parameters; call build(seed)")

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all :meth:`parameters`."""
        return {name: value.copy() for name, value in self.parameters().items()}

    def param_specs(self) -> dict[str, Param]:
        """Return shape, initializer and trainability of each parameter, by the names of :meth:`state_dict`."""
        return dict(self._specs)

    @cached_property
    def _specs(self) -> dict[str, Param]:
        return {
            f"{name}/{key}": spec
            for name, layer, shape, _ in self._walk()
            for key, spec in layer.param_specs(shape).items()
        }

    def update(self, values: Mapping[str, Array]) -> None:
        """Set some of the parameters atomically, by the names of :meth:`state_dict`.

        Raises
        ------
        ShapeError
            If the model is not built, a name is unknown or a shape differs; the model keeps its parameters.
        """
        layers = dict(zip(self.names, self.layers, strict=True))
        changes = []
        for flat_name, value in values.items():
            name, _, key = flat_name.partition("/")
            if name not in layers:
                raise ShapeError(f"Sequential.update: expected parameters of {', '.join(layers)}, got {flat_name!r}")
            params = layers[name].require_built().params
            changes.append((params, params.checked({key: value})))
        with SWAPPING:
            for params, checked in changes:
                params.replace(checked)

    def load_state_dict(self, state: Mapping[str, Array], dtype: Any = np.float32) -> Self:
        """Set all parameters atomically; names and shapes must be exactly those of :meth:`state_dict`.

        Parameters
        ----------
        state : mapping of str to array
        dtype : float32 (default) or float64
            For a model that is not built yet; nothing is drawn.

        Returns
        -------
        The model itself.

        Raises
        ------
        ShapeError
            If a name is missing or unknown, or a shape differs; the model keeps its parameters.
        """
        steps = [(name, layer, shape, layer.param_specs(shape)) for name, layer, shape, _ in self._walk()]
        expected = {f"{name}/{key}": spec.shape for name, _, _, specs in steps for key, spec in specs.items()}
        received = {key: _shape_of_numbers(value) for key, value in state.items()}
        if received != expected:
            wrong = sorted(key for key in expected.keys() | received.keys() if expected.get(key) != received.get(key))
            key = wrong[0]
            raise ShapeError(
                f"Sequential.load_state_dict: expected {key} as {expected.get(key, 'absent')}, "
                f"got {received.get(key, 'nothing')} ({len(wrong)} of {len(expected)} differ)"
            )
        built = []
        for name, layer, shape, specs in steps:
            values = {key: state[f"{name}/{key}"] for key in specs}
            built.append((layer, layer.assigned_attributes(shape, values, getattr(layer, "dtype", dtype))))
        set_attributes(built)
        return self

    def fitted_state(self) -> State:
        """Return the settings of the layers, and :meth:`parameters`."""
        tensors = self.parameters()
        return {"layers": [layer.config for layer in self.layers], "dtype": self.layers[0].dtype.name}, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild a model from :meth:`fitted_state`; raise FormatError if its parts do not fit."""
        model = cls(Layer.from_config(config) for config in description["layers"])
        return model.load_state_dict(tensors, check_description(description, model.layers, tensors))


def _shape_of_numbers(value: Any) -> Any:
    """Return the shape of an array of real numbers, or the dtype of any other array."""
    value = np.asarray(value)
    return value.shape if value.dtype.kind in REAL else value.dtype
