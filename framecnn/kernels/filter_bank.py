"""A filter bank on contrast-normalised windows: convolution, window variance and thresholds in one pass.

The kernel is centred when it is packed: ``sum (x - mean) w = sum x (w - mean(w))``, so the window's mean is never
needed. With average pooling the map of responses, thousands of channels wide, is never written.
"""

import numpy as np

from framecnn.geometry import adaptive_cells
from framecnn.kernels.conv import RowPlan, convolve_rows, load_rows, pack_conv2d
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["filter_bank", "filter_bank_average"]

Pair = tuple[int, int]
FULL_FRAMES = 8  # from so many frames on, a chunk is a whole frame and no row is computed for two cells


def filter_bank(
    x: Array, weights: Array, bias: Array, strides: Pair, output: Pair, contrast: float, thresholds: tuple[float, ...]
) -> Array:
    """Give every response; :func:`framecnn.kernels.reference.filter_bank` is the definition.

    Shapes: x (n, h, w, c), weights (kh, kw, c, f), bias (f,), result (n, oh, ow, thresholds * f).
    """
    plan, packed, padded_bias = _prepare(x, weights, bias, strides, output)
    y = np.empty((len(x), *output, len(thresholds) * weights.shape[3]), x.dtype)
    work = output[1] * weights.size
    run(
        filter_bank_forward, len(x) * output[0], work,
        y, x, packed, padded_bias, plan.runs, plan.run_length, plan.row_width, plan.output_width,
        weights.shape[0], weights.shape[1], *strides, contrast, np.array(thresholds, x.dtype),
    )  # fmt: skip
    return y


def filter_bank_average(
    x: Array,
    weights: Array,
    bias: Array,
    strides: Pair,
    output: Pair,
    contrast: float,
    thresholds: tuple[float, ...],
    grid: Pair,
) -> Array:
    """Give the responses averaged over an adaptive grid, at a memory cost of one row per thread.

    Shapes: as :func:`filter_bank`, result (n, rows, columns, thresholds * f) for a grid of (rows, columns).
    """
    plan, packed, padded_bias = _prepare(x, weights, bias, strides, output)
    y = np.zeros((len(x), *grid, len(thresholds) * weights.shape[3]), x.dtype)
    work = output[0] * output[1] * weights.size / grid[0]
    run(
        filter_bank_average_forward, len(x) * grid[0], work if len(x) < FULL_FRAMES else work / grid[0],
        y, x, packed, padded_bias, plan.runs, plan.run_length, plan.row_width, plan.output_width,
        weights.shape[0], weights.shape[1], *strides, contrast, np.array(thresholds, x.dtype),
        *adaptive_cells(output[0], grid[0])[:2], *adaptive_cells(output[1], grid[1])[:2],
    )  # fmt: skip
    return y


def _prepare(x: Array, weights: Array, bias: Array, strides: Pair, output: Pair) -> tuple[RowPlan, Array, Array]:
    plan = RowPlan.of(x.shape[1:3], x.shape[3], weights.shape[:2], output, strides, 0, (1, 1), 1, x.dtype)
    exact = weights.astype(np.float64)
    packed = pack_conv2d((exact - exact.mean(axis=(0, 1, 2))).astype(x.dtype), 1)
    padded_bias = np.zeros(packed.shape[1] * packed.shape[3], x.dtype)
    padded_bias[: len(bias)] = bias
    return plan, packed, padded_bias


@kernel
def inverse_deviations(scale, buffer, window_h, window_w, stride_w, contrast):
    """scale (ow,) = 1 / sqrt(variance + contrast) of the windows at the top of buffer (r, row_width, c)."""
    channels = buffer.shape[2]
    reach = (len(scale) - 1) * stride_w + window_w
    sums = np.zeros(reach)
    squares = np.zeros(reach)
    for r in range(window_h):
        for j in range(reach):
            for k in range(channels):
                value = np.float64(buffer[r, j, k])
                sums[j] += value
                squares[j] += value * value
    count = window_h * window_w * channels
    for j in range(len(scale)):
        total = 0.0
        square = 0.0
        for v in range(window_w):
            total += sums[j * stride_w + v]
            square += squares[j * stride_w + v]
        mean = total / count
        scale[j] = 1.0 / np.sqrt(max(square / count - mean * mean, 0.0) + contrast)


@kernel
def respond(
    row, scale, buffer, x, n, i, weights, silent, runs, run_length, window_h, window_w, stride_h, stride_w, contrast
):
    """row (1, padded_width, blocks * block) and scale (ow,) of output row i of frame n, before bias and thresholds."""
    load_rows(buffer, x, n, i * stride_h, 0)
    inverse_deviations(scale, buffer, window_h, window_w, stride_w, contrast)
    convolve_rows(row, buffer, weights, silent, runs, run_length, 1, stride_h, stride_w)


@kernel
def filter_bank_forward(
    y, x, weights, bias, runs, run_length, row_width, padded_width,
    window_h, window_w, stride_h, stride_w, contrast, thresholds, start, stop,
):  # fmt: skip
    """y (n, oh, ow, t * f) from x (n, h, w, c), weights (1, blocks, K, block), bias (blocks * block); items are rows."""
    height, width = y.shape[1], y.shape[2]
    filters = y.shape[3] // len(thresholds)
    buffer = np.zeros((window_h, row_width, x.shape[3]), x.dtype)
    row = np.empty((1, padded_width, len(bias)), x.dtype)
    silent = np.zeros_like(bias)
    scale = np.empty(width, x.dtype)
    zero = x.dtype.type(0)
    for item in range(start, stop):
        n, i = item // height, item % height
        respond(
            row,
            scale,
            buffer,
            x,
            n,
            i,
            weights,
            silent,
            runs,
            run_length,
            window_h,
            window_w,
            stride_h,
            stride_w,
            contrast,
        )
        for j in range(width):
            for t in range(len(thresholds)):
                for f in range(filters):
                    response = row[0, j, f] * scale[j] + (bias[f] - thresholds[t])
                    y[n, i, j, t * filters + f] = zero if response < zero else response


@kernel
def filter_bank_average_forward(
    y, x, weights, bias, runs, run_length, row_width, padded_width,
    window_h, window_w, stride_h, stride_w, contrast, thresholds,
    row_starts, row_stops, column_starts, column_stops, start, stop,
):  # fmt: skip
    """y (n, gh, gw, t * f), zeros on entry, from x (n, h, w, c) as in filter_bank_forward; items are rows of cells."""
    grid_h, grid_w = y.shape[1], y.shape[2]
    filters = y.shape[3] // len(thresholds)
    buffer = np.zeros((window_h, row_width, x.shape[3]), x.dtype)
    row = np.empty((1, padded_width, len(bias)), x.dtype)
    silent = np.zeros_like(bias)
    scale = np.empty(column_stops[grid_w - 1], x.dtype)
    sums = np.empty((grid_w, len(thresholds), filters), x.dtype)
    zero = x.dtype.type(0)
    item = start
    while item < stop:
        n, first = item // grid_h, item % grid_h
        cells = min(stop - item, grid_h - first)
        for i in range(row_starts[first], row_stops[first + cells - 1]):
            respond(
                row,
                scale,
                buffer,
                x,
                n,
                i,
                weights,
                silent,
                runs,
                run_length,
                window_h,
                window_w,
                stride_h,
                stride_w,
                contrast,
            )
            sums[:] = zero
            for q in range(grid_w):
                for j in range(column_starts[q], column_stops[q]):
                    for t in range(len(thresholds)):
                        for f in range(filters):
                            response = row[0, j, f] * scale[j] + (bias[f] - thresholds[t])
                            sums[q, t, f] += zero if response < zero else response
            for p in range(first, first + cells):
                if row_starts[p] <= i < row_stops[p]:
                    for q in range(grid_w):
                        for t in range(len(thresholds)):
                            for f in range(filters):
                                y[n, p, q, t * filters + f] += sums[q, t, f]
        for p in range(first, first + cells):
            for q in range(grid_w):
                size = x.dtype.type((row_stops[p] - row_starts[p]) * (column_stops[q] - column_starts[q]))
                for f in range(y.shape[3]):
                    y[n, p, q, f] /= size
        item += cells
