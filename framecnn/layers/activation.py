"""Activation functions."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from framecnn import kernels
from framecnn.arguments import check_choice, check_number
from framecnn.layers.base import Backward, Case, Layer
from framecnn.typing import Array, Shape

__all__ = ["ActivationLayer"]


@dataclass(frozen=True)
class ActivationLayer(Layer):
    """A function of every value, or softmax along the last axis.

    Parameters
    ----------
    function : str
        ``"relu"`` max(x, 0); ``"leaky_relu"`` x, or negative_slope x below zero; ``"sigmoid"`` 1 / (1 + exp(-x));
        ``"tanh"``; ``"softmax"`` exp(x) / sum exp(x); ``"sqrt"`` the square root of max(x, 0); ``"relu6"``
        min(max(x, 0), 6); ``"hard_sigmoid"`` relu6(x + 3) / 6; ``"hard_swish"`` x relu6(x + 3) / 6; ``"silu"``
        x / (1 + exp(-x)), also called swish; ``"gelu"`` x times the probability that a standard normal value is below
        x; ``"elu"`` x, or alpha (exp(x) - 1) below zero; ``"softplus"`` log(1 + exp(x)).
    negative_slope : float, default 0.3
        Slope of leaky_relu below zero.
    alpha : float, default 1.0
        Scale of elu below zero.

    Shapes
    ------
    x (n, ...) -> y (n, ...)

    Raises
    ------
    SettingError
        If the function is unknown, or `negative_slope` or `alpha` is not a finite number.

    Notes
    -----
    Keras: ``Activation``, and ``LeakyReLU`` and ``ELU`` with the same defaults; ``Activation("gelu")`` and PyTorch's
    ``GELU()`` are the exact gelu, as here.

    References
    ----------
    Howard et al., "Searching for MobileNetV3", ICCV 2019: hard_swish; Hendrycks & Gimpel, "Gaussian Error Linear
    Units", 2016: gelu and silu; Clevert et al., "Fast and Accurate Deep Network Learning by Exponential Linear Units",
    ICLR 2016: elu.

    Examples
    --------
    >>> ActivationLayer("relu").build((3,))([[-1, 0, 2]])
    array([[0., 0., 2.]], dtype=float32)
    """

    function: str
    _: KW_ONLY
    negative_slope: float = 0.3
    alpha: float = 1.0

    cases: ClassVar = tuple(
        Case({"function": function}, shape) for function in kernels.FUNCTIONS for shape in ((4, 3, 5), (6,))
    )

    def __post_init__(self) -> None:
        check_choice(self._who, "function", self.function, tuple(kernels.FUNCTIONS))
        self._set(
            negative_slope=check_number(self._who, "negative_slope", self.negative_slope),
            alpha=check_number(self._who, "alpha", self.alpha),
        )

    @property
    def parameter(self) -> float:
        """The number that the function depends on: `alpha` for elu, `negative_slope` for leaky_relu."""
        return self.alpha if self.function == "elu" else self.negative_slope

    def infer_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def forward(self, x: Array) -> Array:
        return kernels.activate(x, self.function, self.parameter)

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        y = self.forward(x)
        return y, lambda dy: (kernels.activate_backward(dy, x, y, self.function, self.parameter), {})
