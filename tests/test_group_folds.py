"""Folds of whole groups: those of scikit-learn, whatever the sizes of groups and classes."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from framecnn.data.group_folds import group_folds


def by_scikit_learn(codes, groups, n_folds, seed):
    folds = np.full(len(codes), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class has fewer samples than there are folds
        splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        for fold, (_, held_out) in enumerate(splitter.split(codes, codes, groups)):
            folds[held_out] = fold
    return folds


def test_the_folds_are_those_of_scikit_learn_for_every_number_of_groups_classes_and_folds():
    """Groups of one class and of several, of equal and of different sizes, in sorted order and not."""
    for n_groups in range(2, 25):
        for n_folds in range(2, min(n_groups, 5) + 1):
            seed = 10 * n_groups + n_folds
            rng = np.random.default_rng(seed)
            equal, drawn = np.repeat(np.arange(n_groups), 3), rng.integers(n_groups, size=3 * n_groups)
            groups = [equal, np.append(drawn, np.arange(n_groups))][n_folds % 2]
            for n_classes in range(1, 5):
                for codes in (groups % n_classes, rng.integers(n_classes, size=len(groups))):
                    if np.bincount(codes).max() >= n_folds:
                        folds = group_folds(codes, groups, n_folds, seed)
                        np.testing.assert_array_equal(folds, by_scikit_learn(codes, groups, n_folds, seed), f"{seed}")


def test_names_of_groups_count_by_their_order_and_classes_may_have_any_numbers():
    groups = np.array(["b", "a", "b", "c", "c", "d", "d", "a"])
    codes = np.array([5, 9, 5, 5, 9, 9, 9, 9])
    folds = group_folds(codes, groups, 2, seed=3)
    np.testing.assert_array_equal(folds, by_scikit_learn(codes, groups, 2, seed=3))
    np.testing.assert_array_equal(folds, group_folds(codes == 9, np.unique(groups, return_inverse=True)[1], 2, seed=3))
