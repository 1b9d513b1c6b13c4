"""Products and distances whose bits do not depend on the number of threads."""

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import ordered_map, run, single_threaded_blas
from framecnn.typing import Array

__all__ = ["blocked_product", "single_threaded_blas", "squared_distances"]

BLOCK_ROWS = 512


def blocked_product(a: Array, b: Array) -> Array:
    """Give ``a @ b`` for large matrices in training: fixed blocks of rows, each by one BLAS thread, blocks in parallel.

    Shapes: a (n, k), b (k, m), result (n, m).
    """
    product = np.empty((len(a), b.shape[1]), np.result_type(a, b))

    def rows(start: int) -> None:
        np.matmul(a[start : start + BLOCK_ROWS], b, out=product[start : start + BLOCK_ROWS])

    with single_threaded_blas():
        ordered_map(rows, range(0, len(a), BLOCK_ROWS))
    return product


def squared_distances(x: Array, centres: Array) -> Array:
    """Give ``sum_j (x[n, j] - centres[k, j])**2``; the sum runs upwards over j, the same for a row alone and in a batch.

    Shapes: x (n, d), centres (k, d), result (n, k).
    """
    y = np.empty((len(x), len(centres)), x.dtype)
    columns = np.ascontiguousarray(centres.T, x.dtype)
    run(squared_distances_forward, len(x), centres.size, y, np.ascontiguousarray(x), columns)
    return y


@kernel
def squared_distances_forward(y, x, columns, start, stop):
    """y (n, k) from x (n, d) and columns (d, k); items are rows of x."""
    for n in range(start, stop):
        y[n] = 0
        for j in range(columns.shape[0]):
            for k in range(columns.shape[1]):
                difference = x[n, j] - columns[j, k]
                y[n, k] += difference * difference
