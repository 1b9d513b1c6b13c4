"""Direct convolution: register blocks of pixels and filters, computed on a buffer of padded rows."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from framecnn.geometry import Window
from framecnn.kernels.codegen.conv_block import NARROW, POOLED, convolved_block, narrow_block, pooled_block
from framecnn.kernels.codegen.memory import clear, copy
from framecnn.kernels.codegen.microkernel import PIXELS
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.epilogue import Epilogue, residual_or_none
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import ITEM_WORK, read_only, run
from framecnn.typing import Array

__all__ = ["RowPlan", "conv2d_direct", "load_rows"]

BUFFER_BYTES = 256 * 1024  # of rows per chunk: half of the smallest L2 cache in use


class RowPlan(NamedTuple):
    """The memory layout of windows in a buffer of padded rows (buffer_rows, row_width, c).

    It follows from shapes alone. ``runs[g]``, of ``runs`` (groups, n_runs), lists where, from a window's first value,
    its contiguous stretches of ``run_length`` values begin. A chunk is `rows` output rows of `width` pixels, at least a
    register block. A block of filters of which at most `narrow` exist is computed with half of its vectors.
    """

    runs: Array
    run_length: int
    window_w: int
    row_width: int
    width: int
    rows: int
    buffer_rows: int
    stride_h: int
    stride_w: int
    top: int
    left: int
    narrow: int

    @classmethod
    def of(cls, x: Array, window: Window, groups: int = 1, rows: int = 1, side: int = 1) -> "RowPlan":
        """Return the plan for frames x (n, h, w, c).

        A chunk has about `rows` output rows, fewer if the buffer would not fit the cache, and a multiple of `side`. An
        axis with one window has stride 1, so that the buffer is not larger than needed.
        """
        return _row_plan(x.shape[2:], x.dtype, window, groups, rows, side)


@lru_cache(1024)  # a tenth of the time of a small frame
def _row_plan(line: tuple[int, int], dtype: np.dtype, window: Window, groups: int, rows: int, side: int) -> RowPlan:
    (length, channels), output = line, window.output
    down, across = (step if size > 1 else 1 for step, size in zip(window.strides, output, strict=True))
    output_width = max(output[1], PIXELS)
    (extent_h, extent_w), (top, left), (dilation_h, dilation_w) = window.extent, window.top_left, window.dilation
    row_width = max(left + length, (output_width - 1) * across + extent_w)
    group_channels = channels // groups
    rows_are_runs = dilation_w == 1 and groups == 1
    kernel_h, kernel_w = window.kernel
    columns = [0] if rows_are_runs else [v * dilation_w * channels for v in range(kernel_w)]
    taps = [u * dilation_h * row_width * channels + column for u in range(kernel_h) for column in columns]
    runs = np.array([[tap + group * group_channels for tap in taps] for group in range(groups)], np.int64)
    fitting = BUFFER_BYTES // (row_width * channels * dtype.itemsize)
    rows = max(min(rows, (fitting - extent_h) // down + 1, output[0]) // side * side, side)
    run_length = kernel_w * channels if rows_are_runs else group_channels
    buffer_rows = (rows - 1) * down + extent_h
    narrow = NARROW * lanes(dtype)
    sizes = run_length, kernel_w, row_width, output_width, rows, buffer_rows, down, across, top, left
    return RowPlan(runs, *sizes, narrow)


def conv2d_direct(
    x: Array,
    weights: Array,
    bias: Array,
    window: Window,
    y: Array,
    epilogue: Epilogue,
    argmax: Array | None,
    residual: Array | None = None,
) -> None:
    """Write the convolution of frames to y, with all threads.

    :func:`framecnn.kernels.reference.conv2d` is the definition. Error of each value at most
    ``(K + 2) eps conv(|x|, |w|)``, K = kh * kw * c / groups products.

    Shapes: y (n, oh, ow, filters), oh and ow as in the window's output, halved if the epilogue pools;
    x (n, h, w, c), weights (groups, blocks, K, block), bias (groups, blocks, block), residual as y. `argmax`
    (size of y,), if not None, receives the indices of the maxima, as :mod:`framecnn.kernels.epilogue` defines them.
    """
    side, groups = epilogue.side, len(weights)
    row_work = window.output[1] * weights.size
    plan = RowPlan.of(x, window, groups, round(ITEM_WORK / row_work), side)
    chunks = -(-y.shape[1] // (plan.rows // side))
    inputs = (read_only(x), residual_or_none(residual, x.dtype))
    run(conv2d_forward, len(x) * chunks, plan.rows * row_work, (y, argmax), inputs, weights, bias, plan, epilogue)


@kernel
def load_rows(buffer, x, n, first_row, left):
    """buffer (rows, width, c) = rows of x (batch, h, w, c) from first_row on, x at column left, zeros around it."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    flat, values = buffer.reshape(-1), x.reshape(-1)
    row_size = buffer.shape[1] * channels
    for r in range(buffer.shape[0]):
        row, to = first_row + r, r * row_size
        if 0 <= row < height:
            copy(flat, to + left * channels, values, (n * height + row) * width * channels, width * channels)
        else:
            clear(flat, to, row_size)


@kernel
def convolve_row(outputs, destination, inputs, row, packed, index, plan, epilogue):
    """For one block of filters, write `width` output pixels to the flat arrays y and argmax, from y[first] on.

    destination (first, width, filters, n_valid): pixels of y are `filters` apart, and only the first `n_valid` filters
    of the block exist. Inputs are buffer (rows, row_width, c), where the row begins at `row`, and residual (size of y,)
    or (0,). packed is (weights, bias) of shapes (blocks, K, block) and (blocks, block), and `index` selects the block.
    """
    y, argmax = outputs
    buffer, residual = inputs
    first, width, filters, n_valid = destination
    weights, bias = packed
    blocks, products, block = weights.shape
    runs = plan.runs[index // (blocks // len(plan.runs))]
    across, down = plan.stride_w * buffer.shape[2], plan.stride_h * plan.row_width * buffer.shape[2]
    negative_slope = y.dtype.type(epilogue.negative_slope)
    step = POOLED if epilogue.side == 2 else PIXELS
    for j in range(0, width, step):
        at = min(j, max(width - step, 0))
        to, start = first + at * filters, row * down + at * epilogue.side * across
        if epilogue.side == 2:
            pooled_block(
                y, argmax, residual, to, filters, width - at, n_valid, buffer, start, across, down, runs,
                plan.run_length, weights, index * products * block, bias, index * block,
                epilogue.activation, negative_slope, epilogue.pooling,
            )  # fmt: skip
        elif n_valid <= plan.narrow:
            narrow_block(
                y, argmax, residual, to, filters, width - at, n_valid, buffer, start, across, down, runs,
                plan.run_length, weights, index * products * block, bias, index * block,
                epilogue.activation, negative_slope, epilogue.pooling,
            )  # fmt: skip
        else:
            convolved_block(
                y, argmax, residual, to, filters, width - at, n_valid, buffer, start, across, down, runs,
                plan.run_length, weights, index * products * block, bias, index * block,
                epilogue.activation, negative_slope, epilogue.pooling,
            )  # fmt: skip


@kernel
def conv2d_forward(outputs, inputs, weights, bias, plan, epilogue, start, stop):
    """Outputs y (n, oh, ow, f) and argmax (size of y,) or None, from x (n, h, w, c) and residual (size of y,) or (0,).

    weights (groups, blocks, K, block), bias (groups, blocks, block); items are blocks of plan.rows rows, before
    pooling.
    """
    y, argmax = outputs
    x, residual = inputs
    height, width, filters = y.shape[1], y.shape[2], y.shape[3]
    side = epilogue.side
    groups, blocks, products, block = weights.shape
    rows = plan.rows // side
    row_blocks = (height + rows - 1) // rows
    buffer = np.zeros((plan.buffer_rows, plan.row_width, x.shape[3]), x.dtype)
    flat = (y.reshape(-1), argmax)
    packed = (weights.reshape(-1, products, block), bias.reshape(-1, block))
    group_filters = filters // groups
    for item in range(start, stop):
        n, first = item // row_blocks, item % row_blocks * rows
        load_rows(buffer, x, n, first * side * plan.stride_h - plan.top, plan.left)
        for part in range(groups * blocks):
            g, b = part // blocks, part % blocks
            for i in range(min(rows, height - first)):
                target = (n * height + first + i) * width * filters + g * group_filters + b * block
                destination = (target, width, filters, group_filters - b * block)
                convolve_row(flat, destination, (buffer, residual), i * side, packed, part, plan, epilogue)
