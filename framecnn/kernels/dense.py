"""Matrix products without BLAS: the same bits for a sample alone and in any batch, on any number of threads."""

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, multiply_block, multiply_pixel, pack_filters
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["dense"]


def dense(x: Array, weights: Array, bias: Array | None) -> Array:
    """Give ``x weights + bias`` with all threads; the sum of each value runs upwards over the features.

    Error of each value at most ``(d + 2) eps |x| |weights|``.

    Shapes: x (n, d), weights (d, units), bias (units,), result (n, units).
    """
    packed = pack_filters(weights)
    padded_bias = np.zeros_like(packed[:, 0]) if bias is None else pack_filters(bias[None])[:, 0]
    y = np.empty((len(x), packed.shape[0] * packed.shape[2]), x.dtype)
    work = len(x) * packed.shape[1] * packed.shape[2]
    run(dense_forward, len(packed), work, y, np.ascontiguousarray(x), packed, padded_bias, np.zeros(1, np.int64))
    return np.ascontiguousarray(y[:, : weights.shape[1]])


@kernel
def dense_forward(y, x, weights, bias, runs, start, stop):
    """y (n, blocks * block) = x (n, d) weights (blocks, d, block) + bias (blocks, block); items are blocks."""
    samples, features = x.shape
    width, block = y.shape[1], weights.shape[2]
    whole = samples // PIXELS * PIXELS
    for b in range(start, stop):
        for n in range(0, whole, PIXELS):
            multiply_block(
                y, n * width + b * block, width, x, n * features, features,
                runs, features, weights, b * features * block, bias, b * block,
            )  # fmt: skip
        for n in range(whole, samples):
            multiply_pixel(
                y, n * width + b * block, width, x, n * features, features,
                runs, features, weights, b * features * block, bias, b * block,
            )  # fmt: skip
