"""The out-of-fold estimate: repeated folds in which each group is held out once."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from framecnn.data.shards import Shards, as_shards
from framecnn.data.split import assign_folds
from framecnn.errors import ShapeError
from framecnn.evaluation.bootstrap import bootstrap_interval
from framecnn.evaluation.result import EvaluationResult, described
from framecnn.evaluation.verdict import Baseline, verdict_of
from framecnn.typing import Array

__all__ = ["OutOfFoldEstimate", "estimate_out_of_fold"]

N_FOLDS = 4
N_REPEATS = 3


@dataclass(frozen=True, eq=False)
class OutOfFoldEstimate:
    """The results of repeated folds over the same frames; its figures are means over the repeats.

    Parameters
    ----------
    repeats : sequence of EvaluationResult
        One for each repeat, of the same frames in the same order; a model that was fitted without the frame's group
        made each prediction.
    folds : array of int, shape (n_repeats, n_frames)
        The fold, from 0, in which each frame was held out in each repeat.

    Raises
    ------
    ShapeError
        If there is no repeat, or the repeats have other frames.

    Examples
    --------
    >>> classes, groups = ("day", "night"), ["shot 1", "shot 2", "shot 3", "shot 4"]
    >>> said = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.6, 0.4]], [[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.6, 0.4]]
    >>> repeats = [EvaluationResult("out-of-fold", classes, [0, 0, 1, 1], some, groups) for some in said]
    >>> estimate = OutOfFoldEstimate(repeats, [[0, 1, 0, 1], [1, 0, 0, 1]])
    >>> estimate.describe()
    '62.5 % (95 % interval 20.0 to 100.0; 4 frames of 4 groups, 2 repeats of 2 folds)'
    """

    repeats: Sequence[EvaluationResult]
    folds: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "repeats", tuple(self.repeats))
        object.__setattr__(self, "folds", np.asarray(self.folds, np.int64))
        if not self.repeats:
            raise ShapeError("OutOfFoldEstimate: expected at least one repeat, got none")
        first = self.repeats[0]
        if not all(np.array_equal(first.targets, other.targets) for other in self.repeats):
            raise ShapeError("OutOfFoldEstimate: expected repeats of the same frames, got different targets")
        if self.folds.shape != (len(self.repeats), first.n_frames):
            raise ShapeError(
                f"OutOfFoldEstimate: expected folds of shape {(len(self.repeats), first.n_frames)}, "
                f"got {self.folds.shape}"
            )

    @cached_property
    def mean(self) -> EvaluationResult:
        """The result of the mean probabilities over the repeats: one prediction for each frame, for lists of frames.

        Its accuracy is that of several models together, mostly a little higher than `accuracy`.
        """
        first = self.repeats[0]
        probabilities = np.mean([result.probabilities for result in self.repeats], axis=0)
        return EvaluationResult(first.part, first.classes, first.targets, probabilities, first.groups, first.paths)

    @property
    def part(self) -> str:
        """The name of the part."""
        return self.mean.part

    @property
    def classes(self) -> Sequence[str]:
        """The class names."""
        return self.mean.classes

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.mean.n_frames

    @property
    def n_groups(self) -> int:
        """Number of groups of the frames."""
        return self.mean.n_groups

    @property
    def n_folds(self) -> int:
        """Number of folds of a repeat."""
        return int(self.folds.max()) + 1

    @property
    def correct(self) -> Array:
        """Whether each prediction is correct, bool, shape (n_repeats, n_frames)."""
        return np.stack([result.correct for result in self.repeats])

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the repeats."""
        return float(self.correct.mean())

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy: a bootstrap over the groups, in one of the repeats each time.

        It covers the choice of groups and of folds, and is as wide as that of a single repeat: the models of different
        folds share training frames, so that their mean is less certain than it seems, and no unbiased estimate of that
        exists (Bengio & Grandvalet, "No Unbiased Estimator of the Variance of K-Fold Cross-Validation", JMLR 2004).
        """
        return bootstrap_interval(self.correct, self.mean.groups)

    @property
    def balanced_accuracy(self) -> float:
        """Mean balanced accuracy of the repeats."""
        return float(np.mean([result.balanced_accuracy for result in self.repeats]))

    @property
    def baseline(self) -> Baseline:
        """The answer without looking."""
        return self.mean.baseline

    @cached_property
    def verdict(self) -> str:
        """A sentence if the accuracy is not better than always answering the largest class; otherwise ``""``."""
        return verdict_of(self.correct, self.mean.targets, self.mean.groups, self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as Python's own types, ready for JSON.

        Returns
        -------
        dict
            As :meth:`EvaluationResult.to_dict`, each number the mean over the repeats; confusion and reliability are
            those of `mean`. Also ``n_repeats``, ``n_folds``, and ``accuracies``, one for each repeat.
        """
        return deepcopy(self.numbers) | {"confusion": self.mean.confusion.tolist()}

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """What `to_dict` returns, without the confusion, which is large with many classes; not to be changed."""
        return {
            **_means([result.numbers for result in self.repeats]),
            "interval": list(self.interval),
            "verdict": self.verdict or None,
            "reliability": self.mean.numbers["reliability"],
            "n_repeats": len(self.repeats),
            "n_folds": self.n_folds,
            "accuracies": [result.accuracy for result in self.repeats],
        }

    def describe(self) -> str:
        """Return accuracy, interval, and number of frames, groups, repeats and folds in one line."""
        how = f", {len(self.repeats)} repeats of {self.n_folds} folds"
        return described(self.accuracy, self.interval, self.n_frames, self.n_groups, how)


def estimate_out_of_fold(
    head: Any,
    features: Shards | Array,
    targets: Array,
    groups: Array,
    classes: Sequence[str],
    paths: Sequence[str] = (),
    seed: int = 0,
) -> OutOfFoldEstimate | None:
    """Return the out-of-fold estimate of the accuracy: 3 repeats of up to 4 folds of whole groups.

    For each fold a copy of `head` is fitted, with the choice of its ridge penalty, on the features of all other groups;
    it predicts the frames of the fold. The features themselves are not learned again: filters are learned without
    labels, so what they know of the frames of a fold does not tell their class. But the pooling grid was chosen with
    the labels of all training frames: one of three, on held-out groups, which may make the estimate a little too high.

    Parameters
    ----------
    head : KMeansClassifier, or another classifier of scikit-learn's interface
        Its parameters are used, not its fitted state. ``fit``, or ``fit_probabilities`` if it has one, takes features,
        labels and groups.
    features : Shards or array, shape (n, n_features)
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
        None if there are fewer than two groups to hold out, or they belong to fewer than two classes.

    Raises
    ------
    ShapeError
        If `targets`, `groups` or `paths` does not have one entry for each row of `features`.

    Examples
    --------
    >>> from framecnn.estimators import KMeansClassifier
    >>> rng = np.random.default_rng(0)
    >>> targets, groups = np.repeat([0, 1], 40), np.arange(80) // 4
    >>> features = targets[:, None] + rng.normal(0, 0.3, (80, 5))
    >>> head = KMeansClassifier(random_state=0)
    >>> estimate_out_of_fold(head, features, targets, groups, ["day", "night"]).describe()
    '100.0 % (95 % interval 90.5 to 100.0; 80 frames of 20 groups, 3 repeats of 4 folds)'
    """
    features, targets = as_shards(features), np.asarray(targets, np.int64)
    _, groups_of = np.unique(np.asarray(groups, str), return_inverse=True)
    for name, values in (("targets", targets), ("groups", groups_of), ("paths", paths if len(paths) else targets)):
        if len(values) != len(features):
            raise ShapeError(
                f"estimate_out_of_fold: expected one entry of {name} for each of {len(features)} frames, "
                f"got {len(values)}"
            )
    held_out = np.flatnonzero(~np.isin(groups_of, _only_groups(targets, groups_of)))
    n_groups, largest = len(np.unique(groups_of[held_out])), np.bincount(targets[held_out], minlength=1).max()
    n_folds = min(N_FOLDS, n_groups, largest)
    if len(np.unique(targets[held_out])) < 2 or n_folds < 2:
        return None
    own_paths = [paths[row] for row in held_out.tolist()] if len(paths) else ()
    repeats, folds = [], []
    for repeat in range(N_REPEATS):
        fold_of = np.full(len(features), -1)
        fold_of[held_out] = assign_folds(targets[held_out], groups_of[held_out], n_folds, seed + repeat)
        probabilities = np.zeros((len(features), len(classes)))
        for fold in range(n_folds):
            train, rows = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            known = np.unique(targets[train])
            probabilities[np.ix_(rows, known)] = _predicted(head, features, targets, groups_of, train, rows)
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


def _predicted(head: Any, features: Shards, targets: Array, groups: Array, train: Array, rows: Array) -> Array:
    """Return the probabilities of `rows` by a head fitted on `train`, with a column for each class in `train`."""
    if len(np.unique(targets[train])) < 2 or not len(rows):
        return np.ones((len(rows), 1))
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the fit on all frames has warned
        unfitted = clone(head)
        if not hasattr(unfitted, "fit_probabilities"):
            return unfitted.fit(features[train], targets[train], groups[train]).predict_proba(features[rows])
        fitted = unfitted.fit_probabilities(features.subset(train), targets[train], groups[train])  # without outliers
    return fitted.predict_proba(features.subset(rows))


def _means(values: Sequence[Any]) -> Any:
    """Return the mean of numbers in dictionaries; other values are taken from the first."""
    if isinstance(values[0], dict):
        return {key: _means([value[key] for value in values]) for key in values[0]}
    numbers = [value for value in values if isinstance(value, float)]
    return float(np.mean(numbers)) if numbers else values[0]
