"""Out-of-fold predictions: the head is fitted again for each fold of whole groups, the filters are not."""

from collections.abc import Sequence

import numpy as np
from sklearn.base import clone

from framecnn.errors import ShapeError
from framecnn.estimators.head import KMeansClassifier
from framecnn.estimators.ridge import folds_by_group
from framecnn.evaluation import EvaluationResult, OutOfFoldEstimate
from framecnn.typing import Array

__all__ = ["estimate_out_of_fold"]

N_REPEATS = 3


def estimate_out_of_fold(
    head: KMeansClassifier,
    features: Array,
    targets: Array,
    groups: Array,
    classes: Sequence[str],
    paths: Sequence[str] = (),
    seed: int = 0,
) -> OutOfFoldEstimate | None:
    """Return the out-of-fold estimate of the accuracy: 3 repeats of up to 4 folds of whole groups.

    For each fold a copy of `head` is fitted, with the choice of its ridge penalty, on the features of all other groups;
    it predicts the frames of the fold. The features themselves are not learned again: filters are learned without
    labels, so what they know of the frames of a fold does not tell their class.

    Parameters
    ----------
    head : KMeansClassifier
        Its parameters are used, not its fitted state.
    features : array, shape (n, n_features)
        The features of all frames.
    targets : array of int, shape (n,)
        The true class of each frame, as an index of `classes`.
    groups : array, shape (n,)
        The group of each frame. A group that is the only one of a class is used for training in every fold: its frames
        are not part of the estimate.
    classes : sequence of str
    paths : sequence of str, length n or 0, default ()
        The file of each frame.
    seed : int, default 0
        Seed of the first repeat; the others have the next ones.

    Returns
    -------
    OutOfFoldEstimate or None
        None if there are fewer than two groups to hold out, or fewer than two classes.

    Raises
    ------
    ShapeError
        If `targets`, `groups` or `paths` does not have one entry for each row of `features`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> targets, groups = np.repeat([0, 1], 40), np.arange(80) // 4
    >>> features = targets[:, None] + rng.normal(0, 0.3, (80, 5))
    >>> head = KMeansClassifier(random_state=0)
    >>> estimate_out_of_fold(head, features, targets, groups, ["day", "night"]).describe()
    '100.0 % (95 % interval 90.5 to 100.0; 80 frames of 20 groups, 3 repeats of 4 folds)'
    """
    features, targets = np.asarray(features), np.asarray(targets, np.int64)
    _, groups_of = np.unique(np.asarray(groups, str), return_inverse=True)
    for name, values in (("targets", targets), ("groups", groups_of), ("paths", paths or targets)):
        if len(values) != len(features):
            raise ShapeError(
                f"estimate_out_of_fold: expected one entry of {name} for each of {len(features)} frames, "
                f"got {len(values)}"
            )
    held_out = np.flatnonzero(~np.isin(groups_of, _only_groups(targets, groups_of)))
    if len(np.unique(targets)) < 2 or not len(held_out):
        return None
    repeats, folds = [], []
    for repeat in range(N_REPEATS):
        parts = folds_by_group(targets[held_out], groups_of[held_out], seed + repeat)
        if not parts:
            return None
        probabilities, fold_of = np.zeros((len(features), len(classes))), np.zeros(len(features), np.int64)
        for fold, rows in enumerate(held_out[part] for part in parts):
            train = np.setdiff1d(np.arange(len(features)), rows)
            known = np.unique(targets[train])
            probabilities[np.ix_(rows, known)] = _predicted(head, features, targets, groups_of, train, rows)
            fold_of[rows] = fold
        own_paths = [paths[row] for row in held_out] if paths else ()
        repeats.append(
            EvaluationResult(
                "out-of-fold",
                classes,
                targets[held_out],
                probabilities[held_out],
                np.asarray(groups)[held_out],
                own_paths,
            )
        )
        folds.append(fold_of[held_out])
    return OutOfFoldEstimate(repeats, np.stack(folds))


def _only_groups(targets: Array, groups: Array) -> Array:
    """Return the groups that are the only one of a class."""
    pairs = np.unique(np.stack([targets, groups], axis=1), axis=0)
    n_groups = np.bincount(pairs[:, 0])
    return pairs[n_groups[pairs[:, 0]] == 1, 1]


def _predicted(
    head: KMeansClassifier, features: Array, targets: Array, groups: Array, train: Array, rows: Array
) -> Array:
    """Return the probabilities of `rows` by a head fitted on `train`, with a column for each class in `train`."""
    if len(np.unique(targets[train])) < 2:
        return np.ones((len(rows), 1))
    fitted = clone(head).fit(features[train], targets[train], groups[train])
    return fitted.predict_proba(features[rows])
