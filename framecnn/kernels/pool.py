"""Pooling over windows given as ranges of pixels, so that sliding and adaptive windows share their kernels."""

import math
from collections.abc import Callable

import numpy as np

from framecnn.geometry import Ranges
from framecnn.kernels.buffers import empty
from framecnn.kernels.codegen.pooling import maximum_window, unpool_window
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import contiguous, run
from framecnn.typing import Array

__all__ = ["NO_VALUES", "locate_maxima", "pool2d", "pool2d_backward", "unpool2d"]

NO_VALUES = np.empty((0, 0, 0, 0), np.uint8)


def pool2d(x: Array, rows: Ranges, columns: Ranges, mode: str) -> Array:
    """Return pooled frames, computed with all threads; :func:`framecnn.kernels.reference.pool2d` is the definition.

    Shapes: x (n, h, w, c); rows and columns are ``(starts, stops, step)`` as :mod:`framecnn.geometry` returns them;
    result (n, len(starts of rows), len(starts of columns), c). `mode` is ``"max"`` or ``"average"``.
    """
    y = empty((len(x), len(rows[0]), len(columns[0]), x.shape[3]), x.dtype)
    work = x.shape[1] * x.shape[2] * x.shape[3] / y.shape[1]
    run(_KERNELS[mode], len(x) * y.shape[1], work, y, contiguous(x), rows, columns)
    return y


def pool2d_backward(x: Array, rows: Ranges, columns: Ranges, mode: str) -> Callable[[Array], Array]:
    """Return a function of dy that computes the gradient with respect to x.

    It keeps the positions of the maxima, not x. :func:`framecnn.kernels.reference.pool2d_backward` is the definition:
    the first of equal maxima counts.

    Shapes: x, rows, columns and `mode` as for :func:`pool2d`; dy (n, oh, ow, c), its result as x.
    """
    shape, work = x.shape, len(rows[0]) * len(columns[0]) * x.shape[3] * 4
    argmax = NO_VALUES
    if mode == "max":
        argmax = locate_maxima(x, rows, columns)

    def backward(dy: Array) -> Array:
        dx = empty(shape, dy.dtype)
        if mode == "max":
            run(pool2d_max_backward, len(dx), work, dx, dy, argmax, rows, columns)
        else:
            run(pool2d_average_backward, len(dx), work, dx, dy, rows, columns)
        return dx

    return backward


def locate_maxima(x: Array, rows: Ranges, columns: Ranges) -> Array:
    """Return the index of the maximum of each window, pixels counted row by row, as uint8 or else int32.

    Shapes: x, rows and columns as for :func:`pool2d`, result (n, oh, ow, c).
    """
    pixels = math.prod(int(-((starts - stops).min() // step)) for starts, stops, step in (rows, columns))
    output = (len(x), len(rows[0]), len(columns[0]), x.shape[3])
    argmax = empty(output, np.uint8 if pixels <= 256 else np.int32)
    run(pool2d_argmax, len(x) * output[1], math.prod(x.shape[1:]) / output[1], argmax, x, rows, columns)
    return argmax


def unpool2d(dy: Array, y: Array, argmax: Array, negative_slope: float, output: tuple[int, int]) -> Array:
    """Return the gradient with respect to a map that was activated and then max-pooled by 2 x 2.

    Shapes: dy, y and argmax, as :mod:`framecnn.kernels.epilogue` defines it, (n, oh, ow, c); result
    (n, *output, c). `negative_slope` is the activation's slope where y <= 0.
    """
    x = np.zeros((len(dy), *output, dy.shape[3]), dy.dtype)
    dy, items = np.ascontiguousarray(dy), len(dy) * dy.shape[1]
    run(
        unpool2d_forward,
        items,
        4 * dy.shape[2] * dy.shape[3],
        x,
        dy,
        y,
        argmax,
        dy.dtype.type(negative_slope),
        lanes(x.dtype),
    )
    return x


@kernel
def pool2d_max_forward(y, x, rows, columns, start, stop):
    """y (n, oh, ow, c) from x (n, h, w, c); items are output rows. NaN wins over every number."""
    height, width, channels = y.shape[1], y.shape[2], y.shape[3]
    row_starts, row_stops, row_step = rows
    column_starts, column_stops, column_step = columns
    flat, values = y.reshape(-1), x.reshape(-1)
    line = x.shape[2] * channels
    for item in range(start, stop):
        n, i = item // height, item % height
        lines = (row_stops[i] - row_starts[i] + row_step - 1) // row_step
        for j in range(width):
            pixels = (column_stops[j] - column_starts[j] + column_step - 1) // column_step
            first = (n * x.shape[1] + row_starts[i]) * line + column_starts[j] * channels
            maximum_window(
                flat, (item * width + j) * channels, values, first, lines, pixels,
                row_step * line, column_step * channels, channels,
            )  # fmt: skip


@kernel
def pool2d_average_forward(y, x, rows, columns, start, stop):
    """y (n, oh, ow, c) from x (n, h, w, c); items are output rows.

    The mean is over the pixels that exist, line by line.
    """
    height, width, channels = y.shape[1], y.shape[2], y.shape[3]
    row_starts, row_stops, row_step = rows
    column_starts, column_stops, column_step = columns
    line = np.empty(channels, x.dtype)
    for item in range(start, stop):
        n, i = item // height, item % height
        lines = (row_stops[i] - row_starts[i] + row_step - 1) // row_step
        for j in range(width):
            pixels = (column_stops[j] - column_starts[j] + column_step - 1) // column_step
            for k in range(channels):
                y[n, i, j, k] = 0
            for u in range(row_starts[i], row_stops[i], row_step):
                for k in range(channels):
                    line[k] = 0
                for v in range(column_starts[j], column_stops[j], column_step):
                    for k in range(channels):
                        line[k] += x[n, u, v, k]
                for k in range(channels):
                    y[n, i, j, k] += line[k]
            size = x.dtype.type(lines * pixels)
            for k in range(channels):
                y[n, i, j, k] /= size


@kernel
def pool2d_argmax(argmax, x, rows, columns, start, stop):
    """argmax (n, oh, ow, c) = the index of the maximum of each window of x (n, h, w, c); items are output rows.

    Pixels of a window are counted row by row from 0.
    """
    height, width, channels = argmax.shape[1], argmax.shape[2], argmax.shape[3]
    row_starts, row_stops, row_step = rows
    column_starts, column_stops, column_step = columns
    maximum = np.empty(channels, x.dtype)
    for item in range(start, stop):
        n, i = item // height, item % height
        for j in range(width):
            for k in range(channels):
                maximum[k] = x[n, row_starts[i], column_starts[j], k]
                argmax[n, i, j, k] = 0
            index = 0
            for u in range(row_starts[i], row_stops[i], row_step):
                for v in range(column_starts[j], column_stops[j], column_step):
                    for k in range(channels):
                        value = x[n, u, v, k]
                        wins = (value > maximum[k]) | (value != value)
                        maximum[k] = value if wins else maximum[k]
                        argmax[n, i, j, k] = index if wins else argmax[n, i, j, k]
                    index += 1


@kernel
def pool2d_max_backward(dx, dy, argmax, rows, columns, start, stop):
    """dx (n, h, w, c) = the sum of dy (n, oh, ow, c) at the maximum of each window; items are frames."""
    row_starts, _, row_step = rows
    column_starts, column_stops, column_step = columns
    for n in range(start, stop):
        dx[n] = 0
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                across = (column_stops[j] - column_starts[j] + column_step - 1) // column_step
                for k in range(dy.shape[3]):
                    u, v = argmax[n, i, j, k] // across, argmax[n, i, j, k] % across
                    dx[n, row_starts[i] + u * row_step, column_starts[j] + v * column_step, k] += dy[n, i, j, k]


@kernel
def pool2d_average_backward(dx, dy, rows, columns, start, stop):
    """dx (n, h, w, c) = the sum of dy (n, oh, ow, c) shared evenly by each window; items are frames."""
    row_starts, row_stops, row_step = rows
    column_starts, column_stops, column_step = columns
    for n in range(start, stop):
        dx[n] = 0
        for i in range(dy.shape[1]):
            down = (row_stops[i] - row_starts[i] + row_step - 1) // row_step
            for j in range(dy.shape[2]):
                across = (column_stops[j] - column_starts[j] + column_step - 1) // column_step
                size = dx.dtype.type(down * across)
                for u in range(row_starts[i], row_stops[i], row_step):
                    for v in range(column_starts[j], column_stops[j], column_step):
                        for k in range(dy.shape[3]):
                            dx[n, u, v, k] += dy[n, i, j, k] / size


@kernel
def unpool2d_forward(x, dy, y, argmax, negative_slope, width, start, stop):
    """x (n, h, w, c), zeros on entry, from dy, y, argmax (n, oh, ow, c); items are rows of dy.

    Vectors have `width` values.
    """
    rows, columns, channels = dy.shape[1], dy.shape[2], dy.shape[3]
    row_step = x.shape[2] * channels
    aligned = channels // width * width
    flat, gradients, pooled, indices = x.reshape(-1), dy.reshape(-1), y.reshape(-1), argmax.reshape(-1)
    for item in range(start, stop):
        for j in range(columns):
            at = (item * columns + j) * channels
            to = ((item // rows * x.shape[1] + 2 * (item % rows)) * x.shape[2] + 2 * j) * channels
            unpool_window(flat, to, row_step, channels, pooled, gradients, indices, at, negative_slope, aligned)
            for k in range(aligned, channels):
                position = to + indices[at + k] // 2 * row_step + indices[at + k] % 2 * channels + k
                gradient = gradients[at + k]
                flat[position] = gradient if pooled[at + k] > 0 else negative_slope * gradient


_KERNELS = {"max": pool2d_max_forward, "average": pool2d_average_forward}
