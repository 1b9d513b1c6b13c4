"""Matrix products without BLAS: the same bits for a sample alone and in any batch, on any number of threads."""

import numpy as np

from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, multiply_block, multiply_pixel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["dense"]


def dense(x: Array, packed: Array, packed_bias: Array, units: int, epilogue: Epilogue) -> Array:
    """Give ``activation(x weights + bias)`` with all threads; the sum of each value runs upwards over the features.

    Error of each value at most ``(d + 2) eps |x| |weights|``.

    Shapes: x (n, d), packed (blocks, d, block), packed_bias (blocks, block), result (n, units).
    """
    y = np.empty((len(x), packed_bias.size), x.dtype)
    work = len(x) * packed[0].size
    runs = np.zeros(1, np.int64)
    run(dense_forward, len(packed), work, y, np.ascontiguousarray(x), packed, packed_bias, runs, epilogue)
    return np.ascontiguousarray(y[:, :units])


@kernel
def dense_forward(y, x, weights, bias, runs, epilogue, start, stop):
    """y (n, blocks * block) from x (n, d), weights (blocks, d, block), bias (blocks, block); items are blocks."""
    samples, features = x.shape
    width, block = y.shape[1], weights.shape[2]
    whole = samples // PIXELS * PIXELS
    slope = x.dtype.type(epilogue.slope)
    for b in range(start, stop):
        for n in range(0, whole, PIXELS):
            multiply_block(
                y, n * width + b * block, width, x, n * features, features, runs, features,
                weights, b * features * block, bias, b * block, epilogue.activation, slope,
            )  # fmt: skip
        for n in range(whole, samples):
            multiply_pixel(
                y, n * width + b * block, width, x, n * features, features, runs, features,
                weights, b * features * block, bias, b * block, epilogue.activation, slope,
            )  # fmt: skip
