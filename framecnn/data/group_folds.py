"""Folds that share no group, each with its share of every class."""

import numpy as np

from framecnn.typing import Array

__all__ = ["group_folds"]


def group_folds(codes: Array, groups: Array, n_folds: int, seed: int) -> Array:
    """Return the fold of each sample: whole groups, in folds of similar class frequencies.

    The folds are those of scikit-learn's StratifiedGroupKFold, which takes up to ten times as long: groups are
    shuffled, sorted so that those of the fewest classes and the most samples come first, and each goes to the fold
    where it leaves the shares of the classes most even; of equally good folds, to the one with the fewest samples.

    Parameters
    ----------
    codes : array of int, shape (n,)
        The class of each sample.
    groups : array, shape (n,)
        The group of each sample.
    n_folds : int
        The number of folds.
    seed : int
        The seed of the shuffling.

    Returns
    -------
    array of int64, shape (n,)
        Numbers from 0 to below `n_folds`.

    Examples
    --------
    >>> folds = group_folds(np.repeat([0, 1], 10), np.arange(20) // 2, n_folds=5, seed=0)
    >>> np.bincount(folds)
    array([4, 4, 4, 4, 4])
    """
    groups = np.unique(groups, return_inverse=True)[1]
    _, codes, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    counts = np.zeros((groups.max() + 1, len(sizes)))
    np.add.at(counts, (groups, codes), 1)
    shuffled = np.random.RandomState(seed).permutation(len(counts))
    shuffled = shuffled[np.argsort(-counts[shuffled].std(axis=1), kind="stable")]
    of_folds, fold_of_group = np.zeros((n_folds, len(sizes))), np.empty(len(counts), np.int64)
    for group in shuffled:
        fold = _best_fold(of_folds, counts[group], sizes)
        of_folds[fold] += counts[group]
        fold_of_group[group] = fold
    return fold_of_group[groups]


def _best_fold(of_folds: Array, of_group: Array, sizes: Array) -> int:
    """Return the fold for a group; numbers of samples by class: of the folds (n_folds, c), of the group, of all."""
    with_group = of_folds + np.eye(len(of_folds))[:, :, None] * of_group
    uneven = (with_group / sizes).std(axis=1).mean(axis=1).tolist()
    n_samples = of_folds.sum(axis=1).tolist()
    best = 0
    for fold in range(1, len(uneven)):
        equal = abs(uneven[fold] - uneven[best]) <= 1e-8 + 1e-5 * abs(uneven[best])
        if uneven[fold] < uneven[best] or (equal and n_samples[fold] < n_samples[best]):
            best = fold
    return best
