"""Suspected wrong labels, found by confident learning on out-of-sample probabilities."""

from dataclasses import dataclass

import numpy as np

from framecnn.errors import ShapeError
from framecnn.typing import Array

__all__ = ["LabelErrors", "find_label_errors"]


@dataclass(frozen=True)
class LabelErrors:
    """Frames whose label is probably wrong, the most suspicious first.

    Parameters
    ----------
    rows : array of int, shape (n_suspects,)
        The rows of the frames.
    suggestions : array of int, shape (n_suspects,)
        The class that each frame seems to belong to.
    """

    rows: Array
    suggestions: Array


def find_label_errors(targets: Array, probabilities: Array) -> LabelErrors:
    """Return frames whose label is confidently contradicted: by confident learning.

    A frame counts as an example of the most probable class among those whose probability is at least the mean
    probability of that class on the frames labelled with it. It is a suspect if that class is not its label, and it is
    also predicted. Suspects are ranked by the difference between the probabilities of the label and of that class.

    Parameters
    ----------
    targets : array of int, shape (n,)
        The label of each frame, as an index of the columns of `probabilities`.
    probabilities : array, shape (n, n_classes)
        Out-of-sample probabilities: by a model that was not fitted on the frame or its group. Rows with NaN are left
        out.

    Returns
    -------
    LabelErrors

    Raises
    ------
    ShapeError
        If there is not one row of probabilities for each label.

    References
    ----------
    Northcutt, Jiang & Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
    >>> find_label_errors(np.array([0, 0, 1, 1, 1]), probabilities)
    LabelErrors(rows=array([4]), suggestions=array([0]))
    """
    targets, probabilities = np.asarray(targets, np.int64), np.asarray(probabilities, float)
    if probabilities.ndim != 2 or targets.shape != probabilities.shape[:1]:
        raise ShapeError(
            f"find_label_errors: expected one row of probabilities for each of the {targets.size} labels, got shape "
            f"{probabilities.shape}"
        )
    used = np.flatnonzero(~np.isnan(probabilities).any(axis=1))
    labels, shares = targets[used], probabilities[used]
    one_hot = np.eye(shares.shape[1])[labels]
    sizes = one_hot.sum(axis=0)
    thresholds = np.where(sizes > 0, (one_hot * shares).sum(axis=0) / np.maximum(sizes, 1), np.inf)
    confident = np.where(shares >= thresholds, shares, -1.0)
    found = confident.argmax(axis=1) if len(shares) else np.zeros(0, np.int64)
    is_suspect = (confident.max(axis=1, initial=-1) > 0) & (found != labels) & (found == shares.argmax(axis=1))
    rows = np.flatnonzero(is_suspect)
    margins = shares[rows, labels[rows]] - shares[rows, found[rows]]
    rows = rows[np.argsort(margins, kind="stable")]
    return LabelErrors(used[rows], found[rows])
