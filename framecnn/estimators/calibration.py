"""Calibration of probabilities on held-out samples."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from framecnn.typing import Array

__all__ = ["fit_temperature"]

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
