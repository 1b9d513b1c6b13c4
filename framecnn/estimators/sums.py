"""Sums over samples that are read in shards: means, Gram matrices and products with targets.

What a shard adds depends on the shard alone. Shards are added in their order to the sum of a run of 64 shards, and the
sums of the runs in a tree with a fan-in of 64. A run is a task, which another process may do, and only the total comes
back from it. So a sum has the same bits on any number of threads, for any number of processes, and whatever the memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from framecnn.data.product_shards import ProductShards
from framecnn.data.shards import TASK_SHARDS, Shards
from framecnn.kernels.linalg import lower_gram
from framecnn.kernels.threads import ordered_map, single_threaded_blas
from framecnn.typing import Array

__all__ = ["class_means", "gram", "grams_of_sets", "mean_and_deviation", "mean_of", "products", "rows_times", "varies"]

RUN_SHARDS = TASK_SHARDS
BLOCK_SHARDS = 4  # 2,048 samples, whose products are summed in the dtype of the features
COLUMNS = 2048  # features at a time, whose products of two shards are summed in that dtype
Function = Callable[..., Any]
Moments = tuple[int, Array, Array]


def _runs(samples: Shards, by_row: Sequence[Array]) -> Iterator[tuple[range, list[list[Array]]]]:
    """Yield the numbers of the shards of each run, and of each of them the rows of other arrays."""
    for start in range(0, samples.n_shards, RUN_SHARDS):
        numbers = range(start, min(start + RUN_SHARDS, samples.n_shards))
        yield numbers, [[array[samples.rows(number)] for array in by_row] for number in numbers]


def _total(samples: Shards, of_run: Function, shared: Any, by_row: Sequence[Array], merge: Function) -> Any:
    """Return what ``of_run((samples, shared), numbers of shards, rows of other arrays)`` gives for all runs."""
    executor = samples.executor(-(-samples.n_shards // RUN_SHARDS))
    return executor.total(of_run, (samples, shared), _runs(samples, by_row), merge)


def _summed(samples: Shards, function: Function, *by_row: Array) -> Array:
    """Return the sum over shards of ``function(rows of the shard, *the same rows of other arrays)``."""
    return _total(samples, _sum_of_run, function, by_row, _add)


def _sum_of_run(shared: tuple[Shards, Function], numbers: range, arrays: list[list[Array]]) -> Array:
    samples, function = shared

    def of_shard(place: int) -> Array:
        return function(samples.read(numbers[place]), *arrays[place])

    total = None
    with single_threaded_blas():
        for start in range(0, len(numbers), BLOCK_SHARDS):
            for part in ordered_map(of_shard, range(start, min(start + BLOCK_SHARDS, len(numbers)))):
                total = part if total is None else _add(total, part, True)
    assert total is not None
    return total


def _add(total: Any, part: Any, in_place: bool) -> Any:
    """Return the sum of two arrays, or of two lists of arrays."""
    if isinstance(total, list | tuple):
        return [_add(one, other, in_place) for one, other in zip(total, part, strict=True)]
    return np.add(total, part, out=total) if in_place else total + part


def mean_of(samples: Shards, weights: Array | None = None) -> Array:
    """Return the mean (d,) of samples (n, d), float64, with weights (n,) if they are given."""
    if weights is None:
        return _summed(samples, lambda block: block.sum(axis=0, dtype=np.float64)) / len(samples)
    return _summed(samples, lambda block, own: own @ block, weights) / weights.sum()


def class_means(samples: Shards, codes: Array) -> Array:
    """Return the mean (n_classes, d), float64, of the samples (n, d) of each class that occurs; codes (n,)."""
    classes = np.unique(codes)

    def of_shard(block: Array, own: Array) -> Array:
        return np.stack([block[own == code].sum(axis=0, dtype=np.float64) for code in classes])

    return _summed(samples, of_shard, codes) / np.array([[np.count_nonzero(codes == code)] for code in classes])


def mean_and_deviation(samples: Shards) -> tuple[Array, Array]:
    """Return mean and standard deviation (d,) of samples (n, d), float64.

    Means and sums of squared deviations of shards are merged in order (Chan, Golub & LeVeque, "Updating Formulae and a
    Pairwise Algorithm for Computing Sample Variances", 1979).
    """
    count, mean, squares = _total(samples, _moments_of_run, None, (), _merge_moments)
    return mean, np.sqrt(squares / count)


def _moments_of_run(shared: tuple[Shards, None], numbers: range, _: Any) -> Moments:
    """Return number, mean and sum of squared deviations of the samples of a run."""
    samples, _ = shared

    def of_shard(number: int) -> Moments:
        block = samples.read(number)
        own, own_squares = np.zeros((2, samples.shape[1]))
        for start in range(0, samples.shape[1], COLUMNS):
            exact = block[:, start : start + COLUMNS].astype(np.float64)
            means = exact.sum(axis=0) / max(len(exact), 1)
            exact -= means
            own[start : start + COLUMNS], own_squares[start : start + COLUMNS] = means, np.square(exact).sum(axis=0)
        return len(block), own, own_squares

    total: Moments = 0, np.zeros(samples.shape[1]), np.zeros(samples.shape[1])
    for part in ordered_map(of_shard, numbers):
        total = _merge_moments(total, part)
    return total


def _merge_moments(total: Moments, part: Moments, in_place: bool = False) -> Moments:
    (count, mean, squares), (n, own, own_squares) = total, part
    count += n
    change = own - mean
    mean = mean + change * (n / max(count, 1))
    return count, mean, squares + (own_squares + change**2 * (n * (count - n) / max(count, 1)))


def varies(samples: Shards) -> Array:
    """Return which features (d,) of samples (n, d) have several values, bool."""
    first = samples[:1]
    return _summed(samples, lambda block: (block != first).any(axis=0))


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
    shared = targets.shape[1], list(wanted)
    found = _total(samples, _grams_of_run, shared, (targets, sets), _add)
    return [(system, moments) for system, moments in found]


def _grams_of_run(
    shared: tuple[Shards, tuple[int, list[int]]], numbers: range, arrays: list[list[Array]]
) -> list[list[Array]]:
    samples, (k, wanted) = shared
    d = samples.shape[1]
    sums = [[np.zeros((d, d), order="F"), np.zeros((d, k))] for _ in wanted]
    with single_threaded_blas():
        for start in range(0, len(numbers), BLOCK_SHARDS):
            block = np.concatenate([samples.read(number) for number in numbers[start : start + BLOCK_SHARDS]])
            targets, sets = map(np.concatenate, zip(*arrays[start : start + BLOCK_SHARDS], strict=True))
            for number, (system, moments) in zip(wanted, sums, strict=True):
                own = block[sets == number]
                if len(own):
                    lower_gram(own.T, system)
                    moments += own.T @ targets[sets == number]
    return sums


def products(samples: Shards, right: Array) -> Array:
    """Return ``samples.T @ right``, (d, k) float64, of samples (n, d) and an array (n, k)."""
    if isinstance(samples, ProductShards):
        return samples.combined(right)
    return _summed(samples, lambda block, own: block.T @ own, right)


def rows_times(samples: Shards, matrices: Sequence[Array], sets: Array) -> Array:
    """Return each sample times the matrix (d, k) of its set, (n, k) float64; sets (n,) are numbers of matrices."""
    runs = _runs(samples, (sets,))
    executor = samples.executor(-(-samples.n_shards // RUN_SHARDS))
    return np.concatenate(list(executor.map(_run_times, (samples, matrices), runs)))


def _run_times(shared: tuple[Shards, Sequence[Array]], numbers: range, arrays: list[list[Array]]) -> Array:
    samples, matrices = shared

    def of_shard(place: int) -> Array:
        block, (own,) = samples.read(numbers[place]), arrays[place]
        found = np.empty((len(block), matrices[0].shape[1]))
        for code in np.unique(own):
            found[own == code] = block[own == code] @ matrices[code]
        return found

    with single_threaded_blas():
        return np.concatenate(ordered_map(of_shard, range(len(numbers))))
