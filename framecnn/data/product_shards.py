"""Samples that are given by their products with each other, where there are more features than samples."""

from typing import Any

import numpy as np

from framecnn.data.shards import Shards
from framecnn.typing import Array

__all__ = ["ProductShards"]


class ProductShards(Shards):
    """Some of n samples, minus their mean, times factors; each is read as its products with the n samples (n,).

    What is linear in the samples is linear in these products.

    Parameters
    ----------
    products : (n, n) symmetric float64 array
        Of the n samples with each other.
    edges : (n_shards + 1,) int array
        The first row of each shard, and the number of rows.
    rows : (m,) int array, optional
        Which of the n samples, by default all.
    mean : (n,) array or 0
        The products of the mean with the n samples.
    square : float
        The product of the mean with itself.
    factors : (m, 1) array, optional
        One for each of the m samples, by default 1.

    Examples
    --------
    >>> samples = np.array([[1.0, 2, 0, 0], [0, 1, 1, 0], [2, 0, 0, 4]])
    >>> found = ProductShards(samples @ samples.T, np.array([0, 3])).subset(np.array([0, 2]))
    >>> found.centred(found[:].mean(axis=0)).gram()
    array([[ 5.25, -5.25],
           [-5.25,  5.25]])
    """

    def __init__(
        self,
        products: Array,
        edges: Array,
        rows: Array | None = None,
        mean: Any = 0.0,
        square: float = 0.0,
        factors: Array | None = None,
    ):
        super().__init__(edges, len(products), products.dtype)
        self._products, self._mean, self._square = products, np.broadcast_to(mean, len(products)), square
        self._rows = np.arange(len(products)) if rows is None else rows
        self._factors = np.ones((len(self._rows), 1)) if factors is None else factors

    def read(self, number: int) -> Array:
        """Return the rows of a shard."""
        rows = self.rows(number)
        return (self._products[self._rows[rows]] - self._mean) * self._factors[rows]

    def subset(self, rows: Array) -> "ProductShards":
        """Return some rows, numbers in ascending order."""
        edges = np.searchsorted(rows, self.edges)
        return ProductShards(self._products, edges, self._rows[rows], self._mean, self._square, self._factors[rows])

    def held(self, rows: Array) -> "ProductShards":
        """Return some rows, numbers in ascending order; they are in memory."""
        return self.subset(rows)

    def centred(self, mean: Array, weights: Array | None = None) -> "ProductShards":
        """Return the samples, of factors 1, minus their mean (n,), that with weights (m,) if these are given."""
        mean = self._mean + mean
        square = float(np.average(mean[self._rows], weights=weights))
        return ProductShards(self._products, self.edges, self._rows, mean, square, self._factors)

    def scaled(self, factors: Array) -> "ProductShards":
        """Return the samples times factors (m, 1)."""
        return ProductShards(self._products, self.edges, self._rows, self._mean, self._square, self._factors * factors)

    def gram(self) -> Array:
        """Return the products of all pairs of the samples (m, m), in Fortran order, in which LAPACK works in place."""
        found = self._products[np.ix_(self._rows, self._rows)]
        to_mean, rounding = self._mean[self._rows], len(found) * np.finfo(found.dtype).eps * found.trace()
        found -= to_mean[:, None]
        found -= to_mean - self._square
        if found.trace() <= rounding:  # the samples are equal
            found[:] = 0
        found *= self._factors
        found *= self._factors.T
        return found.T

    def combined(self, right: Array) -> Array:
        """Return the coefficients (n, k) of the n samples that give ``samples.T @ right``, for an array (m, k).

        The mean is left out: ``factors.T @ right`` has to be zero, as it is for solutions about a mean.
        """
        found = np.zeros((len(self._products), right.shape[1]))
        found[self._rows] = self._factors * right
        return found
