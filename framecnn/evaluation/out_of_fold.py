"""The out-of-fold estimate: repeated folds in which each group is held out once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from framecnn.errors import ShapeError
from framecnn.evaluation.bootstrap import bootstrap_interval
from framecnn.evaluation.result import EvaluationResult, described
from framecnn.evaluation.verdict import Baseline, verdict_of
from framecnn.typing import Array

__all__ = ["OutOfFoldEstimate"]


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
        """The 95 % interval of the accuracy: a bootstrap over the groups and over the repeats.

        It covers the choice of groups and of folds. That the models of different folds share training frames makes it
        a little too narrow; no unbiased estimate of that exists (Bengio & Grandvalet, JMLR 2004).
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
        figures = _means([result.to_dict() for result in self.repeats])
        mean = self.mean.to_dict()
        return {
            **figures,
            "interval": list(self.interval),
            "verdict": self.verdict or None,
            "confusion": mean["confusion"],
            "reliability": mean["reliability"],
            "n_repeats": len(self.repeats),
            "n_folds": self.n_folds,
            "accuracies": [result.accuracy for result in self.repeats],
        }

    def describe(self) -> str:
        """Return accuracy, interval, and number of frames, groups, repeats and folds in one line."""
        how = f", {len(self.repeats)} repeats of {self.n_folds} folds"
        return described(self.accuracy, self.interval, self.n_frames, self.n_groups, how)


def _means(values: Sequence[Any]) -> Any:
    """Return the mean of numbers in dictionaries; other values are taken from the first."""
    if isinstance(values[0], dict):
        return {key: _means([value[key] for value in values]) for key in values[0]}
    numbers = [value for value in values if isinstance(value, float)]
    return float(np.mean(numbers)) if numbers else values[0]
