"""Calibration of probabilities on held-out samples."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from framecnn.estimators.ridge import Folds
from framecnn.typing import Array

__all__ = ["fit_temperature", "held_out_by_fold"]

TINY = 1e-12  # keeps the logarithm of a likelihood of zero finite


def fit_temperature(squares: Array, codes: Array, weights: Array | None = None) -> float:
    """Return the temperature t with the highest likelihood of ``softmax(-squares / t)``.

    Shapes: squares (n, n_classes) squared distances to classes, codes (n,) true class numbers, weights (n,) of samples.
    """
    finite = squares[np.isfinite(squares)]
    scale = np.median(squares.min(axis=1)) or np.median(finite) or 1.0

    def negative_log_likelihood(log_temperature: float) -> float:
        likelihood = softmax(-squares / (scale * np.exp(log_temperature)), axis=1)[np.arange(len(codes)), codes]
        return -float(np.average(np.log(likelihood + TINY), weights=weights))

    return float(scale * np.exp(minimize_scalar(negative_log_likelihood, bounds=(-8, 8), method="bounded").x))


def held_out_by_fold(
    without_fold: Callable[[Array, Array], Array], codes: Array, folds: Folds, n_classes: int
) -> Array:
    """Return ``without_fold(rows, rest)`` of the rows of each fold, (n, n_classes), where `rest` are all other rows.

    NaN for rows outside the folds, and for those whose class is not in `rest`, or alone in it: nothing that was fitted
    to `rest` can tell it apart.

    Shapes: codes (n,) class numbers; `without_fold` returns (len(rows), n_classes).
    """
    found = np.full((len(codes), n_classes), np.nan)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(codes)), fold)
        known = np.unique(codes[rest])
        rows = fold[np.isin(codes[fold], known)]
        if len(known) > 1 and len(rows):
            found[rows] = without_fold(rows, rest)
    return found
