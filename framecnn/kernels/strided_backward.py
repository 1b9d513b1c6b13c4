"""The input gradient of a convolution with strides, without products with zeros.

With strides (2, 2), an even row of the input meets only every second row of the kernel: the pixels fall into 2 x 2
groups, and the gradient of a group is a convolution without strides by a part of the flipped kernel.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from framecnn.geometry import Pair, Window
from framecnn.kernels.buffers import empty
from framecnn.kernels.codegen.rows import copy_row
from framecnn.kernels.conv2d import PackedConv, conv2d
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import contiguous, run
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
            part = flip(kernel, groups, (row, column), strides)
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


def flip(kernel: Array, groups: int, first: Pair = (0, 0), steps: Pair = (1, 1)) -> Array:
    """Return a kernel (kh, kw, c / groups, f) flipped, with channels and filters swapped.

    Of the kernel, only every step-th row and column from the first ones on count.
    """
    rows, columns = (-((at - size) // step) for at, size, step in zip(first, kernel.shape, steps, strict=False))
    group_channels, filters = kernel.shape[2:]
    flipped = empty((rows, columns, filters // groups, groups * group_channels), kernel.dtype)
    run(flip_forward, rows * columns, group_channels * filters, flipped, contiguous(kernel), first, steps)
    return flipped


@kernel
def flip_forward(flipped, kernel, first, steps, start, stop):
    """flipped (rows, columns, f / groups, c) from kernel (kh, kw, c / groups, f); items are rows and columns."""
    rows, columns, group_filters, _ = flipped.shape
    group_channels, filters = kernel.shape[2], kernel.shape[3]
    for item in range(start, stop):
        to = flipped[item // columns, item % columns]
        row, column = rows - 1 - item // columns, columns - 1 - item % columns
        tap = kernel[first[0] + row * steps[0], first[1] + column * steps[1]]
        for j in range(filters):
            at = j // group_filters * group_channels
            for k in range(group_channels):
                to[j % group_filters, at + k] = tap[k, j]


def strided_wrt_input(dy: Array, flipped: StridedConv, window: Window, dx: Array) -> None:
    """Write the gradient with respect to the input.

    Shapes: dy (n, oh, ow, f), dx (n, h, w, c); the window has no dilation.
    """
    axes = [list(_groups(window, axis)) for axis in (0, 1)]
    for down, across in product(*axes):
        part, size = flipped.parts.get((down.place, across.place)), (down.pixels, across.pixels)
        values, step = np.zeros((1, dx.shape[3]), dx.dtype), 0
        if part is not None:
            frames = Window(size, (down.places, across.places), border=(down.border, across.border))
            values, step = convolve_transposed(dy, part, frames).reshape(-1, dx.shape[3]), 1
        place = down.first, across.first, *window.strides
        run(place_pixels, len(dx) * size[0], 4 * size[1] * dx.shape[3], dx, values, step, place, size)


@kernel
def place_pixels(dx, values, step, place, size, start, stop):
    """Some pixels of dx (n, h, w, c), n frames of size (rows, columns), = values (pixels, c); items are rows of pixels.

    place (first row, first column, step from a row to the next, step from a column to the next); `step` is 1, or 0 if
    all are values[0].
    """
    height, width, channels = dx.shape[1], dx.shape[2], dx.shape[3]
    first_row, first_column, down, across = place
    rows, columns = size
    flat, pixels = dx.reshape(-1), values.reshape(-1)
    for item in range(start, stop):
        row = item // rows * height + first_row + item % rows * down
        for j in range(columns):
            to = (row * width + first_column + j * across) * channels
            copy_row(flat, to, pixels, step * (item * columns + j) * channels, channels)


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
    return conv2d(contiguous(dy[:, max(-top, 0) :, max(-left, 0) :]), flipped, back.cropped())
