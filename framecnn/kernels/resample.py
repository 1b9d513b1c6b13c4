"""Resampling of frames by a triangle filter that widens when frames shrink, as Pillow and PyTorch (antialias) do."""

import math
from functools import lru_cache

import numpy as np

from framecnn.geometry import Pair
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["Taps", "resample2d", "resample2d_backward", "triangle_taps"]

Taps = tuple[Array, Array, Array]
"""``(starts, stops, weights)``: output ``i`` is the sum over ``u`` of ``weights[i, u] x[starts[i] + u]``."""


def resample2d(x: Array, size: Pair) -> Array:
    """Return frames of another size, computed with all threads; :func:`framecnn.kernels.reference.resample2d` is it.

    Shapes: x (n, h, w, c), result (n, *size, c).
    """
    rows, columns = (triangle_taps(*lengths, x.dtype) for lengths in zip(x.shape[1:3], size, strict=True))
    return _resampled(x, rows, columns)


def resample2d_backward(dy: Array, frame: Pair) -> Array:
    """Return the gradient with respect to frames of size `frame`: the same sums with the taps transposed.

    Shapes: dy (n, oh, ow, c), result (n, *frame, c).
    """
    lengths = zip(frame, dy.shape[1:3], strict=True)
    rows, columns = (_transposed(triangle_taps(length, size, dy.dtype), length) for length, size in lengths)
    return _resampled(np.ascontiguousarray(dy), rows, columns)


@lru_cache(maxsize=64)
def triangle_taps(length: int, size: int, dtype: np.dtype) -> Taps:
    """Return the taps that resample `length` pixels to `size`.

    Centres of pixels are at half integers. The filter is a triangle, two output pixels wide, or two input pixels if the
    frame grows. The weights of an output sum to 1 exactly: they are rounded to multiples of a power of two, and the
    largest one takes up the rest.

    Shapes: starts (size,), stops (size,), weights (size, largest number of pixels).
    """
    step = length / size
    reach = max(step, 1.0)
    centres = (np.arange(size) + 0.5) * step
    starts = np.maximum(np.floor(centres - reach - 0.5).astype(np.int64) + 1, 0)
    stops = np.minimum(np.ceil(centres + reach - 0.5).astype(np.int64), length)
    pixels = starts[:, None] + np.arange((stops - starts).max())
    weights = np.maximum(1 - np.abs(pixels + 0.5 - centres[:, None]) / reach, 0) * (pixels < stops[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    largest = weights.argmax(axis=1)[:, None]
    _, exponents = np.frexp(np.take_along_axis(weights, largest, axis=1))
    units = np.ldexp(1.0, np.finfo(dtype).nmant - exponents)  # one bit less than the dtype has: room for the rest
    rounded = np.rint(weights * units) / units
    rest = np.array([[math.fsum([1.0, *-row])] for row in rounded])  # exact
    np.put_along_axis(rounded, largest, np.take_along_axis(rounded, largest, axis=1) + rest, axis=1)
    return starts, stops, rounded.astype(dtype)


def _transposed(taps: Taps, length: int) -> Taps:
    """Return the taps of the transposed matrix: the outputs to which each of `length` pixels contributes."""
    starts, stops, weights = taps
    first = np.searchsorted(stops, np.arange(length), side="right")
    last = np.searchsorted(starts, np.arange(length), side="right")
    outputs = np.minimum(first[:, None] + np.arange((last - first).max()), len(starts) - 1)
    offsets = np.clip(np.arange(length)[:, None] - starts[outputs], 0, weights.shape[1] - 1)
    return first, last, np.ascontiguousarray(weights[outputs, offsets])


def _resampled(x: Array, rows: Taps, columns: Taps) -> Array:
    y = np.empty((len(x), len(rows[0]), len(columns[0]), x.shape[3]), x.dtype)
    work = rows[2].shape[1] * x.shape[2] * x.shape[3] + columns[2].shape[1] * y.shape[2] * y.shape[3]
    run(resample2d_forward, len(y) * y.shape[1], work, y, x, rows, columns)
    return y


@kernel
def resample2d_forward(y, x, rows, columns, start, stop):
    """y (n, oh, ow, c) from x (n, h, w, c) by taps (starts, stops, weights) of both axes; items are output rows.

    The rows of a window are summed first, into a line of x's width.
    """
    height, width, channels = y.shape[1], y.shape[2], y.shape[3]
    row_starts, row_stops, row_weights = rows
    column_starts, column_stops, column_weights = columns
    size = x.shape[2] * channels
    line, flat = np.empty(size, x.dtype), x.reshape(-1)
    for item in range(start, stop):
        n, i = item // height, item % height
        for t in range(size):
            line[t] = 0
        for u in range(row_starts[i], row_stops[i]):
            weight = row_weights[i, u - row_starts[i]]
            at = (n * x.shape[1] + u) * size
            for t in range(size):
                line[t] += weight * flat[at + t]
        for j in range(width):
            for k in range(channels):
                y[n, i, j, k] = 0
            for v in range(column_starts[j], column_stops[j]):
                weight = column_weights[j, v - column_starts[j]]
                for k in range(channels):
                    y[n, i, j, k] += weight * line[v * channels + k]
