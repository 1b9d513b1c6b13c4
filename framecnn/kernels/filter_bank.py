"""Filter bank on contrast-normalised windows: convolution, window variance and thresholds in one pass.

The kernel is centred when it is packed: ``sum (x - mean) w = sum x (w - mean(w))``, so the window's mean is never
needed. With average pooling the map of responses, thousands of channels wide, is never written.
"""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Ranges, Window
from framecnn.kernels.codegen.conv_block import respond_block
from framecnn.kernels.codegen.microkernel import PIXELS, multiply_block
from framecnn.kernels.conv2d import PackedConv, conv2d
from framecnn.kernels.conv2d_backward import conv2d_backward, conv2d_backward_wrt_input, pack_flipped
from framecnn.kernels.direct import RowPlan, load_rows
from framecnn.kernels.gradients import Gradients
from framecnn.kernels.jit import kernel
from framecnn.kernels.packing import pack_conv2d
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["PackedBank", "filter_bank", "filter_bank_average", "filter_bank_backward"]


class PackedBank(NamedTuple):
    """The parameters of a filter bank in the order in which the kernels read them.

    Shapes: weights (1, blocks, K, block), centred; zeros (1, blocks, block) stand for their bias; shifts
    (t, blocks * block) are bias - threshold. The contrast is added to the variance.
    """

    weights: Array
    zeros: Array
    shifts: Array
    contrast: float
    filters: int

    @classmethod
    def of(cls, kernel: Array, bias: Array, contrast: float, thresholds: tuple[float, ...]) -> "PackedBank":
        """Return a kernel (kh, kw, c, f), centred, and a bias (f,) packed."""
        exact, filters = kernel.astype(np.float64), kernel.shape[3]
        weights = pack_conv2d((exact - exact.mean(axis=(0, 1, 2))).astype(kernel.dtype))
        zeros = np.zeros_like(weights[:, :, 0])
        shifts = np.zeros((len(thresholds), zeros.size), kernel.dtype)
        shifts[:, :filters] = bias - np.array(thresholds, kernel.dtype)[:, None]
        return cls(weights, zeros, shifts, contrast, filters)


def filter_bank(x: Array, bank: PackedBank, window: Window) -> Array:
    """Return every response; :func:`framecnn.kernels.reference.filter_bank` is the definition.

    Shapes: x (n, h, w, c), result (n, oh, ow, t * f).
    """
    y = np.empty((len(x), *window.output, len(bank.shifts) * bank.filters), x.dtype)
    work = window.output[1] * bank.weights.size
    run(filter_bank_forward, len(x) * window.output[0], work, y, x, bank, RowPlan.of(x, window))
    return y


def filter_bank_average(x: Array, bank: PackedBank, window: Window, cells: tuple[Ranges, Ranges]) -> Array:
    """Return the responses averaged over adjoining cells, with one row of memory per thread.

    Shapes: x (n, h, w, c); `cells` are the cells along rows and columns, as :func:`framecnn.geometry.adaptive_cells`
    returns them; result (n, cells down, cells across, t * f).
    """
    down, across = (len(starts) for starts, _, _ in cells)
    y = np.zeros((len(x), down, across, len(bank.shifts) * bank.filters), x.dtype)
    work = window.output[0] * window.output[1] * bank.weights.size / down
    run(filter_bank_average_forward, len(x) * down, work, y, x, bank, RowPlan.of(x, window), cells)
    return y


def filter_bank_backward(
    x: Array, centred: Array, dresponse: Array, window: Window, contrast: float
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, the centred kernel and the bias.

    A response is ``u s + bias``, u the convolution by the centred kernel and ``s = 1 / sqrt(variance + contrast)``, so
    ``dx = conv'(dresponse s) + a (x - mean)`` summed over windows, where ``a = -s^3 / K sum_f dresponse u``, K values
    in a window.

    Shapes: x (n, h, w, c), centred (kh, kw, c, f), dresponse (n, oh, ow, f), results as x, centred and (f,).
    """
    products = centred[..., 0].size
    filters = PackedConv.of("direct", centred, None, groups=1)
    means = PackedConv.of("direct", np.full((*centred.shape[:3], 1), 1 / products), None, groups=1)
    exact = x.astype(np.float64)
    mean, square = (conv2d(values, means, window) for values in (exact, exact * exact))
    scale = 1 / np.sqrt(np.maximum(square - mean * mean, 0) + contrast)
    response = conv2d(x, filters, window)
    dscale_terms = -(scale**3) / products * (dresponse * response).sum(axis=-1, keepdims=True)
    ones = PackedConv.of("direct", np.ones((*centred.shape[:2], 1, 1)), None, groups=1)
    weight, shift = (
        conv2d_backward_wrt_input(values, ones, window, 1) for values in (dscale_terms, dscale_terms * mean)
    )
    dscaled = (dresponse * scale).astype(x.dtype)
    flipped = pack_flipped("direct", centred, groups=1, strides=window.strides)
    dx, dcentred, _ = conv2d_backward(x, Gradients(dscaled), filters, flipped, window)
    return (dx + weight * exact - shift).astype(x.dtype), dcentred, dresponse.sum(axis=(0, 1, 2))


@kernel
def inverse_deviations(scale, buffer, window_w, stride_w, contrast):
    """scale (ow,) = 1 / sqrt(variance + contrast) of the windows of buffer (kh, row_width, c)."""
    window_h, channels = buffer.shape[0], buffer.shape[2]
    extent = (len(scale) - 1) * stride_w + window_w
    sums = np.zeros(extent)
    squares = np.zeros(extent)
    for r in range(window_h):
        for j in range(extent):
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
def respond(row, buffer, bank, plan):
    """row (width, blocks * block) = kernel . window, from buffer (kh, row_width, c) and a PackedBank."""
    weights, zeros = bank.weights, bank.zeros
    width, filters = row.shape
    across = plan.stride_w * buffer.shape[2]
    _, blocks, products, block = weights.shape
    runs = plan.runs[0]
    for b in range(blocks):
        for j in range(0, width, PIXELS):
            at = min(j, width - PIXELS)
            multiply_block(
                row, at * filters + b * block, filters, buffer, at * across, across, runs, plan.run_length,
                weights, b * products * block, zeros, b * block,
            )  # fmt: skip


@kernel
def filter_bank_forward(y, x, bank, plan, start, stop):
    """y (n, oh, ow, t * f) from x (n, h, w, c) and a PackedBank; items are output rows."""
    height, width = y.shape[1], y.shape[2]
    shifts, filters = bank.shifts, bank.filters
    thresholds = len(shifts)
    buffer = np.zeros((plan.buffer_rows, plan.row_width, x.shape[3]), x.dtype)
    row = np.empty((plan.width, bank.zeros.size), x.dtype)
    scale = np.empty(width, x.dtype)
    zero = x.dtype.type(0)
    for item in range(start, stop):
        n, i = item // height, item % height
        load_rows(buffer, x, n, i * plan.stride_h, plan.left)
        inverse_deviations(scale, buffer, plan.window_w, plan.stride_w, bank.contrast)
        respond(row, buffer, bank, plan)
        for j in range(width):
            for t in range(thresholds):
                for f in range(filters):
                    response = row[j, f] * scale[j] + shifts[t, f]
                    y[n, i, j, t * filters + f] = zero if response < zero else response


@kernel
def add_responses(sums, tile, buffer, scale, bank, plan, columns):
    """sums (gw, t, blocks * block) += responses of a row of windows, cell by cell; tile (PIXELS, block) is scratch.

    From buffer (kh, row_width, c), scale (ow,) and a PackedBank; columns are the columns of the cells.
    """
    starts, stops, _ = columns
    weights, zeros, shifts = bank.weights, bank.zeros, bank.shifts
    grid, levels, filters = sums.shape
    _, blocks, products, block = weights.shape
    width, across = len(scale), plan.stride_w * buffer.shape[2]
    zero, runs = sums.dtype.type(0), plan.runs[0]
    for b in range(blocks):
        first = 0  # first cell that ends after column j; overlapping cells may share columns
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
                weights, b * products * block, zeros, b * block,
            )  # fmt: skip
            for column in range(j, min(at + PIXELS, width)):
                for cell in range(grid):
                    if starts[cell] <= column < stops[cell]:
                        for t in range(levels):
                            for f in range(block):
                                response = tile[column - at, f] * scale[column] + shifts[t, b * block + f]
                                sums[cell, t, b * block + f] += zero if response < zero else response


@kernel
def filter_bank_average_forward(y, x, bank, plan, cells, start, stop):
    """y (n, gh, gw, t * f), zeros on entry, from x (n, h, w, c) and a PackedBank; items are rows of cells."""
    grid_h, grid_w = y.shape[1], y.shape[2]
    (row_starts, row_stops, _), columns = cells
    column_starts, column_stops, _ = columns
    shifts, filters = bank.shifts, bank.filters
    buffer = np.zeros((plan.buffer_rows, plan.row_width, x.shape[3]), x.dtype)
    tile = np.empty((PIXELS, bank.weights.shape[3]), x.dtype)
    scale = np.empty(column_stops[grid_w - 1], x.dtype)
    sums = np.empty((grid_w, *shifts.shape), x.dtype)
    item = start
    while item < stop:
        n, first = item // grid_h, item % grid_h
        count = min(stop - item, grid_h - first)
        for i in range(row_starts[first], row_stops[first + count - 1]):
            load_rows(buffer, x, n, i * plan.stride_h, plan.left)
            inverse_deviations(scale, buffer, plan.window_w, plan.stride_w, bank.contrast)
            sums[:] = 0
            add_responses(sums, tile, buffer, scale, bank, plan, columns)
            for p in range(first, first + count):
                if row_starts[p] <= i < row_stops[p]:
                    for q in range(grid_w):
                        for t in range(len(shifts)):
                            for f in range(filters):
                                y[n, p, q, t * filters + f] += sums[q, t, f]
        for p in range(first, first + count):
            for q in range(grid_w):
                size = x.dtype.type((row_stops[p] - row_starts[p]) * (column_stops[q] - column_starts[q]))
                for f in range(y.shape[3]):
                    y[n, p, q, f] /= size
        item += count
