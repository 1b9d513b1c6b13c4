"""The gradient of a convolution's map, stored at pooled size until it is needed."""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Pair
from framecnn.kernels.codegen.microkernel import NARROW, filter_block
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.jit import kernel
from framecnn.kernels.pool import NO_VALUES, unpool2d
from framecnn.kernels.threads import read_only
from framecnn.typing import Array

__all__ = ["Gradients", "gradient_block", "is_narrow", "items_of_part"]


def gradient_block(filters: int, dtype: np.dtype) -> int:
    """Return how many filters' gradients are summed at a time: those of a register block, or half for few filters."""
    return NARROW * lanes(dtype) if filters <= NARROW * lanes(dtype) else filter_block(dtype)


def is_narrow(sums: Array) -> bool:
    """Return whether sums (..., block) are of half a register block."""
    return sums.shape[-1] < filter_block(sums.dtype)


@kernel
def items_of_part(part, parts, frames, size, items):
    """Return the first item of a part of the sums, and the first item after it; every frame has `items`.

    A group of `size` frames has as many parts as every other, the last one too, which may have fewer frames. So sums
    have the same bits whether groups are added at once or one after the other.
    """
    each = parts // max((frames + size - 1) // size, 1)
    first = part // each * size
    inside, index = (min(first + size, frames) - first) * items, part % each
    return first * items + index * inside // each, first * items + (index + 1) * inside // each


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
