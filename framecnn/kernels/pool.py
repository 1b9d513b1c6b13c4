"""Pooling over windows given as ranges of pixels, so that sliding and adaptive windows share their kernels."""

import math
from collections.abc import Callable

import numpy as np

from framecnn.geometry import Ranges
from framecnn.kernels.codegen.pooling import unpool_window
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["pool2d", "pool2d_backward", "unpool2d"]


def pool2d(x: Array, rows: Ranges, columns: Ranges, mode: str) -> Array:
    """Return pooled frames, computed with all threads; :func:`framecnn.kernels.reference.pool2d` is the definition.

    Shapes: x (n, h, w, c); rows and columns are ``(starts, stops, step)`` as :mod:`framecnn.geometry` returns them;
    result (n, len(starts of rows), len(starts of columns), c). `mode` is ``"max"`` or ``"average"``.
    """
    y = np.empty((len(x), len(rows[0]), len(columns[0]), x.shape[3]), x.dtype)
    work = x.shape[1] * x.shape[2] * x.shape[3] / y.shape[1]
    run(_KERNELS[mode], len(x) * y.shape[1], work, y, x, rows, columns)
    return y


def pool2d_backward(x: Array, rows: Ranges, columns: Ranges, mode: str) -> Callable[[Array], Array]:
    """Return a function of dy that computes the gradient with respect to x; it holds the places of the largest, not x.

    :func:`framecnn.kernels.reference.pool2d_backward` is the definition: of equal values the first is the largest.

    Shapes: x, rows, columns and `mode` as for :func:`pool2d`; dy (n, oh, ow, c), its result as x.
    """
    shape, output = x.shape, (len(x), len(rows[0]), len(columns[0]), x.shape[3])
    work = output[1] * output[2] * output[3] * 4
    where = np.empty((0, 0, 0, 0), np.uint8)
    if mode == "max":
        pixels = math.prod(int(-((starts - stops).min() // step)) for starts, stops, step in (rows, columns))
        where = np.empty(output, np.uint8 if pixels <= 256 else np.int32)
        run(pool2d_max_where, len(x) * output[1], shape[1] * shape[2] * shape[3] / output[1], where, x, rows, columns)

    def backward(dy: Array) -> Array:
        dx = np.zeros(shape, dy.dtype)
        if mode == "max":
            run(pool2d_max_backward, len(dx), work, dx, dy, where, rows, columns)
        else:
            run(pool2d_average_backward, len(dx), work, dx, dy, rows, columns)
        return dx

    return backward


def unpool2d(dy: Array, y: Array, where: Array, slope: float, output: tuple[int, int]) -> Array:
    """Return the gradient with respect to a map that was activated and then pooled, 2 x 2 pixels to their largest.

    Shapes: dy, y and where, the numbers 2 u + v of the largest, (n, oh, ow, c); result (n, h, w, c), h and w those of
    `output`, in pixels. Where y is not positive, the activation multiplied by `slope`.
    """
    x = np.zeros((len(dy), *output, dy.shape[3]), dy.dtype)
    dy, items = np.ascontiguousarray(dy), len(dy) * dy.shape[1]
    run(unpool2d_forward, items, 4 * dy.shape[2] * dy.shape[3], x, dy, y, where, dy.dtype.type(slope), lanes(x.dtype))
    return x


@kernel
def pool2d_max_forward(y, x, rows, columns, start, stop):
    """y (n, oh, ow, c) from x (n, h, w, c); items are output rows. NaN wins over every number."""
    height, width, channels = y.shape[1], y.shape[2], y.shape[3]
    row_starts, row_stops, row_step = rows
    column_starts, column_stops, column_step = columns
    for item in range(start, stop):
        n, i = item // height, item % height
        for j in range(width):
            for k in range(channels):
                y[n, i, j, k] = x[n, row_starts[i], column_starts[j], k]
            for u in range(row_starts[i], row_stops[i], row_step):
                for v in range(column_starts[j], column_stops[j], column_step):
                    for k in range(channels):
                        value, best = x[n, u, v, k], y[n, i, j, k]
                        y[n, i, j, k] = value if (value > best) | (value != value) else best


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
def pool2d_max_where(where, x, rows, columns, start, stop):
    """where (n, oh, ow, c) = the number of the largest value of each window of x (n, h, w, c); items are output rows.

    Pixels of a window are counted row by row from 0.
    """
    height, width, channels = where.shape[1], where.shape[2], where.shape[3]
    row_starts, row_stops, row_step = rows
    column_starts, column_stops, column_step = columns
    largest = np.empty(channels, x.dtype)
    for item in range(start, stop):
        n, i = item // height, item % height
        for j in range(width):
            for k in range(channels):
                largest[k] = x[n, row_starts[i], column_starts[j], k]
                where[n, i, j, k] = 0
            number = 0
            for u in range(row_starts[i], row_stops[i], row_step):
                for v in range(column_starts[j], column_stops[j], column_step):
                    for k in range(channels):
                        value = x[n, u, v, k]
                        wins = (value > largest[k]) | (value != value)
                        largest[k] = value if wins else largest[k]
                        where[n, i, j, k] = number if wins else where[n, i, j, k]
                    number += 1


@kernel
def pool2d_max_backward(dx, dy, where, rows, columns, start, stop):
    """dx (n, h, w, c), zeros on entry, += dy (n, oh, ow, c) at the largest of each window; items are frames."""
    row_starts, _, row_step = rows
    column_starts, column_stops, column_step = columns
    for n in range(start, stop):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                across = (column_stops[j] - column_starts[j] + column_step - 1) // column_step
                for k in range(dy.shape[3]):
                    u, v = where[n, i, j, k] // across, where[n, i, j, k] % across
                    dx[n, row_starts[i] + u * row_step, column_starts[j] + v * column_step, k] += dy[n, i, j, k]


@kernel
def pool2d_average_backward(dx, dy, rows, columns, start, stop):
    """dx (n, h, w, c), zeros on entry, += dy (n, oh, ow, c) shared evenly by each window; items are frames."""
    row_starts, row_stops, row_step = rows
    column_starts, column_stops, column_step = columns
    for n in range(start, stop):
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
def unpool2d_forward(x, dy, y, where, slope, width, start, stop):
    """x (n, h, w, c), zeros on entry, from dy, y, where (n, oh, ow, c); items are rows of dy.

    Vectors have `width` values.
    """
    rows, columns, channels = dy.shape[1], dy.shape[2], dy.shape[3]
    row_step = x.shape[2] * channels
    aligned = channels // width * width
    flat, gradients, pooled, places = x.reshape(-1), dy.reshape(-1), y.reshape(-1), where.reshape(-1)
    for item in range(start, stop):
        for j in range(columns):
            at = (item * columns + j) * channels
            to = ((item // rows * x.shape[1] + 2 * (item % rows)) * x.shape[2] + 2 * j) * channels
            unpool_window(flat, to, row_step, channels, pooled, gradients, places, at, slope, aligned)
            for k in range(aligned, channels):
                place = to + places[at + k] // 2 * row_step + places[at + k] % 2 * channels + k
                gradient = gradients[at + k]
                flat[place] = gradient if pooled[at + k] > 0 else slope * gradient


_KERNELS = {"max": pool2d_max_forward, "average": pool2d_average_forward}
