"""Sums over samples that are read in shards: means, Gram matrices and products with targets.

What a shard adds depends on the shard alone. Shards are added in their order to the sum of a run of 64 shards, and the
sums of the runs in their order: a tree of depth two, which several processes can share, a run each. So a sum has the
same bits on any number of threads, for any number of processes, and whatever the memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from framecnn.data.product_shards import ProductShards
from framecnn.data.shards import Shards
from framecnn.kernels.linalg import lower_gram
from framecnn.kernels.threads import ordered_map, single_threaded_blas
from framecnn.typing import Array

__all__ = ["class_means", "gram", "grams_of_sets", "mean_and_deviation", "mean_of", "products", "rows_times"]

RUN_SHARDS = 64
BLOCK_SHARDS = 4  # 2,048 samples, whose products are summed in the dtype of the features
COLUMNS = 2048  # features at a time, whose products of two shards are summed in that dtype


def _summed(samples: Shards, function: Callable[[int], Array]) -> Array:
    """Return the sum over shards of ``function(number of the shard)``."""
    total = None
    for first in range(0, samples.n_shards, RUN_SHARDS):
        last, of_run = min(first + RUN_SHARDS, samples.n_shards), None
        for start in range(first, last, BLOCK_SHARDS):
            for part in ordered_map(function, range(start, min(start + BLOCK_SHARDS, last))):
                of_run = part if of_run is None else np.add(of_run, part, out=of_run)
        total = of_run if total is None else total + of_run
    assert total is not None
    return total


def mean_of(samples: Shards, weights: Array | None = None) -> Array:
    """Return the mean (d,) of samples (n, d), float64, with weights (n,) if they are given."""

    def of_shard(number: int) -> Array:
        block = samples.read(number)
        return block.sum(axis=0, dtype=np.float64) if weights is None else weights[samples.rows(number)] @ block

    with single_threaded_blas():
        return _summed(samples, of_shard) / (len(samples) if weights is None else weights.sum())


def class_means(samples: Shards, codes: Array) -> Array:
    """Return the mean (n_classes, d), float64, of the samples (n, d) of each class that occurs; codes (n,)."""
    classes = np.unique(codes)

    def of_shard(number: int) -> Array:
        block, own = samples.read(number), codes[samples.rows(number)]
        return np.stack([block[own == code].sum(axis=0, dtype=np.float64) for code in classes])

    return _summed(samples, of_shard) / np.array([[np.count_nonzero(codes == code)] for code in classes])


def mean_and_deviation(samples: Shards) -> tuple[Array, Array]:
    """Return mean and standard deviation (d,) of samples (n, d), float64.

    Means and sums of squared deviations of shards are merged in order (Chan, Golub & LeVeque, "Updating Formulae and a
    Pairwise Algorithm for Computing Sample Variances", 1979).
    """
    count, mean, squares = 0, np.zeros(samples.shape[1]), np.zeros(samples.shape[1])

    def of_shard(number: int) -> tuple[int, Array, Array]:
        block = samples.read(number)
        own, own_squares = np.zeros((2, samples.shape[1]))
        for start in range(0, samples.shape[1], COLUMNS):
            exact = block[:, start : start + COLUMNS].astype(np.float64)
            means = exact.sum(axis=0) / max(len(exact), 1)
            exact -= means
            own[start : start + COLUMNS], own_squares[start : start + COLUMNS] = means, np.square(exact).sum(axis=0)
        return len(block), own, own_squares

    for first in range(0, samples.n_shards, RUN_SHARDS):
        numbers = range(first, min(first + RUN_SHARDS, samples.n_shards))
        for n, own, own_squares in ordered_map(of_shard, numbers):
            count += n
            change = own - mean
            mean = mean + change * (n / max(count, 1))
            squares += own_squares + change**2 * (n * (count - n) / max(count, 1))
    return mean, np.sqrt(squares / count)


def gram(samples: Shards, dtype: Any = None) -> Array:
    """Return the lower triangle of the products of all pairs of samples (n, d), (n, n) float64, by pairs of shards.

    Products of 2,048 features are summed in `dtype`, by default that of the samples.
    """
    if isinstance(samples, ProductShards):
        return samples.gram()
    dtype = samples.dtype if dtype is None else dtype
    found = np.zeros((len(samples), len(samples)), order="F")

    def of_pair(pair: tuple[int, int]) -> None:
        first, second = pair
        left = samples.read(first)
        right = left if first == second else samples.read(second)
        tile = found[samples.rows(second), samples.rows(first)]
        for start in range(0, samples.shape[1], COLUMNS):
            columns = slice(start, start + COLUMNS)
            tile += right[:, columns].astype(dtype, copy=False) @ left[:, columns].T.astype(dtype, copy=False)

    filled = np.flatnonzero(np.diff(samples.edges)).tolist()
    with single_threaded_blas():
        ordered_map(of_pair, [(first, second) for first in filled for second in filled if first <= second])
    return found


def grams_of_sets(samples: Shards, targets: Array, sets: Array, wanted: Sequence[int]) -> list[tuple[Array, Array]]:
    """Return ``samples.T @ samples`` (d, d), its lower triangle, and ``samples.T @ targets`` for some sets of samples.

    Shapes: samples (n, d), targets (n, k), sets (n,) the set of each sample, wanted the numbers of the sets.
    """
    d, k = samples.shape[1], targets.shape[1]
    totals = [(np.zeros((d, d), order="F"), np.zeros((d, k))) for _ in wanted]
    sums = totals
    with single_threaded_blas():
        for first in range(0, samples.n_shards, RUN_SHARDS):
            last = min(first + RUN_SHARDS, samples.n_shards)
            if first:
                sums = [(np.zeros((d, d), order="F"), np.zeros((d, k))) for _ in wanted]
            for start in range(first, last, BLOCK_SHARDS):
                numbers = range(start, min(start + BLOCK_SHARDS, last))
                block = np.concatenate([samples.read(number) for number in numbers])
                rows = slice(int(samples.edges[numbers[0]]), int(samples.edges[numbers[-1] + 1]))
                for number, (system, moments) in zip(wanted, sums, strict=True):
                    own = block[sets[rows] == number]
                    if len(own):
                        lower_gram(own.T, system)
                        moments += own.T @ targets[rows][sets[rows] == number]
            if first:
                for (system, moments), (own_system, own_moments) in zip(totals, sums, strict=True):
                    system += own_system
                    moments += own_moments
    return totals


def products(samples: Shards, right: Array) -> Array:
    """Return ``samples.T @ right``, (d, k) float64, of samples (n, d) and an array (n, k)."""
    if isinstance(samples, ProductShards):
        return samples.combined(right)
    with single_threaded_blas():
        return _summed(samples, lambda number: samples.read(number).T @ right[samples.rows(number)])


def rows_times(samples: Shards, matrices: Sequence[Array], sets: Array) -> Array:
    """Return each sample times the matrix (d, k) of its set, (n, k) float64; sets (n,) are numbers of matrices."""
    found = np.empty((len(samples), matrices[0].shape[1]))

    def of_shard(number: int) -> None:
        block, own = samples.read(number), sets[samples.rows(number)]
        for code in np.unique(own):
            found[samples.rows(number)][own == code] = block[own == code] @ matrices[code]

    with single_threaded_blas():
        ordered_map(of_shard, range(samples.n_shards))
    return found
