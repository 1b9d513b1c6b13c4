"""Direct convolution: padded rows in a buffer, register blocks of pixels and filters over it."""

from dataclasses import dataclass

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, multiply_block, pack_filters
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["RowPlan", "conv2d", "convolve_rows", "load_rows", "pack_conv2d"]

BUFFER_BYTES = 256 * 1024  # rows of a chunk: half of the smallest second-level cache in use
Pair = tuple[int, int]


@dataclass(frozen=True)
class RowPlan:
    """Where the window's pixels lie in a buffer of padded rows; follows from shapes alone.

    Shapes: ``runs`` (groups, n_runs) are offsets of contiguous stretches of ``run_length`` values.
    """

    runs: Array
    run_length: int
    row_width: int
    output_width: int
    rows: int
    buffer_rows: int

    @classmethod
    def of(
        cls,
        frame: Pair,
        channels: int,
        window: Pair,
        output: Pair,
        strides: Pair,
        left: int,
        dilation: Pair,
        groups: int,
        dtype: np.dtype,
    ) -> "RowPlan":
        """Plan for frames (h, w, channels) and a window; `left` is the border at the left in pixels."""
        output_width = -(-output[1] // PIXELS) * PIXELS
        reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
        row_width = max(left + frame[1], (output_width - 1) * strides[1] + reach[1])
        own = channels // groups
        whole_rows = dilation[1] == 1 and groups == 1  # then a row of the window is one contiguous stretch
        columns = [0] if whole_rows else [v * dilation[1] * channels for v in range(window[1])]
        taps = [u * dilation[0] * row_width * channels + column for u in range(window[0]) for column in columns]
        runs = np.array([[tap + group * own for tap in taps] for group in range(groups)], np.int64)
        row_bytes = row_width * channels * dtype.itemsize
        rows = int(np.clip((BUFFER_BYTES // row_bytes - reach[0]) // strides[0] + 1, 1, output[0]))
        run_length = window[1] * channels if whole_rows else own
        return cls(runs, run_length, row_width, output_width, rows, (rows - 1) * strides[0] + reach[0])


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
    n, height, width, channels = x.shape
    window, filters = weights.shape[:2], weights.shape[3]
    plan = RowPlan.of((height, width), channels, window, output, strides, border[1][0], dilation, groups, x.dtype)
    packed = pack_conv2d(weights, groups)
    padded_bias = (
        np.zeros_like(packed[:, :, 0]) if bias is None else pack_conv2d(bias[None, None, None], groups)[:, :, 0]
    )
    y = np.empty((n, *output, filters), x.dtype)
    row_blocks = -(-output[0] // plan.rows)
    work = plan.rows * output[1] * filters * plan.runs.shape[1] * plan.run_length
    run(
        conv2d_forward, n * row_blocks, work,
        y, x, packed, padded_bias, plan.runs, plan.run_length,
        plan.row_width, plan.output_width, plan.rows, plan.buffer_rows, *strides, border[0][0], border[1][0],
    )  # fmt: skip
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
def convolve_rows(rows, buffer, weights, bias, runs, run_length, n_rows, stride_h, stride_w):
    """rows (n_rows, width, groups * blocks * block) from buffer (r, row_width, c), weights (groups, blocks, K, block)."""
    width, filters = rows.shape[1], rows.shape[2]
    row_width, channels = buffer.shape[1], buffer.shape[2]
    groups, blocks, products, block = weights.shape
    for g in range(groups):
        for b in range(blocks):
            part = g * blocks + b
            for i in range(n_rows):
                for j in range(0, width, PIXELS):
                    multiply_block(
                        rows, (i * width + j) * filters + part * block, filters,
                        buffer, (i * stride_h * row_width + j * stride_w) * channels, stride_w * channels,
                        runs[g], run_length, weights, part * products * block, bias, part * block,
                    )  # fmt: skip


@kernel
def conv2d_forward(
    y, x, weights, bias, runs, run_length, row_width, padded_width, n_rows, buffer_rows,
    stride_h, stride_w, top, left, start, stop,
):  # fmt: skip
    """y (n, oh, ow, f) from x (n, h, w, c), weights (groups, blocks, K, block); items are blocks of n_rows rows."""
    height, width, filters = y.shape[1], y.shape[2], y.shape[3]
    groups, blocks, block = bias.shape
    own = filters // groups
    row_blocks = (height + n_rows - 1) // n_rows
    buffer = np.zeros((buffer_rows, row_width, x.shape[3]), x.dtype)
    rows = np.empty((n_rows, padded_width, groups * blocks * block), x.dtype)
    for item in range(start, stop):
        n, first = item // row_blocks, item % row_blocks * n_rows
        present = min(n_rows, height - first)
        load_rows(buffer, x, n, first * stride_h - top, left)
        convolve_rows(rows, buffer, weights, bias, runs, run_length, present, stride_h, stride_w)
        for i in range(present):
            for j in range(width):
                for g in range(groups):
                    for f in range(own):
                        y[n, first + i, j, g * own + f] = rows[i, j, g * blocks * block + f]
