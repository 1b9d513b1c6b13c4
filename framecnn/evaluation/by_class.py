"""Precision, recall and F1 of each class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from framecnn.typing import Array

__all__ = ["ClassFigures", "class_figures"]


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class.

    Parameters
    ----------
    support : int
        The number of its frames.
    precision : float
        The share of the frames predicted as this class that belong to it; NaN if none is predicted.
    recall : float
        The share of its frames with a correct prediction; NaN without frames.
    f1 : float
        The harmonic mean of precision and recall; NaN without frames and predictions.
    """

    support: int
    precision: float
    recall: float
    f1: float


def class_figures(targets: Array, predictions: Array, classes: Sequence[str]) -> dict[str, ClassFigures]:
    """Return the figures of each class, by its name.

    Parameters
    ----------
    targets, predictions : array of int, shape (n,)
        The true and the predicted class of each frame.
    classes : sequence of str

    Returns
    -------
    dict

    Examples
    --------
    >>> class_figures(np.array([0, 1, 1]), np.array([0, 0, 1]), ["day", "night"])["day"]
    ClassFigures(support=1, precision=0.5, recall=1.0, f1=0.6666666666666666)
    """
    from sklearn.metrics import precision_recall_fscore_support

    if not len(targets):
        return {name: ClassFigures(0, np.nan, np.nan, np.nan) for name in classes}
    labels = np.arange(len(classes))
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, predictions, labels=labels, zero_division=np.nan
    )
    rows = zip(classes, support.tolist(), precision.tolist(), recall.tolist(), f1.tolist(), strict=True)
    return {name: ClassFigures(*figures) for name, *figures in rows}
