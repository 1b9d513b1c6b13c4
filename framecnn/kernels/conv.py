"""Direct convolution: padded rows in a buffer, register blocks of pixels and filters over it."""

from typing import NamedTuple

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, multiply_block, pack_filters
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["RowPlan", "conv2d", "convolve_rows", "load_rows", "pack_conv2d"]

BUFFER_BYTES = 256 * 1024  # rows of a chunk: half of the smallest second-level cache in use
Pair = tuple[int, int]


class RowPlan(NamedTuple):
    """How a window meets a buffer of padded rows (buffer_rows, row_width, c); follows from shapes alone.

    Shapes: ``runs`` (groups, n_runs) says where, from the window's first value, contiguous stretches of ``run_length``
    values begin.
    """

    runs: Array
    run_length: int
    window_w: int
    row_width: int
    output_width: int
    rows: int
    buffer_rows: int
    stride_h: int
    stride_w: int
    top: int
    left: int

    @classmethod
    def of(
        cls,
        x: Array,
        window: Pair,
        output: Pair,
        strides: Pair,
        corner: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        rows: int | None = None,
    ) -> "RowPlan":
        """Plan for frames x (n, h, w, c) and a window; `corner` is the border at the top and the left in pixels.

        A chunk is `rows` output rows; None is as many as keep the buffer in the cache.
        """
        width, channels = x.shape[2:]
        output_width = -(-output[1] // PIXELS) * PIXELS
        reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
        row_width = max(corner[1] + width, (output_width - 1) * strides[1] + reach[1])
        own = channels // groups
        whole_rows = dilation[1] == 1 and groups == 1  # then a row of the window is one contiguous stretch
        columns = [0] if whole_rows else [v * dilation[1] * channels for v in range(window[1])]
        taps = [u * dilation[0] * row_width * channels + column for u in range(window[0]) for column in columns]
        runs = np.array([[tap + group * own for tap in taps] for group in range(groups)], np.int64)
        if rows is None:
            fitting = BUFFER_BYTES // (row_width * channels * x.itemsize)
            rows = min(max((fitting - reach[0]) // strides[0] + 1, 1), output[0])
        run_length = window[1] * channels if whole_rows else own
        buffer_rows = (rows - 1) * strides[0] + reach[0]
        return cls(runs, run_length, window[1], row_width, output_width, rows, buffer_rows, *strides, *corner)


def pack_conv2d(weights: Array, groups: int) -> Array:
    """Pack a kernel (kh, kw, c / groups, f) as (groups, blocks, kh * kw * c / groups, filter_block)."""
    parts = np.split(weights.reshape(-1, weights.shape[3]), groups, axis=1)
    return np.stack([pack_filters(np.ascontiguousarray(part)) for part in parts])


def conv2d(
    x: Array,
    weights: Array,
    bias: Array | None,
    strides: Pair,
    border: tuple[Pair, Pair],
    output: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """Convolve frames with all threads; :func:`framecnn.kernels.reference.conv2d` is the definition.

    Error of each value at most ``(K + 2) eps conv(|x|, |w|)``, K = kh * kw * c / groups products.

    Shapes: x (n, h, w, c), weights (kh, kw, c / groups, f), bias (f,), result (n, oh, ow, f).
    """
    filters = weights.shape[3]
    plan = RowPlan.of(x, weights.shape[:2], output, strides, (border[0][0], border[1][0]), dilation, groups)
    bias = np.zeros(filters, x.dtype) if bias is None else bias
    packed, packed_bias = pack_conv2d(weights, groups), pack_conv2d(bias[None, None, None], groups)[:, :, 0]
    y = np.empty((len(x), *output, filters), x.dtype)
    row_blocks = -(-output[0] // plan.rows)
    work = plan.rows * output[1] * filters * plan.runs.shape[1] * plan.run_length
    run(conv2d_forward, len(x) * row_blocks, work, y, x, packed, packed_bias, plan)
    return y


@kernel
def load_rows(buffer, x, n, first_row, left):
    """buffer (rows, width, c) = rows of x (batch, h, w, c) from first_row on, zeros outside; columns begin at left."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    for r in range(buffer.shape[0]):
        row = first_row + r
        if 0 <= row < height:
            for j in range(width):
                for k in range(channels):
                    buffer[r, left + j, k] = x[n, row, j, k]
        else:
            buffer[r] = 0


@kernel
def convolve_rows(rows, buffer, weights, bias, plan, n_rows):
    """rows (n_rows, width, groups * blocks * block) from buffer (r, row_width, c).

    weights (groups, blocks, K, block), bias (groups, blocks, block).
    """
    width, filters = rows.shape[1], rows.shape[2]
    row_width, channels = buffer.shape[1], buffer.shape[2]
    groups, blocks, products, block = weights.shape
    down, across = plan.stride_h * row_width * channels, plan.stride_w * channels
    for g in range(groups):
        for b in range(blocks):
            part = g * blocks + b
            for i in range(n_rows):
                for j in range(0, width, PIXELS):
                    multiply_block(
                        rows, (i * width + j) * filters + part * block, filters,
                        buffer, i * down + j * across, across,
                        plan.runs[g], plan.run_length, weights, part * products * block, bias, part * block,
                    )  # fmt: skip


@kernel
def conv2d_forward(y, x, weights, bias, plan, start, stop):
    """y (n, oh, ow, f) from x (n, h, w, c), weights (groups, blocks, K, block), bias (groups, blocks, block).

    Items are blocks of plan.rows output rows.
    """
    height, width, filters = y.shape[1], y.shape[2], y.shape[3]
    groups, blocks, block = bias.shape
    own = filters // groups
    row_blocks = (height + plan.rows - 1) // plan.rows
    buffer = np.zeros((plan.buffer_rows, plan.row_width, x.shape[3]), x.dtype)
    rows = np.empty((plan.rows, plan.output_width, groups * blocks * block), x.dtype)
    for item in range(start, stop):
        n, first = item // row_blocks, item % row_blocks * plan.rows
        present = min(plan.rows, height - first)
        load_rows(buffer, x, n, first * plan.stride_h - plan.top, plan.left)
        convolve_rows(rows, buffer, weights, bias, plan, present)
        for i in range(present):
            for j in range(width):
                for g in range(groups):
                    for f in range(own):
                        y[n, first + i, j, g * own + f] = rows[i, j, g * blocks * block + f]
