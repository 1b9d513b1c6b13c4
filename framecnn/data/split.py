"""The division of whole groups of frames into training, validation and test frames, and into folds."""

from collections.abc import Sequence

import numpy as np

from framecnn.data.group_folds import group_folds
from framecnn.errors import DataError
from framecnn.typing import Array

__all__ = ["PARTS", "assign_folds", "assign_parts", "check_shares"]

PARTS = ("training", "validation", "test")
"""The names of the parts of a split, by their number."""

_UNITS = 2**24  # shares of a class are counted in integer units, so that equal shares are equal on every machine


def assign_parts(targets: Array, groups: Array, fractions: Sequence[float] | Array, seed: int = 0) -> Array:
    """Return the part of each frame: whole groups are divided into training, validation and test frames.

    The rules, the most important first: every class has training frames; no part is empty; every class has
    test frames; every class has validation frames. Then every class is divided as close to `fractions` as its groups
    allow.

    Parameters
    ----------
    targets : array of int, shape (n,)
        The class of each frame.
    groups : array, shape (n,)
        The group of each frame; frames of one group stay together.
    fractions : sequence of 3 floats
        The wanted shares of training, validation and test; they sum to 1. A part with the share 0 stays empty.
    seed : int, default 0
        The seed of the choice among groups of about the same size (within a factor of two).

    Returns
    -------
    array of int64, shape (n,)
        The number in `PARTS` for each frame.

    Raises
    ------
    ValueError
        If `fractions` are not three shares that sum to 1, the first above 0.

    Examples
    --------
    >>> targets, groups = np.repeat([0, 1], 10), np.arange(20) // 2
    >>> parts = assign_parts(targets, groups, (0.6, 0.2, 0.2))
    >>> np.bincount(parts[targets == 0]), np.bincount(parts[targets == 1])
    (array([6, 2, 2]), array([6, 2, 2]))
    """
    wanted = check_shares(fractions)
    used = np.flatnonzero(wanted)
    _, group_of = np.unique(groups, return_inverse=True)
    _, class_of = np.unique(targets, return_inverse=True)
    counts = np.zeros((group_of.max() + 1, class_of.max() + 1), np.int64)
    np.add.at(counts, (group_of, class_of), 1)
    shares = np.rint(counts * (_UNITS / counts.sum(axis=0))).astype(np.int64)
    goal = np.rint(wanted[used] * _UNITS).astype(np.int64)[:, None]
    parts = _draw(shares, goal, np.random.default_rng(seed))
    base = counts.shape[1] + 1
    _improve(parts, shares, goal, np.array([base**3, 1, base])[used], base**2)
    return used[parts[group_of]]


def check_shares(fractions: Sequence[float] | Array) -> Array:
    """Return the shares of training, validation and test frames as an array; raise ValueError if they are none."""
    wanted = np.asarray(fractions, float)
    if wanted.shape != (3,) or not np.isclose(wanted.sum(), 1) or wanted.min() < 0 or wanted[0] == 0:
        raise ValueError(
            f"split: expected shares of train (above 0), val and test that sum to 1, got {tuple(fractions)}"
        )
    return wanted


def _draw(shares: Array, goal: Array, rng: np.random.Generator) -> Array:
    """Draw a part for each group; the more frames of the group's classes a part still lacks, the likelier it is.

    Large groups are drawn first, and go to parts that lack at least a whole group of that size, if there are any.
    """
    order = rng.permutation(len(shares))
    magnitude = np.frexp(shares.max(axis=1))[1]
    order = order[np.argsort(-magnitude[order], kind="stable")]
    missing = np.repeat(goal, shares.shape[1], axis=1)
    parts = np.empty(len(shares), np.int64)
    for group in order:
        lack = missing @ shares[group]
        weights = np.where(lack >= shares[group] @ shares[group], lack, 0).cumsum()
        part = np.searchsorted(weights, rng.integers(weights[-1]), side="right") if weights[-1] else lack.argmax()
        missing[part] -= shares[group]
        parts[group] = part
    return parts


def _improve(parts: Array, shares: Array, goal: Array, class_weights: Array, part_weight: int) -> None:
    """Move one group at a time, in place, while that meets more rules, or equally many and gets closer to the goal."""
    rows = np.arange(len(shares))
    squares = (shares**2).sum(axis=1)
    present = (shares > 0).astype(np.int64)
    for _ in rows:
        members = (parts == np.arange(len(goal))[:, None]).astype(np.int64)
        surplus = shares @ (members @ shares - goal).T
        distance = 2 * (squares + surplus.T - surplus[rows, parts]).T
        n_groups = members @ present
        lost = present @ ((n_groups == 1).T * class_weights) + part_weight * (members.sum(axis=1) == 1)
        won = present @ ((n_groups == 0).T * class_weights) + part_weight * (members.sum(axis=1) == 0)
        gain = lost[rows, parts][:, None] - won
        distance[rows, parts] = gain[rows, parts] = 0
        best = np.where(gain == gain.min(), distance, np.iinfo(np.int64).max)
        group, part = np.unravel_index(best.argmin(), best.shape)
        if part == parts[group] or (gain[group, part] == 0 and distance[group, part] >= 0):
            return
        parts[group] = part


def assign_folds(targets: Array, groups: Array, k: int, seed: int = 0) -> Array:
    """Return the fold of each frame: whole groups in k folds of similar class frequencies.

    The folds are those of scikit-learn's StratifiedGroupKFold.

    Parameters
    ----------
    targets : array of int, shape (n,)
        The class of each frame.
    groups : array, shape (n,)
        The group of each frame; frames of one group stay together.
    k : int
        The number of folds, at least 2.
    seed : int, default 0
        The seed of the shuffling of the groups.

    Returns
    -------
    array of int64, shape (n,)
        The fold in which each frame is held out.

    Raises
    ------
    ValueError
        If `k` is below 2.
    DataError
        If there are too few groups, or too few frames, for k folds.

    Examples
    --------
    >>> folds = assign_folds(np.repeat([0, 1], 10), np.arange(20) // 2, k=5)
    >>> np.bincount(folds)
    array([4, 4, 4, 4, 4])
    """
    if k < 2:
        raise ValueError(f"folds: expected k of at least 2, got {k!r}")
    n_groups, largest = len(np.unique(groups)), np.bincount(targets).max()
    if min(n_groups, largest) < k:
        raise DataError(
            f"folds: expected at least {k} groups and a class of {k} frames for {k} folds, "
            f"got {n_groups} groups and at most {largest} frames per class; ask for fewer folds or cut more frames"
        )
    return group_folds(targets, groups, k, seed)
