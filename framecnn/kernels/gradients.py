"""The gradient of a map, given as that of the smaller one to which it was activated and pooled."""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Pair
from framecnn.kernels.pool import unpool2d
from framecnn.kernels.threads import read_only
from framecnn.typing import Array

__all__ = ["Gradients"]

NOWHERE = np.empty((0, 0, 0, 0), np.uint8)


class Gradients(NamedTuple):
    """Gradients of a map (n, oh, ow, f) or, where y is given, of what was activated and then pooled to y.

    Shapes: dy, y, where (n, oh, ow, f) of the pooled; `where` holds the numbers 2 u + v of the largest of 2 x 2
    pixels. Where y is not positive, the activation multiplied by `slope`.
    """

    dy: Array
    y: Array = NOWHERE
    where: Array = NOWHERE
    slope: float = 1.0

    @property
    def is_pooled(self) -> bool:
        """Whether they are those of a pooled map."""
        return self.where.shape[3] > 0

    def of(self, frames: slice) -> "Gradients":
        """Return the gradients of some frames."""
        return Gradients(self.dy[frames], self.y[frames], self.where[frames], self.slope)

    def unpooled(self, output: Pair) -> Array:
        """Return the gradient of the whole map, whose rows and columns are `output`."""
        return unpool2d(self.dy, self.y, self.where, self.slope, output) if self.is_pooled else self.dy

    def for_kernel(self) -> "Gradients":
        """Return the gradients contiguous, of one dtype and read-only, as compiled code takes them."""
        dtype = self.dy.dtype
        y = self.y if self.is_pooled else NOWHERE.astype(dtype)
        dy, y, where = map(read_only, (np.ascontiguousarray(self.dy), y, self.where))
        return Gradients(dy, y, where, dtype.type(self.slope))
