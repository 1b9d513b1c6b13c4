"""Padding: a border of a constant value around frames."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from framecnn import geometry
from framecnn.arguments import check_number
from framecnn.errors import SettingError
from framecnn.layers.base import Backward, Case, Layer, check_frame
from framecnn.typing import Array, Shape

__all__ = ["PaddingLayer"]


@dataclass(frozen=True)
class PaddingLayer(Layer):
    """A border of a constant value around frames.

    Parameters
    ----------
    padding : ((int, int), (int, int))
        ``((top, bottom), (left, right))`` in pixels.
    value : float, default 0.0

    Shapes
    ------
    x (n, h, w, c) -> y (n, top + h + bottom, left + w + right, c)

    Raises
    ------
    SettingError
        If a setting is not allowed.
    ShapeError
        When it is built or called, if its input is not frames.

    Notes
    -----
    Convolutions and poolings have padding of their own, which costs nothing. Keras: ``ZeroPadding2D``; ONNX: ``Pad``.

    Examples
    --------
    >>> PaddingLayer(((0, 1), (0, 0)), value=7).build((1, 2, 1))([[[[1], [2]]]])[0, :, :, 0]
    array([[1., 2.],
           [7., 7.]], dtype=float32)
    """

    padding: geometry.Border
    _: KW_ONLY
    value: float = 0.0

    cases: ClassVar = (
        Case({"padding": ((1, 0), (2, 3))}, (4, 5, 3)),
        Case({"padding": ((0, 2), (0, 1)), "value": -1.5}, (3, 2, 1)),
    )

    def __post_init__(self) -> None:
        padding = geometry.as_padding(self.padding, self._who)
        if isinstance(padding, str):
            raise SettingError(
                f"{self._who}: expected padding as ((top, bottom), (left, right)) in pixels, got {padding!r}"
            )
        self._set(padding=padding, value=check_number(self._who, "value", self.value))

    def infer_shape(self, input_shape: Shape) -> Shape:
        height, width, channels = check_frame(self._who, input_shape)
        return height + sum(self.padding[0]), width + sum(self.padding[1]), channels

    def forward(self, x: Array) -> Array:
        y = np.full((len(x), *self.infer_shape(x.shape[1:])), self.value, x.dtype)
        y[self._inside(x)] = x
        return y

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        return self.forward(x), lambda dy: (np.ascontiguousarray(dy[self._inside(x)]), {})

    def _inside(self, x: Array) -> tuple[slice, slice, slice]:
        """Return where frames x (n, h, w, c) lie in the output."""
        rows, columns = (
            slice(before, before + length) for (before, _), length in zip(self.padding, x.shape[1:3], strict=True)
        )
        return slice(None), rows, columns
