"""Batch normalisation in training: moments of a batch by channel, and the gradients through them.

Sums are taken in float64, within fixed blocks of rows that are added in order.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from framecnn.kernels.buffers import empty
from framecnn.kernels.jit import kernel
from framecnn.kernels.merge import scale
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["batch_moments", "batch_norm", "batch_norm_backward"]

WIDE = 512  # values of a row, where pixels are joined: loops over the few channels of a pixel are too short
BLOCK_ROWS = 64
VALUE_WORK = 4  # multiply-adds that take as long as reading and writing a value


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Return mean and variance of each channel over all other axes, in float64.

    Sums are taken of differences from the first pixel, so a mean far from zero costs no digits.

    Shapes: x (n, ..., c) with at least one pixel; results (c,).
    """
    rows, pixels = _joined(x)
    first = x.reshape(-1, x.shape[-1])[0].astype(np.float64)
    total, squares = _sums(rows, pixels, moment_sums, rows, np.tile(first, pixels))
    count = rows.size // len(first)
    shift = total / count
    return first + shift, np.maximum(squares / count - shift * shift, 0)


def batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float, activation: str = "linear"
) -> Array:
    """Return ``activation(gamma (x - mean) / sqrt(variance + epsilon) + beta)``.

    Shapes: x (n, ..., c), the others (c,), result as x.
    """
    factors = gamma.astype(np.float64) / np.sqrt(variance + epsilon)
    return scale(x, factors.astype(x.dtype), (beta - mean * factors).astype(x.dtype), activation)


def batch_norm_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, variance: Array, epsilon: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, gamma and beta, in two passes over x and dy.

    :func:`framecnn.kernels.reference.batch_norm_backward` is the definition. If `y` is given, dy counts where y > 0
    only: y is the output of the relu that follows.

    Shapes: dy, x, y and the first result (n, ..., c), all others (c,); mean and variance as :func:`batch_moments`
    returns them.
    """
    rows, pixels = _joined(x)
    dy, is_masked = np.ascontiguousarray(dy).reshape(rows.shape), y is not None
    mask = dy if y is None else y.reshape(rows.shape)
    dbeta, products = _sums(rows, pixels, gradient_sums, dy, rows, mask, is_masked, np.tile(mean, pixels))
    inverse = 1 / np.sqrt(variance + epsilon)
    count = rows.size // len(mean)
    slope = gamma * inverse
    per_channel = slope, -slope * inverse * inverse * products / count, mean, -slope * dbeta / count
    factors = np.tile(np.stack(per_channel).astype(x.dtype), pixels)
    dx = empty(rows.shape, x.dtype)
    run(norm_backward, len(rows), VALUE_WORK * rows.shape[1], dx, dy, rows, mask, is_masked, factors)
    return dx.reshape(x.shape), (products * inverse).astype(x.dtype), dbeta.astype(x.dtype)


def _joined(x: Array) -> tuple[Array, int]:
    """Return x as rows of several pixels each, and the number of pixels in a row."""
    channels = x.shape[-1]
    most = 1 << max(WIDE // channels, 1).bit_length() - 1
    pixels = math.gcd(x.size // channels, most)
    return np.ascontiguousarray(x).reshape(-1, pixels * channels), pixels


def _sums(rows: Array, pixels: int, function: Callable[..., None], *inputs: Any) -> Any:
    """Return the two sums (c,) that a kernel takes, over all pixels."""
    sums = np.zeros((-(-len(rows) // BLOCK_ROWS), 2, rows.shape[1]))
    run(function, len(sums), VALUE_WORK * BLOCK_ROWS * rows.shape[1], sums, *inputs)
    return sums.sum(axis=0).reshape(2, pixels, -1).sum(axis=1)


@kernel
def moment_sums(sums, x, first, start, stop):
    """sums (blocks, 2, width) += x - first and its square, of x (rows, width), first (width,); items are blocks."""
    for block in range(start, stop):
        for i in range(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, x.shape[0])):
            for k in range(x.shape[1]):
                difference = x[i, k] - first[k]
                sums[block, 0, k] += difference
                sums[block, 1, k] += difference * difference


@kernel
def gradient_sums(sums, dy, x, y, is_masked, mean, start, stop):
    """sums (blocks, 2, width) += dy, 0 where masked, and dy (x - mean), of dy, x, y (rows, width); items are blocks."""
    for block in range(start, stop):
        for i in range(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, x.shape[0])):
            for k in range(x.shape[1]):
                gradient = dy[i, k]
                gradient = gradient if (y[i, k] > 0) | (not is_masked) else x.dtype.type(0)
                sums[block, 0, k] += gradient
                sums[block, 1, k] += gradient * (x[i, k] - mean[k])


@kernel
def norm_backward(dx, dy, x, y, is_masked, factors, start, stop):
    """dx = factors[0] dy + factors[1] (x - factors[2]) + factors[3], dy 0 where masked, all (rows, width), factors
    (4, width); items are rows."""
    for i in range(start, stop):
        for k in range(x.shape[1]):
            gradient = dy[i, k]
            gradient = gradient if (y[i, k] > 0) | (not is_masked) else x.dtype.type(0)
            dx[i, k] = factors[0, k] * gradient + (factors[1, k] * (x[i, k] - factors[2, k]) + factors[3, k])
