"""What labels and groups must be, for every estimator."""

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from framecnn.typing import Array

__all__ = ["encode_groups", "encode_labels"]


def encode_labels(who: str, y: Any, n_samples: int) -> tuple[Array, Array]:
    """Give the classes in order, (n_classes,), and the class number of every sample, (n_samples,).

    Raises
    ------
    ValueError
        If y is None, has another length, holds NaN, numbers that are no classes, or fewer than two classes.
    """
    if y is None:
        raise ValueError(f"{who}: expected a label a sample (requires y to be passed, but the target y is None)")
    y = column_or_1d(y, warn=True)
    if len(y) != n_samples:
        raise ValueError(f"{who}: expected a label a sample, got {n_samples} samples and {len(y)} labels")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"{who}: expected finite labels, got NaN or infinity")
    try:
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError as error:
        kinds = ", ".join(sorted({type(label).__name__ for label in y}))
        raise ValueError(f"{who}: expected labels of one type, got {kinds}") from error
    if len(classes) < 2:
        raise ValueError(f"{who}: expected at least two classes in y, got 1 class ({classes[0]!r})")
    return classes, codes


def encode_groups(who: str, groups: Any, n_samples: int) -> Array | None:
    """Give groups as numbers (n_samples,), None for None.

    Raises
    ------
    ValueError
        If there is not one group a sample.
    """
    if groups is None:
        return None
    if np.shape(groups) != (n_samples,):
        raise ValueError(f"{who}: expected a group a sample, shape ({n_samples},), got shape {np.shape(groups)}")
    return np.unique(groups, return_inverse=True)[1]
