"""Weights of samples by their class."""

import numpy as np

from framecnn.typing import Array

__all__ = ["balanced_weights"]


def balanced_weights(codes: Array) -> Array:
    """Return the weight of each sample, (n,), with which all classes count the same, as scikit-learn's "balanced".

    Examples
    --------
    >>> balanced_weights(np.array([0, 0, 0, 1])).round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]
    """
    sizes = np.bincount(codes)
    return len(codes) / (np.count_nonzero(sizes) * sizes[codes])
