"""Matrix products without BLAS; a sample has the same bits alone, in any batch and on any number of threads."""

from typing import NamedTuple

import numpy as np

from framecnn.kernels.buffers import empty
from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.matrix import multiply_rows
from framecnn.kernels.packing import pack_filters
from framecnn.kernels.threads import contiguous, run
from framecnn.typing import Array

__all__ = ["PackedDense", "dense", "dense_backward"]


SQUARE = 16  # rows that are transposed at a time: a cache line of results


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
    multiply_rows(contiguous(x), weights, bias, y, Epilogue.of(activation, negative_slope))
    return y


def dense_backward(x: Array, weights: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, weights and bias.

    :func:`framecnn.kernels.reference.dense_backward` is the definition. Only x and dy are packed, never the weights.

    Shapes: x (n, d), weights (d, units), dy (n, units), results as x, weights and (units,).
    """
    if not len(x):
        return x, np.zeros_like(weights), np.zeros(weights.shape[1], weights.dtype)
    x, dy = contiguous(x), contiguous(dy)
    dx = transposed(dense(weights, PackedDense.of(transposed(dy))))
    dbias = empty(dy.shape[1:], dy.dtype)
    run(column_sums, dy.shape[1], len(dy), dbias, dy)
    return dx, dense(transposed(x), PackedDense.of(dy)), dbias


def transposed(matrix: Array) -> Array:
    """Return a matrix transposed, contiguous."""
    result = empty(matrix.shape[::-1], matrix.dtype)
    run(transpose_forward, len(matrix), 4 * matrix.shape[1], result, matrix)
    return result


@kernel
def transpose_forward(transposed, matrix, start, stop):
    """transposed (d, n) of matrix (n, d); items are rows of the matrix."""
    for first in range(start, stop, SQUARE):
        last = min(first + SQUARE, stop)
        for k in range(matrix.shape[1]):
            for i in range(first, last):
                transposed[k, i] = matrix[i, k]


@kernel
def column_sums(sums, matrix, start, stop):
    """sums (d,) of matrix (n, d) over its rows; items are columns."""
    sums[start:stop] = 0
    for i in range(len(matrix)):
        for k in range(start, stop):
            sums[k] += matrix[i, k]
