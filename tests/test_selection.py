"""The grid and the frames to choose on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from framecnn.estimators.selection import choose_candidate, choose_grid, selection_rows


def noise(rng, n_samples, n_features):
    return rng.normal(size=(n_samples, n_features)).astype(np.float32)


def separable(codes, strength, rng, n_features=6):
    """Return features whose class means differ by `strength` standard deviations."""
    return (noise(rng, len(codes), n_features) + strength * np.eye(2, n_features)[codes]).astype(np.float32)


def test_the_coarsest_of_equally_good_grids_is_taken():
    rng, codes = np.random.default_rng(0), np.arange(40) % 2
    same = separable(codes, 20, rng)
    grid, tried = choose_grid({(1, 1): same, (2, 2): same, (3, 4): same}, codes, None, seed=0)
    assert grid == (1, 1)
    assert [choice.accuracy for choice in tried.values()] == [1, 1, 1]


def test_a_clearly_better_grid_is_taken():
    rng, codes = np.random.default_rng(0), np.arange(40) % 2
    features = {(1, 1): noise(rng, 40, 6), (2, 2): separable(codes, 20, rng), (3, 4): noise(rng, 40, 6)}
    grid, tried = choose_grid(features, codes, None, seed=0)
    assert grid == (2, 2)
    assert tried[2, 2].accuracy == 1 > tried[1, 1].accuracy + tried[1, 1].standard_error


def test_a_finer_grid_within_one_standard_error_is_not_taken():
    rng, codes = np.random.default_rng(11), np.arange(60) % 2
    coarse = separable(codes, 1.5, rng)
    fine = np.hstack([coarse, separable(codes, 0.7, rng, 3)])
    grid, tried = choose_grid({(1, 1): coarse, (2, 2): fine}, codes, None, seed=0)
    assert tried[2, 2].accuracy > tried[1, 1].accuracy > tried[2, 2].accuracy - tried[2, 2].standard_error
    assert grid == (1, 1)


def test_the_coarsest_grid_is_taken_where_no_group_can_be_held_out():
    features = {(1, 1): np.zeros((4, 2), np.float32), (2, 2): np.zeros((4, 8), np.float32)}
    assert choose_grid(features, np.array([0, 1, 0, 1]), np.zeros(4, int), seed=0) == ((1, 1), {})


def test_few_rows_are_all_used():
    np.testing.assert_array_equal(selection_rows(5, np.array([0, 0, 1, 2, 2]), limit=5, seed=0), np.arange(5))


def test_rows_without_groups_are_drawn_by_the_seed():
    rows = selection_rows(1000, None, limit=100, seed=1)
    assert len(np.unique(rows)) == 100
    np.testing.assert_array_equal(rows, selection_rows(1000, None, limit=100, seed=1))
    assert rows.tolist() != selection_rows(1000, None, limit=100, seed=2).tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=10), st.integers(1, 60), st.integers(0, 5))
def test_rows_are_taken_from_all_groups_in_turn(sizes, limit, seed):
    """No group gives two rows more than another that has rows left."""
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = selection_rows(len(groups), groups, limit, seed)
    assert len(rows) == len(np.unique(rows)) == min(limit, len(groups))
    taken = np.bincount(groups[rows], minlength=len(sizes))
    left = np.array(sizes) - taken
    assert (taken[left > 0] >= taken.max() - 1).all()


def one_per_class(codes, wrong):
    """Return features (n, 3) by which all samples but those at the places `wrong` are told apart."""
    seen = codes.copy()
    seen[wrong] = (seen[wrong] + 1) % 3
    return np.eye(3, dtype=np.float32)[seen]


def test_the_best_kind_is_chosen_the_cheapest_of_equal_ones_and_the_first_without_folds():
    codes = np.tile([0, 1, 2], 40)
    cheap, costly = one_per_class(codes, [3, 4, 50]), one_per_class(codes, [3, 4])
    features = {"cheap": cheap, "costly": costly}
    kind, (found, costly_found) = choose_candidate(["cheap", "costly"], features.get, codes, None, seed=0)
    assert kind == "costly"
    assert 0 < costly_found.accuracy - found.accuracy < costly_found.standard_error
    assert choose_candidate(["one", "other"], lambda _: cheap, codes, None, seed=0)[0] == "one"
    assert choose_candidate(["cheap", "costly"], features.get, codes, np.zeros(120, int), seed=0) == ("cheap", [])
