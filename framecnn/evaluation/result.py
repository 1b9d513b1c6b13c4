"""The predictions of a classifier for one part of the data, and the figures that follow from them."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from framecnn.errors import ShapeError
from framecnn.evaluation.bootstrap import bootstrap_interval
from framecnn.evaluation.by_class import ClassFigures, class_figures
from framecnn.evaluation.reliability import Bin, brier_score, expected_calibration_error, log_loss, reliability
from framecnn.evaluation.verdict import Baseline, baseline_of, verdict_of
from framecnn.text import counted
from framecnn.typing import Array

__all__ = ["EvaluationResult", "described", "evaluate"]

ROUNDING = 1e-3  # probabilities may have been rounded: float32, or the digits of a file


class ProbabilisticClassifier(Protocol):
    """A classifier that returns class probabilities."""

    def predict_proba(self, frames: Any, /) -> Array:
        """Return the probabilities, shape (n, n_classes)."""
        ...


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """The predictions of a classifier for one part of the data, compared with the true classes.

    Parameters
    ----------
    part : str
        Name of the part: ``"training"``, ``"validation"``, ``"test"``, or the name of a folder.
    classes : sequence of str
        The class names, in the order of the labels.
    targets : array of int, shape (n,)
        The true class of each frame, as an index of `classes`.
    probabilities : array of float, shape (n, n_classes)
        The probability of each class; each row sums to 1.
    groups : array of str, shape (n,)
        The group (shot, or cluster of near-duplicates) of each frame.
    paths : sequence of str, length n or 0, default ()
        The file of each frame, for reports.

    Raises
    ------
    ShapeError
        If the arrays do not have one entry per frame, the probabilities not one column per class, a target is not an
        index of `classes`, or a row of `probabilities` does not hold probabilities that sum to 1.

    Examples
    --------
    >>> result = EvaluationResult("test", ("day", "night"), [0, 0, 1, 1],
    ...                           [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.6, 0.4]],
    ...                           ["shot 1", "shot 1", "shot 2", "shot 3"])
    >>> result.describe()
    '75.0 % (95 % interval 21.4 to 100.0; 4 frames of 3 groups)'
    >>> result.confusion.tolist()
    [[2, 0], [1, 1]]
    >>> result.by_class["night"]
    ClassFigures(support=2, precision=1.0, recall=0.5, f1=0.6666666666666666)
    """

    part: str
    classes: Sequence[str]
    targets: Array
    probabilities: Array
    groups: Array
    paths: Sequence[str] = ()

    def __post_init__(self) -> None:
        values: dict[str, Any] = {"classes": tuple(map(str, self.classes)), "paths": tuple(map(str, self.paths))}
        values["targets"] = np.asarray(self.targets, np.int64)
        values["probabilities"] = np.asarray(self.probabilities, np.float64)
        values["groups"] = np.asarray(self.groups, str)
        if not values["targets"].size and not values["probabilities"].size:
            values["probabilities"] = np.zeros((0, len(values["classes"])))
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check()

    def __repr__(self) -> str:
        found = f"{self.n_frames} frames of {self.n_groups} groups and {len(self.classes)} classes"
        return f"EvaluationResult({self.part!r}: {found})"

    def _check(self) -> None:
        n, n_classes = self.n_frames, len(self.classes)
        shapes: dict[str, tuple[int, ...]] = {"targets": (n,), "groups": (n,), "probabilities": (n, n_classes)}
        for name, shape in shapes.items():
            if (found := getattr(self, name).shape) != shape:
                raise ShapeError(f"EvaluationResult: expected {name} of shape {shape} for {n} frames, got {found}")
        if len(self.paths) not in (0, n):
            raise ShapeError(f"EvaluationResult: expected one path for each of the {n} frames, got {len(self.paths)}")
        if n and not 0 <= self.targets.min() <= self.targets.max() < n_classes:
            raise ShapeError(
                f"EvaluationResult: expected targets to be indices of the {n_classes} classes, "
                f"got values from {self.targets.min()} to {self.targets.max()}"
            )
        sums_to_one = np.abs(self.probabilities.sum(axis=1) - 1) <= ROUNDING
        if not (sums_to_one.all() and np.all(self.probabilities >= 0)):
            raise ShapeError(
                "EvaluationResult: expected rows of probabilities between 0 and 1 that sum to 1, got others; "
                "pass the output of predict_proba"
            )

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.targets.size

    @cached_property
    def n_groups(self) -> int:
        """Number of groups of the frames."""
        return np.unique(self.groups).size

    @cached_property
    def predictions(self) -> Array:
        """The most probable class of each frame, int, shape (n,); the first of equally probable ones."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def confidences(self) -> Array:
        """The probability of each prediction, float, shape (n,)."""
        return self.probabilities.max(axis=1, initial=0)

    @property
    def correct(self) -> Array:
        """Whether the prediction of each frame is correct, bool, shape (n,)."""
        return self.targets == self.predictions

    @property
    def accuracy(self) -> float:
        """Share of the frames with a correct prediction; NaN without frames."""
        return _mean(self.correct)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % cluster bootstrap confidence interval of the accuracy, ``(low, high)``; NaN without frames.

        See :func:`~framecnn.evaluation.bootstrap.bootstrap_interval`.
        """
        return bootstrap_interval(self.correct, self.groups)

    @property
    def baseline(self) -> Baseline:
        """The answer without looking: always the class with the most frames here."""
        return baseline_of(self.targets, self.classes)

    @cached_property
    def verdict(self) -> str:
        """A sentence if the accuracy is not better than always answering the largest class; otherwise ``""``.

        See :func:`~framecnn.evaluation.verdict.verdict_of`.
        """
        return verdict_of(self.correct, self.targets, self.groups, self.classes)

    @cached_property
    def confusion(self) -> Array:
        """Number of frames of each true class (row) and predicted class (column), int, shape (n_classes, n_classes)."""
        n_classes = len(self.classes)
        cells = self.targets * n_classes + self.predictions
        return np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes)

    @cached_property
    def by_class(self) -> dict[str, ClassFigures]:
        """Support, precision, recall and F1 of each class, by its name."""
        return class_figures(self.targets, self.predictions, self.classes)

    @property
    def recall(self) -> Array:
        """Share of each class's frames with a correct prediction, (n_classes,); NaN for a class without frames."""
        return np.array([figures.recall for figures in self.by_class.values()])

    @property
    def macro(self) -> dict[str, float]:
        """The means of precision, recall and F1 over the classes that have frames; a precision of NaN counts as 0."""
        present = [figures for figures in self.by_class.values() if figures.support]
        names = ("precision", "recall", "f1")
        return {name: _mean(np.nan_to_num([getattr(figures, name) for figures in present])) for name in names}

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have frames; NaN without frames."""
        return self.macro["recall"]

    @property
    def top_2_accuracy(self) -> float:
        """Share of the frames whose true class is one of the two most probable; NaN without frames."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :2]
        return _mean((best == self.targets[:, None]).any(axis=1))

    @property
    def brier_score(self) -> float:
        """The mean squared distance between probabilities and one-hot targets, 0 to 2; NaN without frames."""
        return brier_score(self.targets, self.probabilities)

    @property
    def log_loss(self) -> float:
        """The mean negative log-likelihood of the true classes, in nats; NaN without frames."""
        return log_loss(self.targets, self.probabilities)

    @property
    def expected_calibration_error(self) -> float:
        """The mean difference between confidence and accuracy, over 15 bins of equally many frames."""
        return expected_calibration_error(self.confidences, self.correct)

    @property
    def reliability(self) -> list[Bin]:
        """15 bins of equally many frames by confidence: what the reliability diagram shows."""
        return reliability(self.confidences, self.correct)

    def mistakes(self, k: int | None = None) -> Array:
        """Return the frames with a wrong prediction, the most confident first.

        Parameters
        ----------
        k : int, optional
            The largest number of frames; all of them by default.

        Returns
        -------
        array of int, shape (at most k,)
            Row numbers in this part; rows of equal confidence keep their order.

        Examples
        --------
        >>> EvaluationResult("test", "ab", [0, 1], [[0.4, 0.6], [0.9, 0.1]], ["x", "y"]).mistakes().tolist()
        [1, 0]
        """
        rows = np.flatnonzero(~self.correct)
        return rows[np.argsort(-self.confidences[rows], kind="stable")][:k]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as Python's own types, ready for JSON.

        Returns
        -------
        dict
            ``part, n_frames, n_groups, accuracy, interval, verdict`` (None if better than the baseline), ``baseline,
            balanced_accuracy, top_2_accuracy, macro, brier_score, log_loss, expected_calibration_error, classes,
            by_class, reliability, confusion``; None if there are no frames.

        Examples
        --------
        >>> result = EvaluationResult("test", ("day", "night"), [0, 0], [[1, 0], [1, 0]], ["a", "b"])
        >>> result.to_dict()["by_class"]["night"]
        {'support': 0, 'precision': None, 'recall': None, 'f1': None}
        """
        return deepcopy(self.numbers) | {"confusion": self.confusion.tolist()}

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """What `to_dict` returns, without the confusion, which is large with many classes; not to be changed."""
        names = ("balanced_accuracy", "top_2_accuracy", "macro", "brier_score", "log_loss")
        return {
            "part": self.part,
            "n_frames": self.n_frames,
            "n_groups": self.n_groups,
            "accuracy": _plain(self.accuracy),
            "interval": _plain(list(self.interval)),
            "verdict": self.verdict or None,
            "baseline": asdict(self.baseline),
            **{name: _plain(getattr(self, name)) for name in (*names, "expected_calibration_error")},
            "classes": list(self.classes),
            "by_class": {name: _plain(asdict(figures)) for name, figures in self.by_class.items()},
            "reliability": [asdict(own) for own in self.reliability],
        }

    def describe(self) -> str:
        """Return accuracy, interval, and number of frames and groups in one line.

        Returns
        -------
        str
            Such as ``94.1 % (95 % interval 89.0 to 98.2; 114 frames of 20 groups)``.

        Examples
        --------
        >>> EvaluationResult("validation", ("day",), [], [], []).describe()
        'no frames'
        """
        if not self.n_frames:
            return "no frames"
        return described(self.accuracy, self.interval, self.n_frames, self.n_groups)


def described(accuracy: float, interval: tuple[float, float], n_frames: int, n_groups: int, how: str = "") -> str:
    """Return an accuracy, its interval and its evidence in one line.

    Parameters
    ----------
    accuracy : float
    interval : (float, float)
    n_frames, n_groups : int
    how : str, default ""
        What is said about the evidence after the numbers of frames and groups.

    Returns
    -------
    str
    """
    low, high = interval
    evidence = f"{counted(n_frames, 'frame')} of {counted(n_groups, 'group')}{how}"
    return f"{100 * accuracy:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}; {evidence})"


def evaluate(
    classifier: ProbabilisticClassifier,
    frames: Any,
    targets: Array,
    groups: Array,
    classes: Sequence[str],
    part: str,
    paths: Sequence[str] = (),
) -> EvaluationResult:
    """Return the predictions of a fitted classifier for frames, compared with the true classes.

    Parameters
    ----------
    classifier : object with ``predict_proba``
        It returns class probabilities of shape (n, n_classes), columns in the order of `classes`.
    frames : array-like, shape (n, height, width, channels) or (n, n_features)
        Input of the classifier.
    targets : array of int, shape (n,)
        The true class of each frame, as an index of `classes`.
    groups : array of str, shape (n,)
        The group of each frame.
    classes : sequence of str
        The class names.
    part : str
        The name of this part of the data, such as ``"test"``.
    paths : sequence of str, default ()
        The file of each frame, for reports.

    Returns
    -------
    EvaluationResult
        The probabilities, and the figures derived from them.

    Raises
    ------
    ShapeError
        If the probabilities do not have one row per frame and one column per class, a target is not an index of
        `classes`, or a probability is not in 0..1.

    Examples
    --------
    >>> class Certain:
    ...     def predict_proba(self, frames):
    ...         return np.array([[0.9, 0.1]] * len(frames))
    >>> evaluate(Certain(), np.zeros((2, 4, 4, 3)), [0, 1], ["a", "b"], ["day", "night"], "test").accuracy
    0.5
    """
    targets = np.asarray(targets, np.int64)
    probabilities = np.zeros((0, len(classes)))
    if targets.size:
        probabilities = np.asarray(classifier.predict_proba(frames))
    expected = (targets.size, len(classes))
    if probabilities.shape != expected:
        raise ShapeError(f"evaluate: expected probabilities of shape {expected}, got {probabilities.shape}")
    return EvaluationResult(part, classes, targets, probabilities, groups, paths)


def _mean(values: Array) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _plain(value: Any) -> Any:
    """Return numbers, also those in a list or dict, with None for NaN."""
    if isinstance(value, dict):
        return {key: _plain(number) for key, number in value.items()}
    if isinstance(value, list):
        return [_plain(number) for number in value]
    return None if np.isnan(value) else value
