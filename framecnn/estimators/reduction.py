"""Samples in the span of some of them, for systems of bounded size.

A ridge regression needs the products of features with each other, or of samples: systems as large as the smaller of
both numbers. Where there are more features than samples, products of samples are computed once, and everything later
follows from them. Where there are more than 10,240 of both, samples are replaced by their coordinates in the span of
10,240 of them, evenly over the groups, which need no labels (the Nystroem method: Williams & Seeger, "Using the
Nystroem Method to Speed Up Kernel Machines", NIPS 2001; Rudi, Camoriano & Rosasco, "Less is More: Nystroem
Computational Regularization", NIPS 2015). So with up to 10,240 samples, or up to 10,240 features, a solution is exact
up to rounding; with more of both, it is the best one in that span, and no system is larger than 10,240 x 10,240.
"""

from typing import NamedTuple, Self

import numpy as np
from scipy import linalg

from framecnn.data.product_shards import ProductShards
from framecnn.data.shards import Shards
from framecnn.data.stored_shards import ShardStore, StoredShards
from framecnn.estimators.selection import selection_rows
from framecnn.estimators.sums import gram, mean_of, products
from framecnn.kernels.linalg import cholesky, mirrored
from framecnn.kernels.threads import single_threaded_blas
from framecnn.memory import check_room
from framecnn.typing import Array

__all__ = ["LARGEST_SYSTEM", "Reduction", "needed_bytes"]

LARGEST_SYSTEM = 10_240  # samples, or features
BLOCK_SAMPLES = 10_000  # that are held at a time, of several steps
JITTER = 1e-9  # added to products of samples with themselves, in units of their mean: the least ridge penalty is 3e-4


class Reduction(NamedTuple):
    """Samples m of which others are linear combinations, about a mean (d,).

    products (m, m) of these samples if there are no others, else None; factor (m, m) of their products if there are.
    """

    mean: Array
    samples: Shards
    products: Array | None = None
    factor: Array | None = None

    @classmethod
    def fit(cls, X: Shards, groups: Array | None, seed: int) -> Self | None:
        """Fit the reduction to samples (n, d) of groups (n,); None if there are no more features than samples.

        Raises
        ------
        MachineError
            If the memory that was set is too small for a fit to these samples, reduced or not.
        """
        n_samples, n_features = X.shape
        what = f"{n_samples:,} samples of {n_features:,} features"
        check_room("KMeansClassifier", what, needed_bytes(n_samples, n_features))
        if n_features <= min(n_samples, LARGEST_SYSTEM):
            return None
        mean = mean_of(X).astype(X.dtype)
        rows = selection_rows(len(X), groups, LARGEST_SYSTEM, seed)
        samples = X.held(rows).centred(mean)
        system = gram(samples, np.float64)
        if len(rows) == len(X):
            return cls(mean, samples, products=mirrored(system))
        system[np.diag_indices_from(system)] += JITTER * system.trace() / len(rows) or np.finfo(X.dtype).tiny
        return cls(mean, samples, factor=cholesky(system))

    def coordinates(self, X: Shards) -> Shards:
        """Return numbers (n, m) for samples (n, d), in which everything that is linear in samples is linear.

        They are float64 products with each other, or coordinates of the dtype of the samples, whose products are those
        of the samples about the mean.
        """
        if self.products is not None:
            return ProductShards(self.products, X.edges)

        def of_block(block: Array, _: slice) -> Array:
            against = np.empty((len(self.samples), len(block)))
            for rows, some in self.samples.blocks():
                against[rows] = some @ (block - self.mean).T
            found = linalg.solve_triangular(self.factor, against, lower=True, overwrite_b=True, check_finite=False)
            return np.ascontiguousarray(found.T, X.dtype)

        computed = X.map(of_block, len(self.samples))
        store = ShardStore(needed_bytes(len(X), len(self.samples)))
        return StoredShards(store, X.edges, len(self.samples), X.dtype, computed.read)

    def weights(self, solution: Array) -> Array:
        """Return the weights (d, k) of features for weights (m, k) of what :meth:`coordinates` returned."""
        if self.factor is not None:
            with single_threaded_blas():
                solution = linalg.solve_triangular(self.factor, solution, lower=True, trans="T", check_finite=False)
        return products(self.samples, solution)


def needed_bytes(n_samples: int, n_features: int) -> int:
    """Return about how much memory a fit to samples (n, d) that are not in memory needs at most, beside n x classes.

    It is a few systems, blocks of samples, and the samples that the detector of outliers keeps (5,000) and decomposes
    (1,000).
    """
    size = min(n_samples, n_features, LARGEST_SYSTEM)
    is_reduced = n_features > size
    selected = min(n_samples, 2000)
    systems = 4 * 8 * size**2 + 5 * 8 * selected * min(selected, n_features)
    samples = 4 * BLOCK_SAMPLES * n_features + (4 * size * n_features if is_reduced else 0)
    return systems + samples + 100 * n_samples
