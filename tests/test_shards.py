"""Samples that are read in shards, and sums over them."""

import numpy as np
import pytest

from framecnn import KMeansClassifier, num_threads
from framecnn.data.shards import SHARD_ROWS, ArrayShards, JoinedShards, Shards, StackedShards, as_shards
from framecnn.estimators import sums
from framecnn.estimators.ridge import folds_by_group, ridge

SIZES = [1, 2, SHARD_ROWS - 1, SHARD_ROWS, SHARD_ROWS + 1, 2 * SHARD_ROWS, 1300]


class Lazy(Shards):
    """Shards that are computed when they are read, and counted."""

    def __init__(self, array):
        regular = ArrayShards(array)
        super().__init__(regular.edges, array.shape[1], array.dtype)
        self._array, self.n_read = array, 0

    def read(self, number):
        self.n_read += 1
        return self._array[self.rows(number)].copy()


def numbers(n, d=3, dtype=np.float32):
    return np.random.default_rng(n).integers(-9, 10, (n, d)).astype(dtype)


@pytest.mark.parametrize("kind", [ArrayShards, Lazy])
@pytest.mark.parametrize("n", SIZES)
def test_shards_are_indexed_as_the_array_that_they_hold(kind, n):
    array = numbers(n)
    shards = kind(array)
    assert (shards.shape, shards.dtype, shards.ndim, len(shards)) == (array.shape, array.dtype, 2, n)
    assert [rows.stop - rows.start for rows, _ in shards.blocks()][:-1] == [SHARD_ROWS] * (shards.n_shards - 1)
    np.testing.assert_array_equal(np.concatenate([block for _, block in shards.blocks()]), array)
    np.testing.assert_array_equal(np.asarray(shards), array)
    rows = np.random.default_rng(0).integers(0, n, 40)
    for key in (rows, slice(None), slice(n // 2, n), rows % 2 == 0 if n == 40 else np.arange(n) % 3 == 0, -1, 0):
        np.testing.assert_array_equal(shards[key], array[key])


@pytest.mark.parametrize("kind", [ArrayShards, Lazy])
@pytest.mark.parametrize("n", SIZES)
def test_a_subset_has_the_rows_in_the_shards_in_which_they_are(kind, n):
    array = numbers(n)
    rows = np.flatnonzero(np.random.default_rng(1).random(n) < 0.3)
    part = kind(array).subset(rows)
    assert part.n_shards == kind(array).n_shards
    np.testing.assert_array_equal(np.asarray(part), array[rows])
    np.testing.assert_array_equal(np.asarray(part.subset(np.arange(len(rows))[::2])), array[rows[::2]])
    np.testing.assert_array_equal(np.asarray(kind(array).held(rows)), array[rows])


def test_shards_without_a_wanted_row_are_not_read():
    shards = Lazy(numbers(5 * SHARD_ROWS))
    assert len(shards.subset(np.arange(SHARD_ROWS, 2 * SHARD_ROWS))[:]) == SHARD_ROWS
    assert shards.n_read == 1


def test_functions_of_samples_and_samples_of_several_parts():
    first, second = numbers(700), numbers(900)
    doubled = as_shards(first).map(lambda block, rows: 2 * block + rows.start)
    np.testing.assert_array_equal(doubled[:], 2 * first + np.repeat([0, SHARD_ROWS], [SHARD_ROWS, 188])[:, None])
    stacked = StackedShards([Lazy(first), as_shards(second)])
    np.testing.assert_array_equal(stacked[:], np.concatenate([first, second]))
    joined = JoinedShards([Lazy(first), as_shards(second[:700])])
    np.testing.assert_array_equal(joined[:], np.hstack([first, second[:700]]))
    assert repr(joined) == "JoinedShards(shape=(700, 6))"


def test_a_kind_of_shards_needs_a_method_that_reads():
    with pytest.raises(NotImplementedError, match=r"^Shards: expected a method read, got none; define it$"):
        Shards(np.array([0, 1]), 1, np.float32).read(0)


@pytest.fixture
def short_runs(monkeypatch):
    """A run of two shards, so that few samples fill several."""
    monkeypatch.setattr(sums, "RUN_SHARDS", 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [*SIZES, 5 * SHARD_ROWS + 7])
def test_sums_of_integers_are_exact(n, dtype, short_runs):
    x, right = numbers(n, 7, dtype), numbers(n, 2, np.float64)
    weights, sets = np.arange(n) % 3 + 1.0, np.arange(n) % 4
    samples = Lazy(x).subset(np.arange(n))
    np.testing.assert_allclose(sums.mean_of(samples), x.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(sums.mean_of(samples, weights), np.average(x, axis=0, weights=weights), atol=1e-12)
    np.testing.assert_array_equal(sums.products(samples, right), x.T @ right)
    np.testing.assert_array_equal(np.tril(sums.gram(samples)), np.tril(x @ x.T))
    for number, (system, moments) in zip([3, 0], sums.grams_of_sets(samples, right, sets, [3, 0]), strict=True):
        own = sets == number
        np.testing.assert_array_equal(np.tril(system), np.tril(x[own].T @ x[own]))
        np.testing.assert_array_equal(moments, x[own].T @ right[own])
    matrices = [numbers(number + 7, 2, np.float64)[:7] for number in range(4)]
    expected = np.stack([row @ matrices[own] for row, own in zip(x, sets, strict=True)])
    np.testing.assert_array_equal(sums.rows_times(samples, matrices, sets), expected)
    classes = np.arange(n) % 2 * 5
    means = [x[classes == code].mean(axis=0, dtype=np.float64) for code in np.unique(classes)]
    np.testing.assert_allclose(sums.class_means(samples, classes), means, rtol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_means_and_deviations_are_those_of_all_samples(n, short_runs):
    x = numbers(n) + np.float32(1e4)
    mean, deviation = sums.mean_and_deviation(Lazy(x))
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(deviation, exact.std(axis=0), rtol=1e-9, atol=1e-12)


def test_samples_of_a_subset_without_rows_in_some_shards_have_the_same_sums(short_runs):
    x = numbers(6 * SHARD_ROWS)
    rows = np.concatenate([np.arange(10), np.arange(5 * SHARD_ROWS, 6 * SHARD_ROWS)])
    part = Lazy(x).subset(rows)
    np.testing.assert_allclose(sums.mean_of(part), x[rows].mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(sums.mean_and_deviation(part)[1], x[rows].std(axis=0, dtype=np.float64), rtol=1e-9)
    np.testing.assert_array_equal(np.tril(sums.gram(part)), np.tril(x[rows] @ x[rows].T))


@pytest.mark.parametrize("n_features", [40, 900])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_a_head_has_the_same_bits_from_shards_that_are_read_and_from_an_array(n_features, class_weight):
    rng = np.random.default_rng(0)
    codes = np.arange(700) % 3
    X = (rng.normal(size=(700, n_features)) + 2 * np.eye(3, n_features)[codes]).astype(np.float32)
    found = []
    for samples, threads in ((X, 1), (Lazy(X), 2)):
        with num_threads(threads):
            head = KMeansClassifier(class_weight=class_weight, random_state=0).fit(samples, codes, np.arange(700) // 10)
            details = head.predict_details(samples)
        arrays = [head.weights_, head.held_out_probabilities_, head.predict_proba(samples), head.transform(samples)]
        found.append([*arrays, details.outlier_scores, details.nearest, head.outlier_threshold_])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("weights", [None, np.arange(900) % 3 + 0.5])
@pytest.mark.parametrize("n_features", [5, 1000])
def test_held_out_scores_with_weights_are_those_of_a_refit_without_the_fold(n_features, weights):
    rng = np.random.default_rng(0)
    codes = np.arange(900) % 2
    x, targets = rng.normal(size=(900, n_features)) + codes[:, None], np.eye(2)[codes] - 0.5
    x -= np.average(x, axis=0, weights=weights)
    folds = folds_by_group(codes, np.arange(900) // 7, 0)
    w = np.ones(900) if weights is None else weights
    penalty = 0.01 * (w[:, None] * x**2).sum() / 900
    solution, scores = ridge(Lazy(x), targets, 0.01, folds, weights)
    for fold in [np.empty(0, int), *folds]:
        kept = np.setdiff1d(np.arange(900), fold)
        weighted = x[kept] * w[kept][:, None]
        refit = np.linalg.solve(weighted.T @ x[kept] + penalty * np.eye(n_features), weighted.T @ targets[kept])
        np.testing.assert_allclose(scores[fold], x[fold] @ refit, atol=1e-8)
        if not len(fold):
            np.testing.assert_allclose(solution, refit, atol=1e-8)
