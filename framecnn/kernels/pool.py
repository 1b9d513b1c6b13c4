"""Pooling over windows given as tables of pixels, so that every kind of window is the same two kernels."""

import numpy as np

from framecnn.geometry import Windows
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["pool2d"]


def pool2d(x: Array, rows: Windows, columns: Windows, mode: str) -> Array:
    """Pool frames with all threads; :func:`framecnn.kernels.reference.pool2d` is the definition.

    Shapes: x (n, h, w, c); rows and columns are ``(starts, stops, step)`` as :mod:`framecnn.geometry` gives them;
    result (n, len(starts of rows), len(starts of columns), c). `mode` is ``"max"`` or ``"average"``.
    """
    y = np.empty((len(x), len(rows[0]), len(columns[0]), x.shape[3]), x.dtype)
    work = x.shape[1] * x.shape[2] * x.shape[3] / y.shape[1]
    run(_KERNELS[mode], len(x) * y.shape[1], work, y, x, rows, columns)
    return y


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


_KERNELS = {"max": pool2d_max_forward, "average": pool2d_average_forward}
