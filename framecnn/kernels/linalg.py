"""Products and distances whose bits do not depend on the number of threads."""

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import ordered_map, run, single_threaded_blas
from framecnn.typing import Array

__all__ = ["BLOCK_ROWS", "blocked_product", "cholesky", "lower_gram", "mirrored", "squared_distances"]

BLOCK_ROWS = 512
FEW_COLUMNS = 96  # that are factored without recursion
BLOCK_TERMS = 2048  # products summed in the dtype of the matrix


def blocked_product(a: Array, b: Array) -> Array:
    """Return ``a @ b`` for large matrices; fixed blocks of rows run in parallel, each on one BLAS thread.

    Shapes: a (n, k), b (k, m), result (n, m) in the wider of the two dtypes.
    """
    product = np.empty((len(a), b.shape[1]), np.result_type(a, b))

    def rows(start: int) -> None:
        np.matmul(a[start : start + BLOCK_ROWS], b, out=product[start : start + BLOCK_ROWS])

    with single_threaded_blas():
        ordered_map(rows, range(0, len(a), BLOCK_ROWS))
    return product


def lower_gram(a: Array, total: Array | None = None) -> Array:
    """Return the lower triangle of ``a @ a.T``, which is all that a factorisation reads; values above it are undefined.

    Sums over fixed blocks of columns are added up in float64, so that the error does not grow with their number. They
    are added to `total`, which an earlier call returned, if it is given.

    Shapes: a (n, k), result (n, n) float64.
    """
    upper = np.zeros((len(a), len(a))) if total is None else total.T

    def columns(start: int) -> None:
        stop = start + BLOCK_ROWS
        for left in range(0, a.shape[1], BLOCK_TERMS):
            terms = a[:stop, left : left + BLOCK_TERMS]
            upper[:stop, start:stop] += terms @ terms[start:].T

    with single_threaded_blas():
        ordered_map(columns, range(0, len(a), BLOCK_ROWS))
    return upper.T  # in Fortran order, in which LAPACK works in place


def mirrored(lower: Array) -> Array:
    """Return the symmetric matrix (n, n) of which the lower triangle is given, in place."""

    def rows(start: int) -> None:
        own = slice(start, start + BLOCK_ROWS)
        lower[own, start + BLOCK_ROWS :] = lower[start + BLOCK_ROWS :, own].T
        corner = lower[own, own]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T

    ordered_map(rows, range(0, len(lower), BLOCK_ROWS))
    return lower


@single_threaded_blas()
def cholesky(system: Array) -> Array:
    """Return the Cholesky factor of a system (n, n), of which the lower triangle is read, in place of that triangle.

    Of a system (n, k) with n > k, the first k columns of the factor are returned. The left half of the columns is
    factored, its products are subtracted from the right half by all threads, and this is factored (Elmroth &
    Gustavson, "Applying Recursion to Serial and Parallel QR Factorization", 2000). A system in Fortran order takes the
    least time.

    Raises
    ------
    LinAlgError
        If the system is not positive definite.
    """
    width = system.shape[1]
    if width <= FEW_COLUMNS:
        corner, below = system[:width], system[width:]
        corner[:] = np.linalg.cholesky(corner)

        def solve(start: int) -> None:
            own = below[start : start + BLOCK_ROWS]
            own[:] = np.linalg.solve(corner, own.T).T

        ordered_map(solve, range(0, len(below), BLOCK_ROWS))
        return system
    half = width // 2
    cholesky(system[:, :half])
    left, right = system[half:, :half], system[half:, half:]

    def subtract(start: int) -> None:
        stop = start + BLOCK_ROWS
        right[start:stop, :stop] -= (left[: width - half][:stop] @ left[start:stop].T).T

    ordered_map(subtract, range(0, len(left), BLOCK_ROWS))
    cholesky(right)
    return system


def squared_distances(x: Array, centres: Array) -> Array:
    """Return ``sum_j (x[n, j] - centres[k, j])**2``, summed upwards over j.

    A row has the same bits alone and in any batch.

    Shapes: x (n, d), centres (k, d), result (n, k) float64.
    """
    y = np.empty((len(x), len(centres)))
    columns = np.ascontiguousarray(centres.T, np.float64)
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
