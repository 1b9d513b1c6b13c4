"""Matrix products without BLAS; a sample has the same bits alone, in any batch and on any number of threads."""

from typing import NamedTuple

import numpy as np

from framecnn.kernels.buffers import empty
from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.matrix import multiply_rows
from framecnn.kernels.packing import pack_filters
from framecnn.typing import Array

__all__ = ["PackedDense", "dense", "dense_backward"]


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
    y = empty((len(x), units), x.dtype)
    multiply_rows(np.ascontiguousarray(x), weights, bias, y, Epilogue.of(activation, negative_slope))
    return y


def dense_backward(x: Array, weights: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, weights and bias.

    :func:`framecnn.kernels.reference.dense_backward` is the definition. Only x and dy are packed, never the weights.

    Shapes: x (n, d), weights (d, units), dy (n, units), results as x, weights and (units,).
    """
    if not len(x):
        return x, np.zeros_like(weights), np.zeros(weights.shape[1], weights.dtype)
    dx = dense(weights, PackedDense.of(dy.T))
    return np.ascontiguousarray(dx.T), dense(x.T, PackedDense.of(dy)), dy.sum(axis=0)
