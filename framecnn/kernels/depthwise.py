"""Depthwise convolution: a channel has kernels of its own, so vectors hold channels.

Windows that reach over the border add up fewer products. Rows are copied only if a channel has several filters or if
the channels do not fill a vector.
"""

from math import gcd
from typing import NamedTuple, Self

import numpy as np

from framecnn.geometry import Pair, Window
from framecnn.kernels.codegen.depthwise_block import ANY_TAPS, depthwise_line
from framecnn.kernels.codegen.memory import copy
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import CHUNK_WORK, run
from framecnn.typing import Array

__all__ = ["DepthwisePlan", "conv2d_depthwise", "pack_depthwise"]

PIXEL_WORK = 16  # multiply-adds that cost as much as reading and writing a value


class Axis(NamedTuple):
    """Windows along an axis, one for every `len(axes)`-th pixel of the output.

    Window t adds up the pixels ``t stride + before + v dilation`` of the input times the values
    ``start + v kernel_step`` of the kernel, for v < taps.
    """

    taps: int
    stride: int
    before: int
    dilation: int
    start: int
    kernel_step: int


class DepthwisePlan(NamedTuple):
    """How rows of the output follow from rows of the input; it follows from shapes alone.

    `vertical` and `horizontal` are arrays (number of axes, 6) of :class:`Axis`: pixel i of the output belongs to
    axis ``i % len(axes)``. An item is `rows` rows; their windows lie in at most `buffer_rows` rows of the input.
    """

    vertical: Array
    horizontal: Array
    kernel_w: int
    multiplier: int
    lanes: int
    rows: int
    buffer_rows: int

    @classmethod
    def of(cls, axes: tuple[list[Axis], list[Axis]], x: Array, y: Array, kernel_w: int) -> Self:
        """Return the plan for frames x (n, h, w, c) and the output y (n, oh, ow, f)."""
        vertical, horizontal = axes
        taps = sum(axis.taps for axis in vertical) * sum(axis.taps for axis in horizontal)
        row_work = y.shape[2] * y.shape[3] * (taps / (len(vertical) * len(horizontal)) + PIXEL_WORK)
        rows = min(max(round(CHUNK_WORK / row_work), 1), y.shape[1])
        last = max(axis.before + (axis.taps - 1) * axis.dilation for axis in vertical)
        spread = last - min(axis.before for axis in vertical) + 1
        buffer_rows = min(rows * vertical[0].stride + max(spread, 0), x.shape[1])
        arrays = (np.array(axis, np.int64) for axis in axes)
        return cls(*arrays, kernel_w, y.shape[3] // x.shape[3], lanes(x.dtype), rows, buffer_rows)


def forward_axes(window: Window) -> tuple[list[Axis], list[Axis]]:
    """Return the windows along rows and columns, a single axis each."""
    sides = zip(window.kernel, window.strides, window.top_left, window.dilation, strict=True)
    vertical, horizontal = ([Axis(size, stride, -before, step, 0, 1)] for size, stride, before, step in sides)
    return vertical, horizontal


def transposed_axes(window: Window) -> tuple[list[Axis], list[Axis]]:
    """Return the windows along rows and columns of the gradient with respect to the input, one axis for each phase."""
    sides = zip(window.kernel, window.strides, window.top_left, window.dilation, strict=True)
    vertical, horizontal = ([_phase(r, *side) for r in range(side[1])] for side in sides)
    return vertical, horizontal


def _phase(r: int, size: int, stride: int, before: int, dilation: int) -> Axis:
    """Return the axis of pixels r, r + stride, ...: pixel r + stride t has the gradients i with
    ``i stride - before + u dilation`` = its position.
    """
    taps = [u for u in range(size) if (r + before - u * dilation) % stride == 0][::-1]
    if not taps:
        return Axis(0, 1, 0, 1, 0, 0)
    common = gcd(stride, dilation)
    return Axis(len(taps), 1, (r + before - taps[0] * dilation) // stride, dilation // common, taps[0], -stride // common)


def pack_depthwise(weights: Array) -> Array:
    """Return a kernel (kh, kw, 1, f) or a bias (1, 1, 1, f) as (kh, kw, f), at least one vector of channels wide."""
    missing = max(lanes(weights.dtype) - weights.shape[3], 0)
    return np.ascontiguousarray(np.pad(weights[:, :, 0], ((0, 0), (0, 0), (0, missing))))


def conv2d_depthwise(
    x: Array, weights: Array, bias: Array, axes: tuple[list[Axis], list[Axis]], y: Array, epilogue: Epilogue
) -> None:
    """Write the depthwise convolution of frames to y, with all threads.

    :func:`framecnn.kernels.reference.conv2d` is the definition, with as many groups as channels. Error of each value
    at most ``(K + 2) eps conv(|x|, |w|)``, K = kh * kw products.

    Shapes: y (n, oh, ow, f), x (n, h, w, c), f a multiple of c; weights (kh, kw, at least f), bias (at least f,).
    """
    plan = DepthwisePlan.of(axes, x, y, weights.shape[1])
    blocks = -(-y.shape[1] // plan.rows)
    run(depthwise_forward, len(x) * blocks, CHUNK_WORK, y, x, weights.reshape(-1), bias, plan, epilogue)


@kernel
def axis_at(axes, index):
    """Return the Axis in a row of axes (number of axes, 6)."""
    return Axis(axes[index, 0], axes[index, 1], axes[index, 2], axes[index, 3], axes[index, 4], axes[index, 5])


@kernel
def taps_inside(axis, t, length):
    """Return the first tap of window t that lies inside an axis of `length` pixels, and the one after the last."""
    position = t * axis.stride + axis.before
    first = min(max((axis.dilation - 1 - position) // axis.dilation, 0), axis.taps)
    return first, max(min((length - 1 - position) // axis.dilation + 1, axis.taps), first)


@kernel
def form_of(axis):
    """Return the index in FORMS of the form of an axis."""
    if axis.dilation == 1 and (axis.taps == 3 or axis.taps == 5) and (axis.stride == 1 or axis.stride == 2):
        return axis.taps - 3 + axis.stride
    return ANY_TAPS


@kernel
def copy_rows(buffer, x, n, first, last, plan):
    """Copy the rows of frame n of x (batch, h, w, c) that output rows `first` to `last` need; return the first.

    A channel is repeated for each of its filters, in buffer (size,), whose pixels hold at least a vector.
    """
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    phases = len(plan.vertical)
    start, stop = height, 0
    for i in range(first, last):
        axis = axis_at(plan.vertical, i % phases)
        u, end = taps_inside(axis, i // phases, height)
        position = i // phases * axis.stride + axis.before
        if u < end:
            start = min(start, position + u * axis.dilation)
            stop = max(stop, position + (end - 1) * axis.dilation + 1)
    values, base = x.reshape(-1), (n * height + start) * width * channels
    size = max(channels * plan.multiplier, plan.lanes)
    for p in range((stop - start) * width):
        for k in range(channels):
            for r in range(plan.multiplier):
                buffer[p * size + k * plan.multiplier + r] = values[base + p * channels + k]
    return start


@kernel
def depthwise_columns(y, to, x, lines, packed, axis, plan, epilogue):
    """Write every `phases`-th pixel of some rows of y, from y[to[i]] on; x and y are flat.

    lines (rows, 4) holds for each row the start in y, in x, in the weights, and the number of rows of taps;
    `packed` is (weights, bias, zeros), `axis` is the Axis of columns and .
    """
    weights, bias, zeros = packed
    columns, row_step, kernel_row, width, filters = to
    channels, phases = bias.size, len(plan.horizontal)
    negative_slope = y.dtype.type(epilogue.negative_slope)
    form = form_of(axis)
    last = max(filters - plan.lanes, 0)
    for channel in range(0, filters, plan.lanes):
        k = min(channel, last)
        for i in range(len(lines)):
            depthwise_line(
                form, y, lines[i, 0] + k, phases * filters, columns, filters,
                x, lines[i, 1] + k, axis.before, axis.stride, axis.dilation, width, channels, row_step,
                lines[i, 3], axis.taps, weights, lines[i, 2] + axis.start * channels + k, kernel_row,
                axis.kernel_step * channels, bias, k, zeros, 0, epilogue.activation, negative_slope,
            )  # fmt: skip


@kernel
def depthwise_forward(y, x, weights, bias, plan, epilogue, start, stop):
    """y (n, oh, ow, f) from x (n, h, w, c), weights (flat) and bias (at least a vector); items are plan.rows rows."""
    height, width, filters = y.shape[1], y.shape[2], y.shape[3]
    phases, channels = len(plan.vertical), bias.size
    row_size = x.shape[2] * channels
    blocks = (height + plan.rows - 1) // plan.rows
    is_copied = channels != x.shape[3]
    buffer = np.empty(plan.buffer_rows * row_size if is_copied else 0, x.dtype)
    zeros = np.zeros(plan.lanes, x.dtype)
    lines = np.empty((plan.rows, 4), np.int64)
    flat, values = y.reshape(-1), x.reshape(-1)
    for item in range(start, stop):
        n, first = item // blocks, item % blocks * plan.rows
        last = min(first + plan.rows, height)
        base = n * x.shape[1] * row_size
        if is_copied:
            base = -copy_rows(buffer, x, n, first, last, plan) * row_size
            values = buffer
        for down in range(phases):
            vertical = axis_at(plan.vertical, down)
            skipped = (first - down + phases - 1) // phases
            n_lines = (last - down + phases - 1) // phases - skipped
            for r in range(n_lines):
                t = skipped + r
                u, end = taps_inside(vertical, t, x.shape[1])
                lines[r, 1] = base + (t * vertical.stride + vertical.before + u * vertical.dilation) * row_size
                lines[r, 2] = (vertical.start + u * vertical.kernel_step) * plan.kernel_w * channels
                lines[r, 3] = end - u
            for across in range(len(plan.horizontal)):
                axis = axis_at(plan.horizontal, across)
                for r in range(n_lines):
                    lines[r, 0] = ((n * height + (skipped + r) * phases + down) * width + across) * filters
                columns = (width - across + len(plan.horizontal) - 1) // len(plan.horizontal)
                steps = (columns, vertical.dilation * row_size, vertical.kernel_step * plan.kernel_w * channels, x.shape[2], filters)
                depthwise_columns(flat, steps, values, lines[:n_lines], (weights, bias, zeros), axis, plan, epilogue)
