"""A filter bank on contrast-normalised windows: convolution, window variance and thresholds in one pass.

The kernel is centred when it is packed: ``sum (x - mean) w = sum x (w - mean(w))``, so the window's mean is never
needed. With average pooling the map of responses, thousands of channels wide, is never written.
"""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Windows
from framecnn.kernels.conv import RowPlan, load_rows, pack_conv2d
from framecnn.kernels.conv_backward import FlippedKernel, Gradients, conv2d_backward, conv2d_backward_wrt_input
from framecnn.kernels.conv_block import respond_block
from framecnn.kernels.convolution import PackedConv, conv2d
from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, multiply_block
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["PackedBank", "filter_bank", "filter_bank_average", "filter_bank_backward"]

Pair = tuple[int, int]


class PackedBank(NamedTuple):
    """Filters, centred and in the order in which the kernel reads them, and zeros that stand for a bias."""

    weights: Array
    silent: Array
    window: Pair

    @classmethod
    def of(cls, kernel: Array) -> "PackedBank":
        """Centre and pack a kernel (kh, kw, c, f)."""
        exact = kernel.astype(np.float64)
        weights = pack_conv2d((exact - exact.mean(axis=(0, 1, 2))).astype(kernel.dtype))
        return cls(weights, np.zeros_like(weights[:, :, 0]), (kernel.shape[0], kernel.shape[1]))


def filter_bank(
    x: Array,
    packed: PackedBank,
    bias: Array,
    strides: Pair,
    output: Pair,
    contrast: float,
    thresholds: tuple[float, ...],
) -> Array:
    """Return every response; :func:`framecnn.kernels.reference.filter_bank` is the definition.

    Shapes: x (n, h, w, c), bias (f,), result (n, oh, ow, thresholds * f).
    """
    weights, silent, window = packed
    plan = RowPlan.of(x, window, output, strides)
    levels = np.array(thresholds, x.dtype)
    y = np.empty((len(x), *output, len(levels) * len(bias)), x.dtype)
    work = output[1] * weights.size
    run(filter_bank_forward, len(x) * output[0], work, y, x, weights, silent, bias, levels, plan, contrast)
    return y


def filter_bank_average(
    x: Array,
    packed: PackedBank,
    bias: Array,
    strides: Pair,
    output: Pair,
    contrast: float,
    thresholds: tuple[float, ...],
    rows: Windows,
    columns: Windows,
) -> Array:
    """Return the responses averaged over adjoining cells, at a memory cost of one row per thread.

    Shapes: as :func:`filter_bank`; rows and columns are those of the cells, as
    :func:`framecnn.geometry.adaptive_cells` gives them; result (n, cells down, cells across, thresholds * f).
    """
    weights, silent, window = packed
    plan = RowPlan.of(x, window, output, strides)
    cells = len(rows[0])
    y = np.zeros((len(x), cells, len(columns[0]), len(thresholds) * len(bias)), x.dtype)
    shifts = np.zeros((len(thresholds), silent.size), x.dtype)
    shifts[:, : len(bias)] = bias - np.array(thresholds, x.dtype)[:, None]
    work = output[0] * output[1] * weights.size / cells
    run(filter_bank_average_forward, len(x) * cells, work, y, x, weights, silent, shifts, plan, contrast, rows, columns)
    return y


def filter_bank_backward(
    x: Array, centred: Array, dresponse: Array, strides: Pair, contrast: float
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, the centred kernel and the bias.

    A response is ``u s + bias``, u the convolution by the centred kernel and ``s = 1 / sqrt(variance + contrast)``, so
    ``dx = conv'(dresponse s) + a (x - mean)`` summed over windows, where ``a = -s^3 / K sum_f dresponse u``, K values
    in a window.

    Shapes: x (n, h, w, c), centred (kh, kw, c, f), dresponse (n, oh, ow, f), results as x, centred and (f,).
    """
    output, frame, corner = dresponse.shape[1:3], x.shape[1:3], (0, 0)
    steps: tuple[Pair, Pair, int] = (strides, (1, 1), 1)
    filters = PackedConv.of("direct", centred, None, *steps)
    means = PackedConv.of("direct", np.full((*centred.shape[:3], 1), 1 / centred[..., 0].size), None, *steps)
    exact = x.astype(np.float64)
    mean, square = (conv2d(values, means, corner, output) for values in (exact, exact * exact))
    scale = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + contrast)
    response = conv2d(x, filters, corner, output)
    pull = -(scale**3) / centred[..., 0].size * (dresponse * response).sum(axis=-1, keepdims=True)
    window = FlippedKernel.of("direct", np.ones((*centred.shape[:2], 1, 1)), (1, 1), 1, corner)
    weight, shift = (conv2d_backward_wrt_input(values, window, strides, frame) for values in (pull, pull * mean))
    dscaled = (dresponse * scale).astype(x.dtype)
    turned = FlippedKernel.of("direct", centred, (1, 1), 1, corner)
    dx, dcentred, _ = conv2d_backward(x, Gradients(dscaled), filters, turned, corner, output)
    return (dx + weight * exact - shift).astype(x.dtype), dcentred, dresponse.sum(axis=(0, 1, 2))


@kernel
def inverse_deviations(scale, buffer, window_w, stride_w, contrast):
    """scale (ow,) = 1 / sqrt(variance + contrast) of windows as high as buffer (kh, row_width, c)."""
    window_h, channels = buffer.shape[0], buffer.shape[2]
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
def respond(row, buffer, weights, silent, plan):
    """row (width, blocks * block) = kernel . window, from buffer (kh, row_width, c).

    weights (1, blocks, K, block), silent (1, blocks, block) zeros.
    """
    width, filters = row.shape
    across = plan.stride_w * buffer.shape[2]
    _, blocks, products, block = weights.shape
    runs = plan.runs[0]
    for b in range(blocks):
        for j in range(0, width, PIXELS):
            at = min(j, width - PIXELS)
            multiply_block(
                row, at * filters + b * block, filters, buffer, at * across, across, runs, plan.run_length,
                weights, b * products * block, silent, b * block,
            )  # fmt: skip


@kernel
def filter_bank_forward(y, x, weights, silent, bias, thresholds, plan, contrast, start, stop):
    """y (n, oh, ow, t * f) from x (n, h, w, c), weights (1, blocks, K, block), silent (1, blocks, block), bias (f,).

    thresholds (t,); items are output rows.
    """
    height, width, filters = y.shape[1], y.shape[2], len(bias)
    buffer = np.zeros((plan.buffer_rows, plan.row_width, x.shape[3]), x.dtype)
    row = np.empty((plan.width, silent.size), x.dtype)
    scale = np.empty(width, x.dtype)
    zero = x.dtype.type(0)
    for item in range(start, stop):
        n, i = item // height, item % height
        load_rows(buffer, x, n, i * plan.stride_h, plan.left)
        inverse_deviations(scale, buffer, plan.window_w, plan.stride_w, contrast)
        respond(row, buffer, weights, silent, plan)
        for j in range(width):
            for t in range(len(thresholds)):
                for f in range(filters):
                    response = row[j, f] * scale[j] + (bias[f] - thresholds[t])
                    y[n, i, j, t * filters + f] = zero if response < zero else response


@kernel
def add_responses(sums, tile, buffer, scale, shifts, weights, silent, plan, columns):
    """sums (gw, t, blocks * block) += responses of a row of windows, cell by cell; tile (PIXELS, block) is scratch.

    From buffer (kh, row_width, c), scale (ow,), shifts (t, blocks * block), weights (1, blocks, K, block) and silent
    (1, blocks, block) zeros; columns are those of the cells.
    """
    starts, stops, _ = columns
    grid, levels, filters = sums.shape
    _, blocks, products, block = weights.shape
    width, across = len(scale), plan.stride_w * buffer.shape[2]
    zero, runs = sums.dtype.type(0), plan.runs[0]
    for b in range(blocks):
        first = 0  # of the cells that cover column j or a later one: where cells overlap, several cover one column
        for j in range(0, width, PIXELS):
            while stops[first] <= j:
                first += 1
            alone = first + 1 == grid or starts[first + 1] >= j + PIXELS
            at = min(j, plan.width - PIXELS)
            if alone and j + PIXELS <= stops[first]:
                respond_block(
                    sums, (first * levels * blocks + b) * block, filters, buffer, at * across, across, runs,
                    plan.run_length, weights, b * products * block, scale, at, shifts, b * block, levels,
                )  # fmt: skip
                continue
            multiply_block(
                tile, 0, block, buffer, at * across, across, runs, plan.run_length,
                weights, b * products * block, silent, b * block,
            )  # fmt: skip
            for place in range(j, min(at + PIXELS, width)):
                for cell in range(grid):
                    if starts[cell] <= place < stops[cell]:
                        for t in range(levels):
                            for f in range(block):
                                response = tile[place - at, f] * scale[place] + shifts[t, b * block + f]
                                sums[cell, t, b * block + f] += zero if response < zero else response


@kernel
def filter_bank_average_forward(y, x, weights, silent, shifts, plan, contrast, rows, columns, start, stop):
    """y (n, gh, gw, t * f), zeros on entry, from x (n, h, w, c), weights and silent as in filter_bank_forward.

    shifts (t, blocks * block) are bias - threshold; items are rows of cells.
    """
    grid_h, grid_w = y.shape[1], y.shape[2]
    row_starts, row_stops, _ = rows
    column_starts, column_stops, _ = columns
    levels = shifts.shape[0]
    filters = y.shape[3] // levels
    buffer = np.zeros((plan.buffer_rows, plan.row_width, x.shape[3]), x.dtype)
    tile = np.empty((PIXELS, weights.shape[3]), x.dtype)
    scale = np.empty(column_stops[grid_w - 1], x.dtype)
    sums = np.empty((grid_w, *shifts.shape), x.dtype)
    item = start
    while item < stop:
        n, first = item // grid_h, item % grid_h
        cells = min(stop - item, grid_h - first)
        for i in range(row_starts[first], row_stops[first + cells - 1]):
            load_rows(buffer, x, n, i * plan.stride_h, plan.left)
            inverse_deviations(scale, buffer, plan.window_w, plan.stride_w, contrast)
            sums[:] = 0
            add_responses(sums, tile, buffer, scale, shifts, weights, silent, plan, columns)
            for p in range(first, first + cells):
                if row_starts[p] <= i < row_stops[p]:
                    for q in range(grid_w):
                        for t in range(levels):
                            for f in range(filters):
                                y[n, p, q, t * filters + f] += sums[q, t, f]
        for p in range(first, first + cells):
            for q in range(grid_w):
                size = x.dtype.type((row_stops[p] - row_starts[p]) * (column_stops[q] - column_starts[q]))
                for f in range(y.shape[3]):
                    y[n, p, q, f] /= size
        item += cells
