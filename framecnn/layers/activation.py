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
        ``"tanh"``; ``"softmax"`` exp(x) / sum exp(x); ``"sqrt"`` the square root of max(x, 0).
    negative_slope : float, default 0.3
        Slope of leaky_relu below zero.

    Shapes
    ------
    x (n, ...) -> y (n, ...)

    Raises
    ------
    SettingError
        If the function is unknown, or the slope is not a finite number.

    Notes
    -----
    Keras: ``Activation``, and ``LeakyReLU`` with the same default slope.

    Examples
    --------
    >>> ActivationLayer("relu").build((3,))([[-1, 0, 2]])
    array([[0., 0., 2.]], dtype=float32)
    """

    function: str
    _: KW_ONLY
    negative_slope: float = 0.3

    cases: ClassVar = tuple(
        Case({"function": function}, shape)
        for function in ("relu", "leaky_relu", "sigmoid", "tanh", "softmax", "sqrt")
        for shape in ((4, 3, 5), (6,))
    )

    def __post_init__(self) -> None:
        check_choice(self._who, "function", self.function, tuple(kernels.FUNCTIONS))
        self._set(negative_slope=check_number(self._who, "negative_slope", self.negative_slope))

    def infer_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def forward(self, x: Array) -> Array:
        return kernels.activate(x, self.function, self.negative_slope)

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        y = self.forward(x)
        return y, lambda dy: (kernels.activate_backward(dy, x, y, self.function, self.negative_slope), {})
