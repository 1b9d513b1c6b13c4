"""The discriminant projection: features to one score per class, by ridge regression on one-hot targets."""

from typing import NamedTuple

import numpy as np

from framecnn.estimators.ridge import Folds, choose_alpha, ridge
from framecnn.typing import Array

__all__ = ["Projection", "fit_projection"]


class Projection(NamedTuple):
    """``scores = (X - mean) @ weights + offset``, and the ridge penalty with which it was fitted.

    Shapes: mean (d,), weights (d, n_classes), offset (n_classes,).
    """

    mean: Array
    weights: Array
    offset: Array
    alpha: float


def fit_projection(
    X: Array,
    codes: Array,
    groups: Array | None,
    weights: Array | None,
    alpha: float | str,
    selection: Array,
    folds: Folds,
    seed: int,
) -> tuple[Projection, Array]:
    """Return the projection, and the held-out scores of the samples (n, n_classes).

    Shapes: X (n, d), codes (n,) class numbers, groups (n,) or None, weights (n,) of samples or None. With ``alpha``
    "auto" the penalty is chosen on the rows `selection`; scores are held out by `folds`.
    """
    indicators = np.eye(codes.max() + 1)[codes]
    prior = np.average(indicators, axis=0, weights=weights)
    mean = (X.mean(axis=0, dtype=np.float64) if weights is None else weights @ X / weights.sum()).astype(X.dtype)
    features, targets = X - mean, indicators - prior
    if alpha == "auto":
        own_groups, own_weights = (None if of_all is None else of_all[selection] for of_all in (groups, weights))
        chosen = choose_alpha(features[selection], targets[selection], codes[selection], own_groups, seed, own_weights)
        alpha = chosen.alpha
    solution, scores = ridge(features, targets, float(alpha), folds, weights)
    projection = Projection(mean, np.ascontiguousarray(solution, X.dtype), prior.astype(X.dtype), float(alpha))
    return projection, (scores + prior).astype(X.dtype)
