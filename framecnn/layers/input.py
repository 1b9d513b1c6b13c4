"""The first layer of a network: shape of a frame and scale of its values."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from framecnn.arguments import check_number, check_shape
from framecnn.errors import ShapeError
from framecnn.layers.base import Backward, Case, Layer
from framecnn.typing import Array, Shape

__all__ = ["InputLayer"]


@dataclass(frozen=True)
class InputLayer(Layer):
    """The input of a network, multiplied by a scale.

    .. math:: y = scale \\cdot x

    Parameters
    ----------
    shape : tuple of int
        ``(h, w, c)`` of a frame, or ``(d,)`` of a row of features.
    scale : float, default 1.0
        For example 1/255, which maps uint8 frames to 0..1.

    Shapes
    ------
    x (n, *shape) -> y (n, *shape), x itself if `scale` is 1

    Raises
    ------
    ShapeError
        If the shape is not a sequence of positive integers.
    SettingError
        If the scale is not a finite number.

    Notes
    -----
    Keras: ``Input(shape)`` and ``Rescaling(scale)``.

    Examples
    --------
    >>> InputLayer((2,), scale=0.5).build((2,))([[2, 4]])
    array([[1., 2.]], dtype=float32)
    """

    shape: Shape
    _: KW_ONLY
    scale: float = 1.0

    cases: ClassVar = (Case({"shape": (5, 7, 3), "scale": 0.25}, (5, 7, 3)), Case({"shape": (4,)}, (4,)))

    def __post_init__(self) -> None:
        self._set(shape=check_shape(self._who, "shape", self.shape), scale=check_number(self._who, "scale", self.scale))

    def infer_shape(self, input_shape: Shape) -> Shape:
        if tuple(input_shape) != self.shape:
            raise ShapeError(f"{self._who}: expected input of shape {self.shape}, got {tuple(input_shape)}")
        return self.shape

    def forward(self, x: Array) -> Array:
        return x if self.scale == 1 else x * x.dtype.type(self.scale)

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        return self.forward(x), lambda dy: (self.forward(dy), {})
