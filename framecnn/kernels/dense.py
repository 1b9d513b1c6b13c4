"""Matrix products without BLAS; a sample has the same bits alone, in any batch and on any number of threads."""

from typing import NamedTuple

import numpy as np

from framecnn.kernels.codegen.microkernel import PIXELS, activated_block, activated_pixel
from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.packing import pack_filters
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["PackedDense", "dense", "dense_backward"]

ROWS = 960  # per item; a multiple of every register block, so that weights are read once per item


class PackedDense(NamedTuple):
    """Weights (blocks, d, block) and a bias (blocks, block) in the order in which the kernel reads them."""

    weights: Array
    bias: Array
    units: int

    @classmethod
    def of(cls, weights: Array, bias: Array | None = None) -> "PackedDense":
        """Return weights (d, units) and a bias (units,) packed."""
        units = weights.shape[1]
        bias = np.zeros(units, weights.dtype) if bias is None else bias
        return cls(pack_filters(weights), pack_filters(bias[None])[:, 0], units)


def dense(x: Array, packed: PackedDense, activation: str = "linear", negative_slope: float = 0.0) -> Array:
    """Return ``activation(x weights + bias)``; the sum of each value runs upwards over the features.

    Error of each value at most ``(d + 2) eps |x| |weights|``.

    Shapes: x (n, d), result (n, units).
    """
    weights, bias, units = packed
    y = np.empty((len(x), bias.size), x.dtype)
    items = -(-len(x) // ROWS) * len(weights)
    work = min(len(x), ROWS) * weights.shape[1] * weights.shape[2]
    runs, epilogue = np.zeros(1, np.int64), Epilogue.of(activation, negative_slope)
    run(dense_forward, items, work, y, np.ascontiguousarray(x), weights, bias, runs, epilogue)
    return np.ascontiguousarray(y[:, :units])


def dense_backward(x: Array, weights: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, weights and bias.

    :func:`framecnn.kernels.reference.dense_backward` is the definition. Only x and dy are packed, never the weights.

    Shapes: x (n, d), weights (d, units), dy (n, units), results as x, weights and (units,).
    """
    if not len(x):
        return x, np.zeros_like(weights), np.zeros(weights.shape[1], weights.dtype)
    dx = dense(weights, PackedDense.of(dy.T))
    return np.ascontiguousarray(dx.T), dense(x.T, PackedDense.of(dy)), dy.sum(axis=0)


@kernel
def dense_forward(y, x, weights, bias, runs, epilogue, start, stop):
    """y (n, blocks * block) from x (n, d), weights (blocks, d, block), bias (blocks, block).

    Items are blocks of filters for ROWS rows; all blocks of the first rows come first.
    """
    blocks, features, block = weights.shape
    width = y.shape[1]
    negative_slope = x.dtype.type(epilogue.negative_slope)
    for item in range(start, stop):
        b, first = item % blocks, item // blocks * ROWS
        last = min(first + ROWS, len(x))
        aligned = first + (last - first) // PIXELS * PIXELS
        for n in range(first, aligned, PIXELS):
            activated_block(
                y, n * width + b * block, width, x, n * features, features, runs, features,
                weights, b * features * block, bias, b * block, epilogue.activation, negative_slope,
            )  # fmt: skip
        for n in range(aligned, last):
            activated_pixel(
                y, n * width + b * block, width, x, n * features, features, runs, features,
                weights, b * features * block, bias, b * block, epilogue.activation, negative_slope,
            )  # fmt: skip
