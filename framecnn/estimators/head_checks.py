"""Checks of the parameters of the k-means head, and of its arrays from a file."""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from framecnn.arguments import check_count, check_number
from framecnn.data.shards import Shards, as_shards
from framecnn.errors import SettingError
from framecnn.estimators.checks import FLOATS
from framecnn.storage.model_file import expect
from framecnn.typing import Shape

__all__ = ["check_head_arrays", "check_head_parameters", "checked_vectors", "names_of_arrays"]

CLUSTER_ARRAYS = ("cluster_centers", "cluster_labels", "prototypes")
PROJECTION_ARRAYS = ("mean", "weights", "offset")


def check_head_parameters(head: Any) -> None:
    """Raise SettingError unless every parameter has a valid value."""
    check_count("KMeansClassifier", "clusters_per_class", head.clusters_per_class)
    if not (head.projection is None or (isinstance(head.projection, str) and head.projection == "discriminant")):
        raise SettingError(f"KMeansClassifier: expected projection 'discriminant' or None, got {head.projection!r}")
    alpha = head.alpha
    positive = isinstance(alpha, Real) and not isinstance(alpha, bool) and 0 < float(alpha) < np.inf
    if not positive and not (isinstance(alpha, str) and alpha == "auto"):
        raise SettingError(f"KMeansClassifier: expected alpha 'auto' or a positive number, got {alpha!r}")
    weight = head.class_weight
    if not (weight is None or (isinstance(weight, str) and weight == "balanced")):
        raise SettingError(f"KMeansClassifier: expected class_weight None or 'balanced', got {weight!r}")
    if not 0 < check_number("KMeansClassifier", "false_alarm_rate", head.false_alarm_rate) < 1:
        raise SettingError(
            f"KMeansClassifier: expected false_alarm_rate between 0 and 1, got {head.false_alarm_rate!r}"
        )


def checked_vectors(head: Any, X: Any, dtype: Any = None) -> Shards:
    """Return feature vectors (n, d) as shards, of an array after the checks of scikit-learn.

    With the dtype of a fitted head they are checked to have as many features, and cast; without it, it is being fitted.
    """
    is_fit = dtype is None
    if isinstance(X, Shards):
        validate_data(head, X, reset=is_fit, skip_check_array=True)
        return X
    X = validate_data(head, X, dtype=FLOATS, reset=is_fit)
    return as_shards(X if is_fit else X.astype(dtype, copy=False))


def check_head_arrays(head: Any) -> None:
    """Raise FormatError unless the arrays of a head from a file fit together."""
    n_clusters, n_classes, n_features = len(head.cluster_centers_), len(head.classes_), head.n_features_in_
    shapes: dict[str, Shape] = {"cluster_centers": (n_clusters, n_classes if head.projection else n_features)}
    shapes |= dict.fromkeys(CLUSTER_ARRAYS[1:], (n_clusters,))
    if head.projection:
        shapes |= {"mean": (n_features,), "weights": (n_features, n_classes), "offset": (n_classes,)}
    for name, shape in shapes.items():
        expect(getattr(head, f"{name}_").shape == shape, f"head/{name} of shape {shape}")
    labels, prototypes, centers = head.cluster_labels_, head.prototypes_, head.cluster_centers_
    expect(labels.dtype == prototypes.dtype == np.int64, "int64 labels and prototypes of clusters")
    expect(
        min(labels.min(), prototypes.min()) >= 0 and labels.max() < n_classes,
        "labels and prototypes in range",
    )
    projection = [getattr(head, f"{name}_") for name in PROJECTION_ARRAYS if head.projection]
    same = all(array.dtype == centers.dtype for array in projection)
    expect(same and centers.dtype.kind == "f", "arrays of the same float dtype")
    space = head.outliers_.space
    n_learned = n_features - len(space.network_mean)
    expect(space.mean.shape == (n_learned,), f"outliers/mean of shape ({n_learned},)")
    expect(space.mean.dtype == centers.dtype, "outliers of the float dtype of the clusters")


def names_of_arrays(head: Any) -> tuple[str, ...]:
    """Return the names of the arrays of a head in a file, without those of outliers."""
    return CLUSTER_ARRAYS + PROJECTION_ARRAYS if head.projection else CLUSTER_ARRAYS
