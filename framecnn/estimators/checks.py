"""Checks of seeds, labels and groups that all estimators share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from framecnn.errors import FormatError, SettingError, ShapeError
from framecnn.typing import Array

__all__ = [
    "FLOATS",
    "LARGEST_NAMES",
    "MOST_NAMES",
    "as_random_state",
    "check_known",
    "check_names",
    "check_overflow",
    "encode_groups",
    "encode_labels",
    "size_of_names",
]

FLOATS = (np.float64, np.float32)
"""The dtypes of feature vectors; scikit-learn converts others to the first."""

LARGEST_NAMES, MOST_NAMES = 2**26, 2**20
"""Limits of the names of training samples: their bytes as an array of NumPy, and their number."""
SHOWN_LABELS = 10


def as_random_state(who: str, value: Any) -> np.random.RandomState:
    """Return the generator of `random_state`; for None a new one that the operating system seeds.

    scikit-learn's own function would return NumPy's global generator for None, which other code of the user shares.

    Raises
    ------
    SettingError
        If `value` is neither None nor an integer in 0..2**32 - 1 nor a generator.
    """
    if value is None:
        return np.random.RandomState()
    try:
        return check_random_state(value)
    except ValueError as error:
        raise SettingError(
            f"{who}: expected random_state as None, a RandomState or an integer from 0 to {2**32 - 1:,}, got {value!r}"
        ) from error


def check_overflow(who: str, what: str, found: Any) -> None:
    """Raise FormatError unless `found`, computed from finite input, is finite: input too large, or a forged file."""
    if not np.isfinite(found).all():
        raise FormatError(
            f"{who}: expected finite {what} for finite input, got NaN or infinity: the input or the weights of the "
            "model are too large; scale the input down, or train again"
        )


def encode_labels(who: str, y: Any, n_samples: int) -> tuple[Array, Array]:
    """Return the sorted classes, (n_classes,), and the class number of each sample, (n_samples,).

    Raises
    ------
    ShapeError
        If y is None, does not have one label per sample, holds None or NaN, mixes types, or has fewer than two classes.
    ValueError
        If y holds fractional numbers or has several columns.
    """
    if y is None:
        raise ShapeError(f"{who}: expected one label per sample (requires y to be passed, but the target y is None)")
    y = column_or_1d(y, warn=True)
    if len(y) != n_samples:
        raise ShapeError(f"{who}: expected one label per sample, got {n_samples} samples and {len(y)} labels")
    if y.dtype == object and all(label is None for label in y):
        raise ShapeError(f"{who}: expected one label per sample, got None for all {len(y)} samples")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ShapeError(f"{who}: expected finite labels, got NaN or infinity")
    try:
        check_classification_targets(y)
    except TypeError as error:
        raise _mixed(who, "labels", y) from error
    classes, codes = _numbered(who, "labels", y)
    if len(classes) < 2:
        raise ShapeError(f"{who}: expected at least two classes in y, got 1 class ({classes.tolist()[0]!r})")
    return classes, codes


def encode_groups(who: str, groups: Any, n_samples: int) -> Array | None:
    """Return groups as integers (n_samples,), or None for None.

    Raises
    ------
    ShapeError
        If there is not one group per sample, or groups are of several types.
    """
    if groups is None:
        return None
    if np.shape(groups) != (n_samples,):
        raise ShapeError(f"{who}: expected one group per sample, shape ({n_samples},), got shape {np.shape(groups)}")
    return _numbered(who, "groups", np.asarray(groups))[1]


def check_names(who: str, names: Any, n_samples: int) -> Array | None:
    """Return names as an array of str (n_samples,), or None for None.

    Raises
    ------
    ShapeError
        If there is not one name per sample, a name is no str, is empty or holds a NUL character, or the names are more
        or take more memory than a model file may hold.
    """
    if names is None:
        return None
    names = np.asarray(names)
    if names.shape != (n_samples,):
        raise ShapeError(f"{who}: expected one name per sample, shape ({n_samples},), got shape {names.shape}")
    found = names.tolist()
    for name in found:
        if not isinstance(name, str) or not name or "\0" in name:
            raise ShapeError(
                f"{who}: expected names that are str, not empty and without NUL characters, got {name!r}; convert them"
            )
    size = size_of_names([name.encode("utf-8", "surrogatepass") for name in found])
    if len(found) > MOST_NAMES or size > LARGEST_NAMES:
        raise ShapeError(
            f"{who}: expected at most {MOST_NAMES:,} names of {LARGEST_NAMES:,} bytes, got {len(found):,} of {size:,} "
            "(each counts as the longest one); shorten them, or fit without names"
        )
    return names.astype(str)


def size_of_names(names: Sequence[bytes]) -> int:
    """Return the most bytes that names in UTF-8 take as an array of NumPy: four for each character of the longest."""
    return 4 * len(names) * max(map(len, names), default=0)


def check_known(who: str, y: Any, classes: Array) -> None:
    """Check labels with which the accuracy of a model is to be measured.

    Raises
    ------
    ShapeError
        If y is None, or holds a label that is not one of `classes`.
    """
    if y is None:
        raise ShapeError(f"{who}: expected one label per sample, got y=None; pass the true labels")
    known = dict.fromkeys(classes.tolist())
    unseen = dict.fromkeys(label for label in np.ravel(y).tolist() if label not in known)
    if unseen:
        raise ShapeError(
            f"{who}: expected labels seen at fit ({_listed([*known])}), got {_listed([*unseen])}; drop their samples"
        )


def _numbered(who: str, what: str, values: Array) -> tuple[Array, Array]:
    """Return the sorted distinct values, and for each value its index among them."""
    try:
        distinct, numbers = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise _mixed(who, what, values) from error
    return distinct, numbers


def _mixed(who: str, what: str, values: Array) -> ShapeError:
    kinds = ", ".join(sorted({type(value).__name__ for value in values}))
    return ShapeError(f"{who}: expected {what} of one type, got {kinds}; make them all text, or all numbers")


def _listed(labels: list[Any]) -> str:
    rest = f" and {len(labels) - SHOWN_LABELS:,} more" if len(labels) > SHOWN_LABELS else ""
    return ", ".join(map(repr, labels[:SHOWN_LABELS])) + rest
