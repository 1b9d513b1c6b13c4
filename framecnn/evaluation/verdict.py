"""Whether a result is better than an answer without looking, and the likely reasons if it is not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from framecnn.evaluation.bootstrap import bootstrap_interval
from framecnn.text import counted
from framecnn.typing import Array

__all__ = ["Baseline", "baseline_of", "class_shares", "verdict_of"]


@dataclass(frozen=True)
class Baseline:
    """The answer without looking: always the class that has the most frames.

    Parameters
    ----------
    name : str
        The class.
    accuracy : float
        The share of the frames that it answers correctly.
    chance : float
        The share of correct answers that are drawn in proportion to the numbers of frames: the sum of squared shares.
    """

    name: str
    accuracy: float
    chance: float


def class_shares(targets: Array, n_classes: int) -> Array:
    """Return the share of the frames of each class, (n_classes,); zeros without frames.

    Parameters
    ----------
    targets : array of int, shape (n,)
    n_classes : int

    Returns
    -------
    array of float, shape (n_classes,)
    """
    return np.bincount(targets, minlength=n_classes) / max(1, len(targets))


def baseline_of(targets: Array, classes: Sequence[str]) -> Baseline:
    """Return the class with the most frames, and the accuracy of always answering it.

    Parameters
    ----------
    targets : array of int, shape (n,)
        The true class of each frame.
    classes : sequence of str
        At least one.

    Returns
    -------
    Baseline

    Examples
    --------
    >>> baseline_of(np.array([0, 0, 0, 1]), ["day", "night"])
    Baseline(name='day', accuracy=0.75, chance=0.625)
    """
    shares = class_shares(targets, len(classes))
    return Baseline(classes[int(shares.argmax())], float(shares.max()), float(np.square(shares).sum()))


def verdict_of(correct: Array, targets: Array, groups: Array, classes: Sequence[str]) -> str:
    """Return a sentence if the accuracy is not better than always answering the largest class; otherwise ``""``.

    The accuracy counts as better if the 95 % cluster bootstrap interval over groups of the difference to that answer
    is above zero, so that an accuracy which looks good on few groups does not pass for evidence.

    Parameters
    ----------
    correct : array of bool, shape (n,) or (n_repeats, n)
        Whether each prediction is correct.
    targets : array of int, shape (n,)
        The true class of each frame.
    groups : array, shape (n,)
        The group of each frame.
    classes : sequence of str

    Returns
    -------
    str
        Empty also if all frames belong to one class: nothing can be told apart then.

    Examples
    --------
    >>> groups = np.arange(40)
    >>> verdict_of(np.arange(40) < 20, groups % 2, groups, ["day", "night"])[:61]
    "Not better than always answering 'day': accuracy 50.0 % again"
    >>> verdict_of(np.arange(40) < 38, groups % 2, groups, ["day", "night"])
    ''
    """
    if len(np.unique(targets)) < 2:
        return ""
    baseline = baseline_of(targets, classes)
    right = np.atleast_2d(correct).astype(float)
    always = np.array(classes)[targets] == baseline.name
    low, high = bootstrap_interval(right - always, groups, low=-1)
    if low > 0:
        return ""
    accuracy, n_groups = right.mean(), counted(len(np.unique(groups)), "group")
    figures = f"accuracy {100 * accuracy:.1f} % against {100 * baseline.accuracy:.1f} % ({n_groups})"
    if bootstrap_interval(right, groups)[1] < baseline.chance:
        return f"Worse than chance, and than always answering {baseline.name!r}: {figures}."
    if high < 0:
        return f"Worse than always answering {baseline.name!r}: {figures}."
    if accuracy <= baseline.accuracy:
        return f"Not better than always answering {baseline.name!r}: {figures}."
    return f"No evidence that the model is better than always answering {baseline.name!r}: {figures}."
