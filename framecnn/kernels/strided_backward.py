"""The input gradient of a convolution with strides, without products with zeros.

With strides (2, 2), an even row of the input meets only every second row of the kernel: the pixels fall into 2 x 2
groups, and the gradient of a group is a convolution without strides by a part of the flipped kernel.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from framecnn.geometry import Pair, Window
from framecnn.kernels.conv2d import PackedConv, conv2d
from framecnn.typing import Array

__all__ = ["StridedConv", "convolve_transposed", "flip", "strided_wrt_input"]


class StridedConv(NamedTuple):
    """The parts of a flipped kernel that meet the groups of pixels, by first row and column in the kernel, packed."""

    parts: dict[Pair, PackedConv]
    algorithm: int = 0  # as of PackedConv: direct

    @classmethod
    def of(cls, kernel: Array, strides: Pair, groups: int) -> "StridedConv":
        """Return the parts of a kernel (kh, kw, c / groups, f)."""
        down, across = strides
        parts = {}
        for row, column in product(range(min(down, len(kernel))), range(min(across, kernel.shape[1]))):
            part = flip(kernel[row::down, column::across], groups)
            parts[row, column] = PackedConv.of("direct", part, None, groups)
        return cls(parts)


class _Group(NamedTuple):
    """Every stride-th pixel of an axis: its first pixel, the first place in the kernel that meets it, the numbers of
    both, and the border of the convolution without strides from the group to the output."""

    first: int
    place: int
    pixels: int
    places: int
    border: Pair


def flip(kernel: Array, groups: int) -> Array:
    """Return a kernel (kh, kw, c / groups, f) flipped, with channels and filters swapped."""
    parts = [part.swapaxes(2, 3) for part in np.split(kernel[::-1, ::-1], groups, axis=3)]
    return np.ascontiguousarray(np.concatenate(parts, axis=3))


def strided_wrt_input(dy: Array, flipped: StridedConv, window: Window, dx: Array) -> None:
    """Write the gradient with respect to the input.

    Shapes: dy (n, oh, ow, f), dx (n, h, w, c); the window has no dilation.
    """
    axes = [list(_groups(window, axis)) for axis in (0, 1)]
    for down, across in product(*axes):
        pixels = dx[:, down.first :: window.strides[0], across.first :: window.strides[1]]
        part = flipped.parts.get((down.place, across.place))
        if part is None:
            pixels[...] = 0
        else:
            sizes = (down.pixels, across.pixels), (down.places, across.places)
            pixels[...] = convolve_transposed(dy, part, Window(*sizes, border=(down.border, across.border)))


def _groups(window: Window, axis: int) -> Iterator[_Group]:
    """Yield the groups of pixels along an axis."""
    length, kernel, stride = window.frame[axis], window.kernel[axis], window.strides[axis]
    before, output = window.top_left[axis], window.output[axis]
    for first in range(min(stride, length)):
        outside, place = divmod(first + before, stride)
        pixels, places = -((first - length) // stride), -((place - kernel) // stride)
        yield _Group(first, place, pixels, places, (outside, output - 1 + places - pixels - outside))


def convolve_transposed(dy: Array, flipped: PackedConv, window: Window) -> Array:
    """Return dy convolved with a flipped kernel.

    Shapes: dy, with zeros between its pixels if the window has strides, (n, height, width, f), result (n, h, w, c).
    """
    back = window.transposed()
    top, left = back.top_left
    return conv2d(np.ascontiguousarray(dy[:, max(-top, 0) :, max(-left, 0) :]), flipped, back.cropped())
