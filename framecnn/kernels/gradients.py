"""The gradient of a convolution's map, stored at pooled size until it is needed."""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Pair
from framecnn.kernels.pool import NO_VALUES, unpool2d
from framecnn.kernels.threads import read_only
from framecnn.typing import Array

__all__ = ["Gradients"]


class Gradients(NamedTuple):
    """The gradient of a convolution's map. If y, the activated and pooled map, is given, dy is the gradient of y.

    Shapes: dy, y and argmax, as :mod:`framecnn.kernels.epilogue` defines it, (n, oh, ow, f). `negative_slope` is the
    activation's slope where y <= 0.
    """

    dy: Array
    y: Array = NO_VALUES
    argmax: Array = NO_VALUES
    negative_slope: float = 1.0

    @property
    def is_pooled(self) -> bool:
        """Whether the map was pooled."""
        return self.argmax.shape[3] > 0

    def select(self, frames: slice) -> "Gradients":
        """Return the gradients of some frames."""
        return Gradients(self.dy[frames], self.y[frames], self.argmax[frames], self.negative_slope)

    def unpooled(self, output: Pair) -> Array:
        """Return the gradient of the whole map of `output` rows and columns."""
        return unpool2d(self.dy, self.y, self.argmax, self.negative_slope, output) if self.is_pooled else self.dy

    def for_jit(self) -> "Gradients":
        """Return the gradients contiguous, of one dtype and read-only, as jitted code requires."""
        dtype = self.dy.dtype
        y = self.y if self.is_pooled else NO_VALUES.astype(dtype)
        dy, y, argmax = map(read_only, (np.ascontiguousarray(self.dy), y, self.argmax))
        return Gradients(dy, y, argmax, dtype.type(self.negative_slope))
