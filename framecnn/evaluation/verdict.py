"""Whether a result is better than an answer without looking, and the likely reasons if it is not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecnn.evaluation.bootstrap import bootstrap_interval
from framecnn.text import counted, listed
from framecnn.typing import Array

__all__ = ["Baseline", "baseline_of", "groups_by_class", "likely_reasons", "verdict_of"]

FEW_GROUPS = 5  # of a class
UNEVEN = 0.7  # share of the largest class


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
        The share of correct answers when each class is as likely to be guessed: one over the number of classes.
    """

    name: str
    accuracy: float
    chance: float


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
    Baseline(name='day', accuracy=0.75, chance=0.5)
    """
    shares = np.bincount(targets, minlength=len(classes)) / max(1, len(targets))
    return Baseline(classes[int(shares.argmax())], float(shares.max()), 1 / len(classes))


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
        Frames of one class of several are no evidence, whatever the accuracy: nothing is told apart then.

    Examples
    --------
    >>> groups = np.arange(40)
    >>> verdict_of(np.arange(40) < 20, groups % 2, groups, ["day", "night"])[:61]
    "Not better than always answering 'day': accuracy 50.0 % again"
    >>> verdict_of(np.arange(40) < 38, groups % 2, groups, ["day", "night"])
    ''
    """
    if not len(targets) or len(classes) < 2:
        return ""
    if len(np.unique(targets)) < 2:
        return f"No evidence that the classes can be told apart: this figure covers only {classes[targets[0]]!r}."
    baseline = baseline_of(targets, classes)
    right = np.atleast_2d(correct).astype(float)
    always = np.array(classes)[targets] == baseline.name
    low, high = bootstrap_interval(right - always, groups, low=-1)
    if low > 0:
        return ""
    accuracy, n_groups = right.mean(), counted(len(np.unique(groups)), "group")
    figures = f"accuracy {100 * accuracy:.1f} % against {100 * baseline.accuracy:.1f} % ({n_groups})"
    if bootstrap_interval(right, groups)[1] < baseline.chance:
        return f"Worse than guessing ({100 * baseline.chance:.1f} %) and always answering {baseline.name!r}: {figures}."
    if high < 0:
        return f"Worse than always answering {baseline.name!r}: {figures}."
    if accuracy <= baseline.accuracy:
        return f"Not better than always answering {baseline.name!r}: {figures}."
    return f"No evidence that the model is better than always answering {baseline.name!r}: {figures}."


def likely_reasons(main: Any, training: Any = None, others: Any = None) -> list[str]:
    """Return why a figure is probably not better than always answering the largest class, the most likely first.

    Parameters
    ----------
    main : EvaluationResult or OutOfFoldEstimate
        The figure.
    training : EvaluationResult, optional
        The result on the training frames.
    others : EvaluationResult or OutOfFoldEstimate, optional
        With parts that the user gave: the figure on held-out groups of the training part.

    Returns
    -------
    list of str
        Sentences, each with what to do.
    """
    found = []
    lonely = [name for name, number in groups_by_class(training).items() if number < 2] if training is not None else []
    if lonely:
        found.append(
            f"{lonely[0]!r} has one group only, so nothing about it can be measured, and it may draw frames of other "
            f"classes to itself: leave it out, or add about {FEW_GROUPS} groups."
        )
    if others is not None and not others.verdict:
        found.append(
            f"The parts differ: held-out groups of the training part reach {100 * others.accuracy:.1f} %. The classes "
            "look different there, or have other names; draw the parts from the same frames."
        )
    counts = groups_by_class(main)
    if len(counts) < 2:
        missing = [name for name in main.classes if name not in counts]
        return [
            f"It has no frames of {listed(missing)}. A class needs at least two groups (movies, shots or albums), one "
            f"to train on and one to test on; about {FEW_GROUPS} or more are evidence."
        ]
    rare = [name for name, number in counts.items() if number < FEW_GROUPS]
    if main.n_groups < FEW_GROUPS * max(2, len(counts)) or rare:
        least = f"; {rare[0]!r} has {counts[rare[0]]}" if rare else ""
        found.append(
            f"Too few groups: {main.n_groups} for {len(counts)} classes{least}. "
            f"Add movies, shots or albums: about {FEW_GROUPS} or more for each class."
        )
    if training is not None and training.accuracy < (1 + training.baseline.accuracy) / 2:
        found.append(
            f"The classes cannot be told apart even in the training frames ({100 * training.accuracy:.1f} %): their "
            "pictures look alike, or labels are mixed up."
        )
    elif training is not None:
        found.append(
            f"The training frames are told apart ({100 * training.accuracy:.1f} %), frames of other groups are not: "
            "the labels may mean nothing that can be seen, or follow something else, such as the movie."
        )
    if main.baseline.accuracy > UNEVEN:
        found.append(
            f"{100 * main.baseline.accuracy:.0f} % of the frames are {main.baseline.name!r}: the balanced accuracy, "
            f"{100 * main.balanced_accuracy:.1f} %, says more; more frames of others help, or class_weight='balanced' "
            "(--class-weight balanced)."
        )
    return found


def groups_by_class(figure: Any) -> dict[str, int]:
    """Return the number of groups of each class that has frames."""
    result = getattr(figure, "mean", figure)
    pairs = np.unique(np.stack([result.targets.astype(str), result.groups], axis=1), axis=0)
    numbers, counts = np.unique(pairs[:, 0].astype(int), return_counts=True)
    return {result.classes[number]: int(count) for number, count in zip(numbers, counts, strict=True)}
