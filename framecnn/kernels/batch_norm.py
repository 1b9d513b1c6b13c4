"""Batch normalisation in training: moments of a batch by channel, and the gradients through them.

Sums are taken in float64, within fixed blocks of rows that are added in order.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from framecnn.kernels.buffers import empty
from framecnn.kernels.codegen.rows import scale_row
from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import contiguous, read_only, run
from framecnn.typing import Array

__all__ = ["batch_moments", "batch_norm", "batch_norm_backward", "moving_averages"]

WIDE = 512  # values of a row, where pixels are joined: loops over the few channels of a pixel are too short
BLOCK_ROWS = 64
VALUE_WORK = 4  # multiply-adds that take as long as reading and writing a value


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Return mean and variance of each channel over all other axes, in float64.

    Sums are taken of differences from the first pixel, so a mean far from zero costs no digits.

    Shapes: x (n, ..., c) with at least one pixel; results (c,).
    """
    rows, channels = _joined(x), x.shape[-1]
    moments = empty((channels,), np.float64), empty((channels,), np.float64)
    sums = _sums(rows, moment_sums, rows, channels)
    run(finish_moments, 1, sums.size, moments, sums, rows)
    return moments


def batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float, activation: str = "linear"
) -> Array:
    """Return ``activation(gamma (x - mean) / sqrt(variance + epsilon) + beta)``.

    Shapes: x (n, ..., c), the others (c,), result as x.
    """
    rows, y = _joined(x), empty(x.shape, x.dtype)
    channels = tuple(map(read_only, (gamma, beta, mean, variance)))
    epilogue = Epilogue.of(activation)
    run(norm_forward, len(rows), VALUE_WORK * rows.shape[1], y.reshape(rows.shape), rows, channels, epsilon, epilogue)
    return y


def batch_norm_backward(
    dy: Array, x: Array, gamma: Array, mean: Array, variance: Array, epsilon: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, gamma and beta, in two passes over x and dy.

    :func:`framecnn.kernels.reference.batch_norm_backward` is the definition. If `y` is given, dy counts where y > 0
    only: y is the output of the relu that follows.

    Shapes: dy, x, y and the first result (n, ..., c), all others (c,); mean and variance as :func:`batch_moments`
    returns them.
    """
    rows, channels = _joined(x), len(mean)
    dy, is_masked = contiguous(dy).reshape(rows.shape), y is not None
    mask = dy if y is None else y.reshape(rows.shape)
    sums = _sums(rows, gradient_sums, dy, rows, mask, is_masked, mean)
    totals = empty((2, channels), np.float64)
    gradients = empty((channels,), x.dtype), empty((channels,), x.dtype)
    run(finish_gradients, 1, sums.size, (totals, *gradients), sums, variance, epsilon)
    dx, moments = empty(rows.shape, x.dtype), tuple(map(read_only, (gamma, mean, variance, totals)))
    run(norm_backward, len(rows), VALUE_WORK * rows.shape[1], dx, dy, rows, mask, is_masked, (*moments, epsilon))
    return dx.reshape(x.shape), *gradients


def moving_averages(moving: tuple[Array, Array], batch: tuple[Array, Array], momentum: float) -> tuple[Array, Array]:
    """Return ``momentum * moving + (1 - momentum) * batch``, computed in float64.

    Shapes: all (c,); moving and the results in one dtype, batch in float64.
    """
    moved = empty(moving[0].shape, moving[0].dtype), empty(moving[0].shape, moving[0].dtype)
    run(moving_forward, len(moved[0]), 1, moved, *moving, *batch, momentum)
    return moved


def _joined(x: Array) -> Array:
    """Return x as rows of several pixels each."""
    channels = x.shape[-1]
    most = 1 << max(WIDE // channels, 1).bit_length() - 1
    pixels = math.gcd(x.size // channels, most)
    return contiguous(x).reshape(-1, pixels * channels)


def _sums(rows: Array, function: Callable[..., None], *inputs: Any) -> Array:
    """Return the two sums over each block of rows that a kernel takes, (blocks, 2, width)."""
    sums = empty((-(-len(rows) // BLOCK_ROWS), 2, rows.shape[1]), np.float64)
    run(function, len(sums), VALUE_WORK * BLOCK_ROWS * rows.shape[1], sums, *inputs)
    return sums


@kernel
def moment_sums(sums, x, channels, start, stop):
    """sums (blocks, 2, width) of x - first and its square, of x (rows, width), first its first pixel; items are blocks.

    A row has pixels of `channels` values.
    """
    first = np.empty(x.shape[1])
    for k in range(len(first)):
        first[k] = x[0, k % channels]
    for block in range(start, stop):
        sums[block] = 0
        for i in range(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, x.shape[0])):
            for k in range(x.shape[1]):
                difference = x[i, k] - first[k]
                sums[block, 0, k] += difference
                sums[block, 1, k] += difference * difference


@kernel
def add_sums(total, sums):
    """total (2, c) = the sums (blocks, 2, width) over all blocks and the pixels of a row, in their order."""
    joined = np.zeros(sums.shape[1:])
    for block in range(len(sums)):
        joined += sums[block]
    total[:] = 0
    channels = total.shape[1]
    for first in range(0, joined.shape[1], channels):
        total += joined[:, first : first + channels]


@kernel
def finish_moments(moments, sums, x, start, stop):
    """Moments mean and variance (c,) from the sums of x (rows, width) as of `moment_sums`; there is one item."""
    mean, variance = moments
    total = np.empty((2, len(mean)))
    add_sums(total, sums)
    count = x.size // len(mean)
    for k in range(len(mean)):
        shift = total[0, k] / count
        mean[k] = x[0, k] + shift
        square = total[1, k] / count - shift * shift
        variance[k] = 0 if square < 0 else square


@kernel
def norm_forward(y, x, channels, epsilon, epilogue, start, stop):
    """y (rows, width) = activated gamma (x - mean) / sqrt(variance + epsilon) + beta of x (rows, width).

    Channels are gamma, beta, mean and variance (c,); items are rows.
    """
    gamma, beta, mean, variance = channels
    width, flat, values = x.shape[1], y.reshape(-1), x.reshape(-1)
    factors, offsets = np.empty(width, x.dtype), np.empty(width, x.dtype)
    for k in range(len(gamma)):
        factor = gamma[k] / np.sqrt(variance[k] + epsilon)
        factors[k :: len(gamma)] = factor
        offsets[k :: len(gamma)] = beta[k] - mean[k] * factor
    slope = x.dtype.type(epilogue.negative_slope)
    for i in range(start, stop):
        scale_row(flat, i * width, values, i * width, factors, 0, offsets, 0, width, epilogue.activation, slope)


@kernel
def gradient_sums(sums, dy, x, y, is_masked, mean, start, stop):
    """sums (blocks, 2, width) of dy, 0 where masked, and dy (x - mean), of dy, x, y (rows, width), mean (c,).

    Items are blocks.
    """
    means = np.empty(x.shape[1])
    for k in range(len(means)):
        means[k] = mean[k % len(mean)]
    for block in range(start, stop):
        sums[block] = 0
        for i in range(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, x.shape[0])):
            for k in range(x.shape[1]):
                gradient = dy[i, k]
                gradient = gradient if (y[i, k] > 0) | (not is_masked) else x.dtype.type(0)
                sums[block, 0, k] += gradient
                sums[block, 1, k] += gradient * (x[i, k] - means[k])


@kernel
def finish_gradients(outputs, sums, variance, epsilon, start, stop):
    """Outputs totals (2, c), dgamma and dbeta (c,) from the sums as of `gradient_sums`; there is one item."""
    totals, dgamma, dbeta = outputs
    add_sums(totals, sums)
    for k in range(len(dbeta)):
        dgamma[k] = totals[1, k] / np.sqrt(variance[k] + epsilon)
        dbeta[k] = totals[0, k]


@kernel
def norm_backward(dx, dy, x, y, is_masked, channels, start, stop):
    """dx (rows, width) from dy, 0 where masked, x and y (rows, width); items are rows.

    Channels are gamma, mean and variance (c,), totals (2, c) as of `finish_gradients`, and epsilon.
    """
    gamma, mean, variance, totals, epsilon = channels
    width, n_channels = x.shape[1], len(mean)
    count, factors = x.size // n_channels, np.empty((4, width), x.dtype)
    for k in range(n_channels):
        inverse = 1 / np.sqrt(variance[k] + epsilon)
        slope = gamma[k] * inverse
        factors[0, k::n_channels] = slope
        factors[1, k::n_channels] = -slope * inverse * inverse * totals[1, k] / count
        factors[2, k::n_channels] = mean[k]
        factors[3, k::n_channels] = -slope * totals[0, k] / count
    for i in range(start, stop):
        for k in range(width):
            gradient = dy[i, k]
            gradient = gradient if (y[i, k] > 0) | (not is_masked) else x.dtype.type(0)
            dx[i, k] = factors[0, k] * gradient + (factors[1, k] * (x[i, k] - factors[2, k]) + factors[3, k])


@kernel
def moving_forward(moved, moving_mean, moving_variance, mean, variance, momentum, start, stop):
    """Moved mean and variance (c,) from moving ones and those of a batch, (c,) each; items are channels."""
    moved_mean, moved_variance = moved
    for k in range(start, stop):
        moved_mean[k] = momentum * moving_mean[k] + (1 - momentum) * mean[k]
        moved_variance[k] = momentum * moving_variance[k] + (1 - momentum) * variance[k]
