"""Held-out scores in closed form equal those of a refit without the fold."""

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framecnn.errors import SettingError
from framecnn.estimators.ridge import (
    ALPHAS,
    BLOCK_VALUES,
    FALLBACK,
    N_SPLITS,
    centre_accuracy,
    choose_alpha,
    folds_by_group,
    ridge,
)


def problem(n_samples, n_features, dtype=np.float64, signal=1.0, n_classes=3):
    """Features and targets of mean zero, class numbers, groups of up to four rows."""
    rng = np.random.default_rng(0)
    codes = np.arange(n_samples) % n_classes
    features = rng.normal(size=(n_samples, n_features)) + signal * rng.normal(size=(n_classes, n_features))[codes]
    groups = np.arange(n_samples) // (4 * n_classes) * n_classes + codes
    indicators = np.eye(n_classes)[codes]
    return (features - features.mean(axis=0)).astype(dtype), indicators - indicators.mean(axis=0), codes, groups


def solve(features, targets, penalty):
    """The definition: the normal equations of ridge regression."""
    features = features.astype(np.float64)
    return np.linalg.solve(features.T @ features + penalty * np.eye(features.shape[1]), features.T @ targets)


def rounding(features, targets, penalty):
    """Return how far float64 weights may be from exact ones: errors of the Gram matrix and of its Cholesky factor.

    Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, equation 3.13 and theorem 10.4.
    """
    norm, unit = np.linalg.norm, np.finfo(np.float64).eps / 2
    size, terms = sorted(features.shape)
    dual = len(features) <= features.shape[1]
    system = (features @ features.T if dual else features.T @ features) + penalty * np.eye(size)
    relative = unit * size * (3 * size + 1 + terms) * np.linalg.cond(system)
    if dual:
        return norm(features, 2) * (relative + terms * unit) * norm(np.linalg.solve(system, targets))
    moments = terms * unit * norm(features) * norm(targets)
    return relative * norm(solve(features, targets, penalty)) + moments * norm(np.linalg.inv(system), 2)


def penalty_of(features, alpha):
    return alpha * (features.astype(np.float64) ** 2).sum() / len(features)


WIDE_AND_TALL = [(40, 90), (90, 15), (30, 30)]


@pytest.mark.parametrize(("n_samples", "n_features"), WIDE_AND_TALL)
@pytest.mark.parametrize("alpha", [0.001, 0.3])
def test_weights_solve_the_normal_equations(n_samples, n_features, alpha):
    features, targets, _, _ = problem(n_samples, n_features)
    weights, scores = ridge(features, targets, alpha, folds=[])
    expected = solve(features, targets, penalty_of(features, alpha))
    bound = 2 * rounding(features, targets, penalty_of(features, alpha))
    assert np.linalg.norm(weights - expected) <= bound < 1e-5
    assert np.linalg.norm(scores - features @ expected) <= 2 * bound * np.linalg.norm(features, 2)


@pytest.mark.parametrize(("n_samples", "n_features"), WIDE_AND_TALL)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-8), (np.float32, 1e-4)])
def test_scores_of_a_held_out_fold_are_those_of_a_refit_without_it(n_samples, n_features, dtype, tolerance):
    features, targets, codes, groups = problem(n_samples, n_features, dtype)
    folds = folds_by_group(codes, groups, seed=0)
    _, scores = ridge(features, targets, 0.01, folds)
    penalty = penalty_of(features, 0.01)
    for rows in folds:
        kept = np.setdiff1d(np.arange(n_samples), rows)
        refit = features[rows] @ solve(features[kept], targets[kept], penalty)
        np.testing.assert_allclose(scores[rows], refit, atol=tolerance)


def test_primal_and_dual_agree():
    features, targets, codes, groups = problem(60, 20)
    folds = folds_by_group(codes, groups, seed=0)
    wide = np.hstack([features, np.zeros((60, 60))])  # the same geometry with more features than samples
    for alpha in ALPHAS:
        primal, primal_scores = ridge(features, targets, alpha, folds)
        dual, dual_scores = ridge(wide, targets, alpha, folds)
        bound = sum(rounding(x, targets, penalty_of(features, alpha)) for x in (features, wide))
        assert np.linalg.norm(primal - dual[:20]) <= bound < 1e-3
        np.testing.assert_allclose(primal_scores, dual_scores, atol=1e-10)
    assert choose_alpha(features, targets, codes, groups, 0) == choose_alpha(wide, targets, codes, groups, 0)


@pytest.mark.parametrize(("n_samples", "n_features"), WIDE_AND_TALL)
def test_one_decomposition_gives_the_accuracies_of_a_refit_for_every_alpha(n_samples, n_features):
    features, targets, codes, groups = problem(n_samples, n_features, np.float32, signal=0.3)
    accuracies = {}
    for alpha in ALPHAS:
        found = []
        for number in range(N_SPLITS):
            folds = folds_by_group(codes, groups, 5 + number)
            _, scores = ridge(features, targets, alpha, folds)
            found += [centre_accuracy(scores, codes, rows) for rows in folds]
        accuracies[alpha] = np.mean(found)
    chosen = choose_alpha(features, targets, codes, groups, seed=5)
    assert chosen.accuracy == pytest.approx(max(accuracies.values()), abs=1e-12)
    assert accuracies[chosen.alpha] == pytest.approx(chosen.accuracy, abs=1e-12)
    assert min(accuracies.values()) < chosen.accuracy < 1
    assert 0 < chosen.standard_error < 0.5


def test_of_equally_good_penalties_the_largest_is_chosen():
    features, targets, codes, groups = problem(48, 10)
    apart = features + 100 * np.eye(3, 10)[codes]
    chosen = choose_alpha(apart - apart.mean(axis=0), targets, codes, groups, seed=0)
    assert (chosen.alpha, chosen.accuracy, chosen.standard_error) == (max(ALPHAS), 1, 0)


def test_noise_gets_a_large_penalty():
    rng = np.random.default_rng(0)
    codes = np.arange(120) % 2
    targets = np.eye(2)[codes] - 0.5
    direction = np.zeros((120, 200))
    direction[:, 0] = 4 * (codes - 0.5)
    noisy = direction + rng.normal(size=(120, 200))
    chosen = choose_alpha(noisy - noisy.mean(axis=0), targets, codes, None, seed=0)
    assert chosen.alpha >= 0.03


def test_features_that_never_vary_give_zero_scores():
    _, targets, codes, groups = problem(24, 5)
    for shape in [(24, 5), (24, 50)]:
        weights, scores = ridge(np.zeros(shape), targets, 0.03, folds_by_group(codes, groups, 0))
        assert not weights.any()
        np.testing.assert_array_equal(scores, 0)
        assert np.isfinite(choose_alpha(np.zeros(shape), targets, codes, groups, 0).accuracy)


def test_a_penalty_below_rounding_is_refused():
    features, targets, _, _ = problem(30, 90, np.float32)
    twins = np.concatenate([features, features])
    with pytest.raises(SettingError, match="alpha: expected enough to outweigh rounding, got 1e-30"):
        ridge(twins, np.concatenate([targets, targets]), 1e-30, [])


def test_nothing_is_chosen_where_no_group_can_be_held_out():
    features, targets, codes, _ = problem(12, 5)
    one_group = choose_alpha(features, targets, codes, np.zeros(12, int), seed=0)
    assert one_group.alpha == FALLBACK
    assert np.isnan(one_group.accuracy)
    assert folds_by_group(np.arange(5), None, seed=0) == []  # a class for every sample


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_folds_share_no_group_and_hold_every_row_once(data):
    n_groups = data.draw(st.integers(2, 12))
    groups = np.array(data.draw(st.lists(st.integers(0, n_groups - 1), min_size=4, max_size=40)))
    codes = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(groups), max_size=len(groups))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = folds_by_group(codes, groups, data.draw(st.integers(0, 9)))
    if folds:
        assert 2 <= len(folds) <= 4
        np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(len(groups)))
        sides = [set(groups[rows]) for rows in folds]
        assert sum(map(len, sides)) == len(set.union(*sides))


def test_folds_without_groups_are_stratified_and_accept_a_rare_class():
    codes = np.repeat([0, 1], [40, 20])
    assert [np.bincount(codes[rows]).tolist() for rows in folds_by_group(codes, None, 0)] == [[10, 5]] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = folds_by_group(np.array([0] * 9 + [1]), None, 0)
    assert sorted(np.concatenate(folds).tolist()) == list(range(10))


def test_accuracy_is_that_of_the_nearest_class_centre():
    scores = np.array([[0.0], [1], [2], [10], [11], [1]])
    codes = np.array([0, 0, 0, 5, 5, 5])  # centres 1 and 22 / 3
    assert centre_accuracy(scores, codes, np.arange(6)) == 5 / 6
    assert centre_accuracy(scores, codes, np.array([5])) == 0


def test_many_classes_do_not_need_memory_for_rows_by_classes_squared():
    scores = np.random.default_rng(0).normal(size=(500, 300))
    codes = np.arange(500) % 300
    tracemalloc.start()
    accuracy = centre_accuracy(scores, codes, np.arange(500))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 8 * BLOCK_VALUES < 8 * 500 * 300 * 300
    centres = np.array([scores[codes == code].mean(axis=0) for code in range(300)])
    nearest = [((row - centres) ** 2).sum(axis=1).argmin() for row in scores]
    assert accuracy == np.mean(nearest == codes)
