"""Depthwise convolution: each channel has kernels of its own, so that vectors hold channels.

Taps outside the frame are left out, so no frame is padded. Rows are copied, a few at a time, only if a channel has
several filters or if the channels do not fill a vector.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from framecnn.geometry import Pair, Window
from framecnn.kernels.codegen.depthwise_line import ANY_TAPS, FORMS, convolve_line
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import ITEM_WORK, run
from framecnn.typing import Array

__all__ = [
    "axis_at",
    "conv2d_depthwise",
    "conv2d_depthwise_wrt_input",
    "depthwise_row",
    "form_of",
    "forward_plan",
    "pack_depthwise",
    "taps_inside",
]

PIXEL_WORK = 16  # multiply-adds that take as long as reading and writing a value


class Axis(NamedTuple):
    """Windows along rows or columns.

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
    """Which pixels the output is computed from; it follows from shapes alone.

    `vertical` and `horizontal` are arrays (number of axes, 6), a row for each :class:`Axis`: pixel i of the output is
    window ``i // number`` of axis ``i % number``. Kernels are `kernel_w` wide, a channel has `multiplier` filters, a
    vector `lanes` channels. A chunk is `rows` rows of the output, whose windows lie in at most `buffer_rows` rows of
    the input.
    """

    vertical: Array
    horizontal: Array
    kernel_w: int
    multiplier: int
    lanes: int
    rows: int
    buffer_rows: int


def conv2d_depthwise(x: Array, weights: Array, bias: Array, window: Window, y: Array, epilogue: Epilogue) -> None:
    """Write the depthwise convolution of frames to y, with all threads.

    :func:`framecnn.kernels.reference.conv2d` is the definition, with as many groups as channels. Error of each value
    at most ``(K + 2) eps conv(|x|, |w|)``, K = kh * kw products.

    Shapes: y (n, oh, ow, f), x (n, h, w, c), f a multiple of c, weights and bias as :func:`pack_depthwise` returns
    them.
    """
    plan = forward_plan(window, y.shape[3], y.shape[3] // x.shape[3], x.dtype)
    _convolve(x, weights, bias, plan, y, epilogue)


def conv2d_depthwise_wrt_input(dy: Array, weights: Array, window: Window, dx: Array) -> None:
    """Write the gradient with respect to the input to dx, with all threads; no zeros are inserted for strides.

    :func:`framecnn.kernels.reference.conv2d_backward` is the definition. Error of each value at most ``(K + 2) eps``
    times the sum of absolute products, K = kh * kw * f / c.

    Shapes: dy (n, oh, ow, f), weights as :func:`pack_depthwise` returns them, dx (n, h, w, c).
    """
    filters, channels = dy.shape[3], dx.shape[3]
    by_filter = dx if filters == channels else np.empty((*dx.shape[:3], filters), dx.dtype)
    no_bias = np.zeros(weights.shape[2], dy.dtype)
    _convolve(np.ascontiguousarray(dy), weights, no_bias, _input_plan(window, filters, dy.dtype), by_filter, Epilogue())
    if by_filter is not dx:
        dx[:] = by_filter.reshape(*dx.shape, filters // channels).sum(axis=4)


def pack_depthwise(weights: Array) -> Array:
    """Return a kernel (kh, kw, 1, f) as (kh, kw, f); zeros fill up a vector of channels."""
    missing = max(lanes(weights.dtype) - weights.shape[3], 0)
    return np.ascontiguousarray(np.pad(weights[:, :, 0], ((0, 0), (0, 0), (0, missing))))


@lru_cache
def forward_plan(window: Window, filters: int, multiplier: int, dtype: np.dtype[Any]) -> DepthwisePlan:
    """Return the plan of a convolution: one axis of rows, one of columns."""
    sides = zip(window.kernel, window.strides, window.top_left, window.dilation, strict=True)
    axes = [[Axis(size, stride, -before, dilation, 0, 1)] for size, stride, before, dilation in sides]
    return _plan(axes, window.kernel, window.frame, window.output, filters, multiplier, dtype)


@lru_cache
def _input_plan(window: Window, filters: int, dtype: np.dtype[Any]) -> DepthwisePlan:
    sides = zip(window.kernel, window.strides, window.top_left, window.dilation, strict=True)
    axes = [[_gradients_of(pixel, *side) for pixel in range(side[1])] for side in sides]
    return _plan(axes, window.kernel, window.output, window.frame, filters, 1, dtype)


def _gradients_of(pixel: int, size: int, stride: int, before: int, dilation: int) -> Axis:
    """Return the axis of the pixels `pixel`, `pixel` + stride and so on: the windows that cover each of them."""
    taps = [tap for tap in reversed(range(size)) if (pixel + before - tap * dilation) % stride == 0]
    if not taps:
        return Axis(0, 1, 0, 1, 0, 0)
    first, common = (pixel + before - taps[0] * dilation) // stride, gcd(stride, dilation)
    return Axis(len(taps), 1, first, dilation // common, taps[0], -(stride // common))


def _plan(
    axes: Sequence[Sequence[Axis]], kernel: Pair, frame: Pair, output: Pair, filters: int, multiplier: int, dtype: Any
) -> DepthwisePlan:
    vertical, horizontal = axes
    taps = kernel[0] * kernel[1] / (len(vertical) * len(horizontal))
    rows = min(max(round(ITEM_WORK / (output[1] * filters * (taps + PIXEL_WORK))), 1), output[0])
    spread = max(axis.before + axis.taps * axis.dilation for axis in vertical) - min(axis.before for axis in vertical)
    buffer_rows = min(rows * vertical[0].stride + spread, frame[0])
    down, across = (np.array(axis, np.int64) for axis in axes)
    return DepthwisePlan(down, across, kernel[1], multiplier, lanes(dtype), rows, buffer_rows)


def _convolve(x: Array, weights: Array, bias: Array, plan: DepthwisePlan, y: Array, epilogue: Epilogue) -> None:
    chunks = len(x) * -(-y.shape[1] // plan.rows)
    run(depthwise_forward, chunks, ITEM_WORK, y, x, weights.reshape(-1), bias, plan, epilogue)


@kernel
def axis_at(axes, index):
    """Return the Axis in a row of axes (number, 6)."""
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
    for index in range(len(FORMS)):
        if axis.dilation == 1 and axis.taps == FORMS[index].size and axis.stride == FORMS[index].stride:
            return index
    return ANY_TAPS


@kernel
def copy_rows(buffer, x, n, first, last, plan):
    """Copy the rows of frame n of x (batch, h, w, c) that rows `first` to `last` of the output need to buffer (size,).

    A channel is repeated for each of its filters, and a pixel takes the place of a vector at least. Return the first
    row.
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
def depthwise_row(y, to, x, source, packed, columns, plan, epilogue):
    """Write the row of y that begins at y[to]; y and x are flat.

    `source` is (start, step, n_rows, width): where the first row of taps begins in x, the step to the next, their
    number and the pixels of each; `packed` is (weights, weights_at, row_step, bias, zeros), `columns` (ow, f).
    """
    start, step, n_rows, width = source
    weights, weights_at, row_step, bias, zeros = packed
    length, filters = columns
    channels, phases = bias.size, len(plan.horizontal)
    for phase in range(phases):
        axis = axis_at(plan.horizontal, phase)
        convolve_line(
            form_of(axis), y, to + phase * filters, phases * filters, (length - phase + phases - 1) // phases, filters,
            x, start, axis.before, axis.stride, axis.dilation, width, channels, step, n_rows, axis.taps,
            weights, weights_at + axis.start * channels, row_step, axis.kernel_step * channels, zeros, 0,
            bias, 0, epilogue.activation, y.dtype.type(epilogue.negative_slope),
        )  # fmt: skip


@kernel
def depthwise_forward(y, x, weights, bias, plan, epilogue, start, stop):
    """y (n, oh, ow, f) from x (n, h, w, c), weights (kh * kw * size,), bias (size,); items are plan.rows rows.

    `size` is f, or that of a vector if f is smaller.
    """
    height, width, filters = y.shape[1], y.shape[2], y.shape[3]
    size, phases = bias.size, len(plan.vertical)
    row_size = x.shape[2] * size
    chunks = (height + plan.rows - 1) // plan.rows
    is_copied = size != x.shape[3]
    buffer = np.empty(plan.buffer_rows * row_size if is_copied else 0, x.dtype)
    zeros = np.zeros(plan.lanes, x.dtype)
    flat, values = y.reshape(-1), x.reshape(-1)
    for item in range(start, stop):
        n, first = item // chunks, item % chunks * plan.rows
        last = min(first + plan.rows, height)
        base = n * x.shape[1] * row_size
        if is_copied:
            base = -copy_rows(buffer, x, n, first, last, plan) * row_size
            values = buffer
        for i in range(first, last):
            axis, t = axis_at(plan.vertical, i % phases), i // phases
            u, end = taps_inside(axis, t, x.shape[1])
            row = t * axis.stride + axis.before + u * axis.dilation
            kernel_row = plan.kernel_w * size
            weights_at = (axis.start + u * axis.kernel_step) * kernel_row
            packed = (weights, weights_at, axis.kernel_step * kernel_row, bias, zeros)
            source = (base + row * row_size, axis.dilation * row_size, end - u, x.shape[2])
            to = (n * height + i) * width * filters
            depthwise_row(flat, to, values, source, packed, (width, filters), plan, epilogue)
