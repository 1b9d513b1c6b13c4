"""Checks of labels, groups and seeds that all estimators share."""

from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from framecnn.errors import FormatError
from framecnn.typing import Array

__all__ = ["as_random_state", "check_known", "check_overflow", "encode_groups", "encode_labels"]

SHOWN_LABELS = 10


def as_random_state(who: str, value: Any) -> np.random.RandomState:
    """Return the generator of `random_state`, or raise a ValueError that names the estimator."""
    try:
        return check_random_state(value)
    except ValueError as error:
        raise ValueError(
            f"{who}: expected random_state as None, a RandomState or an integer from 0 to {2**32 - 1:,}, got {value!r}"
        ) from error


def check_overflow(who: str, what: str, found: Any) -> None:
    """Raise FormatError where finite input gave NaN or infinity: the input is huge, or the weights are forged."""
    if not np.isfinite(found).all():
        raise FormatError(
            f"{who}: expected finite {what} of finite input, got NaN or infinity: the input or the weights of the "
            "model are too large; give other input, or train again"
        )


def encode_labels(who: str, y: Any, n_samples: int) -> tuple[Array, Array]:
    """Return the classes in order, (n_classes,), and the class number of every sample, (n_samples,).

    Raises
    ------
    ValueError
        If y is None, has another length, holds None, NaN or fractional numbers, or has fewer than two classes.
    """
    if y is None:
        raise ValueError(f"{who}: expected a label a sample (requires y to be passed, but the target y is None)")
    y = column_or_1d(y, warn=True)
    if len(y) != n_samples:
        raise ValueError(f"{who}: expected a label a sample, got {n_samples} samples and {len(y)} labels")
    if y.dtype == object and all(label is None for label in y):
        raise ValueError(f"{who}: expected a label a sample, got None for all {len(y)} samples")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(f"{who}: expected finite labels, got NaN or infinity")
    try:
        check_classification_targets(y)
    except TypeError as error:
        raise _mixed(who, "labels", y) from error
    classes, codes = _numbered(who, "labels", y)
    if len(classes) < 2:
        raise ValueError(f"{who}: expected at least two classes in y, got 1 class ({classes.tolist()[0]!r})")
    return classes, codes


def encode_groups(who: str, groups: Any, n_samples: int) -> Array | None:
    """Return groups as integers (n_samples,), or None for None.

    Raises
    ------
    ValueError
        If the number of groups is not that of samples, or they are of several types.
    """
    if groups is None:
        return None
    if np.shape(groups) != (n_samples,):
        raise ValueError(f"{who}: expected a group a sample, shape ({n_samples},), got shape {np.shape(groups)}")
    return _numbered(who, "groups", np.asarray(groups))[1]


def check_known(who: str, y: Any, classes: Array) -> None:
    """Raise ValueError unless the accuracy of a model can be measured with these labels.

    Raises
    ------
    ValueError
        If y is None, or holds a label that is not one of `classes`.
    """
    if y is None:
        raise ValueError(f"{who}: expected a label a sample, got y=None; give the true labels")
    known = dict.fromkeys(classes.tolist())
    unseen = dict.fromkeys(label for label in np.ravel(y).tolist() if label not in known)
    if unseen:
        raise ValueError(
            f"{who}: expected labels seen at fit ({_listed([*known])}), got {_listed([*unseen])}; leave them out"
        )


def _numbered(who: str, what: str, values: Array) -> tuple[Array, Array]:
    """Return the distinct values in order, and for each value its number among them."""
    try:
        distinct, numbers = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise _mixed(who, what, values) from error
    return distinct, numbers


def _mixed(who: str, what: str, values: Array) -> ValueError:
    kinds = ", ".join(sorted({type(value).__name__ for value in values}))
    return ValueError(f"{who}: expected {what} of one type, got {kinds}; make them all text, or all numbers")


def _listed(labels: list[Any]) -> str:
    rest = f" and {len(labels) - SHOWN_LABELS:,} more" if len(labels) > SHOWN_LABELS else ""
    return ", ".join(map(repr, labels[:SHOWN_LABELS])) + rest
