"""What would most probably raise an accuracy, or make it more certain, as a report finds it."""

from typing import Any

import numpy as np

from framecnn.evaluation.verdict import FEW_GROUPS, groups_by_class
from framecnn.text import counted, listed

__all__ = ["next_steps"]

LARGEST_SHARE = 0.5  # of the frames of a class that are classified as one other class, before it is named
LARGEST_WIDTH = 0.1  # of the 95 % interval, before more groups are advised
SHOWN = 3  # classes that are named for one reason


def next_steps(main: Any, n_suspects: int = 0, has_conflicts: bool = False) -> list[str]:
    """Return what to do next about a result, what matters most first.

    Parameters
    ----------
    main : EvaluationResult or OutOfFoldEstimate
        The main figure.
    n_suspects : int, default 0
        The number of frames whose label is probably wrong.
    has_conflicts : bool, default False
        Whether frames of several classes have the same pixels.

    Returns
    -------
    list of str
        Sentences; one that says how to try the model on new frames if nothing else is to do.

    Examples
    --------
    >>> from framecnn.evaluation import EvaluationResult
    >>> targets, groups = np.repeat([0, 1], 40), np.arange(80).astype(str)
    >>> always_night = np.tile([0.2, 0.8], (80, 1))
    >>> next_steps(EvaluationResult("test", ("day", "night"), targets, always_night, groups))[0][:81]
    "40 of 40 frames of 'day' are classified as 'night': look at them in the confusion"
    """
    result = getattr(main, "mean", main)
    found = []
    if has_conflicts:
        found.append("Decide to which class the frames of the label conflict belong, and remove them from the other.")
    found += [*_mistaken_classes(result), *_few_groups(main)]
    if n_suspects:
        found.append(
            f"{counted(n_suspects, 'frame')} may have a wrong label: look at them below. If labels are wrong, write "
            "the right ones to a table (--labels CSV) and train again."
        )
    low, high = main.interval
    if high - low > LARGEST_WIDTH:
        found.append(
            f"The 95 % interval is {100 * (high - low):.0f} points wide: add groups, such as shots of other movies, to "
            "make it narrower."
        )
    return found or [
        "Nothing stands out. Try the model on frames of movies that it has never seen: framecnn evaluate MODEL FOLDER."
    ]


def _mistaken_classes(result: Any) -> list[str]:
    """Return a sentence for each class most of whose frames are classified as one other class, the worst first."""
    confusion = result.confusion
    n_frames = confusion.sum(axis=1)
    wrong = confusion * (1 - np.eye(len(confusion), dtype=int))
    shares = wrong.max(axis=1, initial=0) / np.maximum(n_frames, 1)
    found = []
    for truth in np.argsort(-shares, kind="stable")[:SHOWN].tolist():
        if shares[truth] > LARGEST_SHARE:
            other = int(wrong[truth].argmax())
            name, predicted = result.classes[truth], result.classes[other]
            found.append(
                f"{wrong[truth, other]:,} of {counted(int(n_frames[truth]), 'frame')} of {name!r} are classified as "
                f"{predicted!r}: look at them in the confusion matrix. If both classes look alike to you too, merge "
                f"them; otherwise add different frames of {name!r}."
            )
    return found


def _few_groups(main: Any) -> list[str]:
    """Return a sentence about the classes with few groups, if there are any."""
    few = {name: number for name, number in groups_by_class(main).items() if number < FEW_GROUPS}
    if not few:
        return []
    shown = [f"{name!r} ({number})" for name, number in sorted(few.items(), key=lambda item: item[1])]
    return [
        f"Add groups (movies, shots or albums) to classes that have few of them here: {listed(shown, SHOWN)}. With "
        f"{FEW_GROUPS} or more of each, the figures of a class mean something."
    ]
