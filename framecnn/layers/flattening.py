"""Flattening of maps to rows of features."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from framecnn.layers.base import Backward, Case, Layer
from framecnn.typing import Array, Shape

__all__ = ["FlatteningLayer"]


@dataclass(frozen=True)
class FlatteningLayer(Layer):
    """The values of a frame as one row: row by row, pixel by pixel, channels innermost.

    Shapes
    ------
    x (n, h, w, c) -> y (n, h * w * c), a view of x

    Notes
    -----
    Keras: ``Flatten`` with channels last.

    Examples
    --------
    >>> FlatteningLayer().build((2, 3, 4)).output_shape
    (24,)
    """

    cases: ClassVar = (Case({}, (3, 4, 2)), Case({}, (5,)))

    def infer_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def forward(self, x: Array) -> Array:
        return x.reshape(len(x), self.infer_shape(x.shape[1:])[0])

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        return self.forward(x), lambda dy: (dy.reshape(x.shape), {})
