"""How far predicted probabilities agree with what is observed."""

from dataclasses import dataclass

import numpy as np

from framecnn.typing import Array

__all__ = ["Bin", "brier_score", "expected_calibration_error", "log_loss", "reliability"]

N_BINS = 15
SMALLEST = 1e-15  # keeps the logarithm of a probability of zero finite


@dataclass(frozen=True)
class Bin:
    """Frames of similar confidence.

    Parameters
    ----------
    n_frames : int
    confidence : float
        The mean probability of the predicted class.
    accuracy : float
        The share of correct predictions.
    """

    n_frames: int
    confidence: float
    accuracy: float


def brier_score(targets: Array, probabilities: Array) -> float:
    """Return the mean squared distance between probabilities and one-hot targets, summed over classes: 0 to 2.

    Parameters
    ----------
    targets : array of int, shape (n,)
    probabilities : array, shape (n, n_classes)

    Returns
    -------
    float
        NaN without frames.

    References
    ----------
    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review, 1950.

    Examples
    --------
    >>> brier_score(np.array([0, 1]), np.array([[1, 0], [0.5, 0.5]]))
    0.25
    """
    if not len(targets):
        return float("nan")
    return float(np.square(probabilities - np.eye(probabilities.shape[1])[targets]).sum(axis=1).mean())


def log_loss(targets: Array, probabilities: Array) -> float:
    """Return the mean negative log-likelihood of the true classes, in nats; probabilities of 0 count as 1e-15.

    Parameters
    ----------
    targets : array of int, shape (n,)
    probabilities : array, shape (n, n_classes)

    Returns
    -------
    float
        NaN without frames.

    Examples
    --------
    >>> round(log_loss(np.array([0, 1]), np.array([[1, 0], [0.5, 0.5]])), 4)
    0.3466
    """
    if not len(targets):
        return float("nan")
    likelihood = probabilities[np.arange(len(targets)), targets]
    return float(np.log(1 / np.clip(likelihood, SMALLEST, 1)).mean())


def reliability(confidences: Array, correct: Array, n_bins: int = N_BINS) -> list[Bin]:
    """Return bins of equally many frames by confidence, from the least to the most confident.

    Parameters
    ----------
    confidences : array of float, shape (n,)
        The probability of each prediction.
    correct : array of bool, shape (n,)
        Whether each prediction is correct. Frames of equal confidence count with their mean, so that the order of the
        frames does not matter.
    n_bins : int, default 15
        The number of bins; with fewer frames, each is a bin.

    Returns
    -------
    list of Bin

    Examples
    --------
    >>> reliability(np.array([0.5, 0.5, 0.9, 0.9]), np.array([True, False, True, True]), n_bins=2)
    [Bin(n_frames=2, confidence=0.5, accuracy=0.5), Bin(n_frames=2, confidence=0.9, accuracy=1.0)]
    """
    levels, level = np.unique(confidences, return_inverse=True)
    share = np.bincount(level, weights=correct) / np.bincount(level)
    order = np.argsort(confidences, kind="stable")
    return [
        Bin(len(rows), float(levels[level[rows]].mean()), float(share[level[rows]].mean()))
        for rows in np.array_split(order, min(n_bins, max(1, len(order))))
        if len(rows)
    ]


def expected_calibration_error(confidences: Array, correct: Array) -> float:
    """Return the mean difference between confidence and accuracy over 15 bins of equally many frames, 0 to 1.

    Parameters
    ----------
    confidences : array of float, shape (n,)
        The probability of each prediction.
    correct : array of bool, shape (n,)
        Whether each prediction is correct.

    Returns
    -------
    float
        NaN without frames.

    References
    ----------
    Nguyen & O'Connor, "Posterior calibration and exploratory analysis for natural language processing models",
    EMNLP 2015 (bins of equal count).

    Examples
    --------
    >>> expected_calibration_error(np.array([1.0, 1, 1, 1]), np.array([True, True, True, False]))
    0.25
    """
    if not len(confidences):
        return float("nan")
    bins = reliability(confidences, correct)
    return sum(own.n_frames * abs(own.confidence - own.accuracy) for own in bins) / len(confidences)
