"""The discriminant projection: features to one score per class, by ridge regression on one-hot targets."""

from typing import NamedTuple

import numpy as np

from framecnn.data.shards import Shards, as_shards
from framecnn.estimators.ridge import Folds, choose_alpha, ridge
from framecnn.estimators.sums import class_means, mean_of
from framecnn.typing import Array

__all__ = ["Projection", "fit_projection"]

MIN_SHRINKAGE = 0.05  # of fitted class means where held-out means lie in other directions


class Projection(NamedTuple):
    """``scores = (X - mean) @ weights + offset``, and the ridge penalty with which it was fitted.

    Shapes: mean (d,), weights (d, n_classes), offset (n_classes,).
    """

    mean: Array
    weights: Array
    offset: Array
    alpha: float


def fit_projection(
    X: Shards,
    codes: Array,
    groups: Array | None,
    weights: Array | None,
    alpha: float | str,
    selection: Array,
    folds: Folds,
    seed: int,
) -> tuple[Projection, Array, Array]:
    """Return the projection, the held-out scores of the samples (n, n_classes), and the points to cluster.

    The points are the held-out scores, unless these are inverted; see :func:`_points_to_cluster`.

    Shapes: X (n, d), codes (n,) class numbers, groups (n,) or None, weights (n,) of samples or None. With ``alpha``
    "auto" the penalty is chosen on the rows `selection`; scores are held out by `folds`.
    """
    indicators = np.eye(codes.max() + 1)[codes]
    prior = np.average(indicators, axis=0, weights=weights)
    mean = mean_of(X, weights).astype(X.dtype)
    features, targets = X.centred(mean, weights), indicators - prior
    if alpha == "auto":
        own_groups, own_weights = (None if of_all is None else of_all[selection] for of_all in (groups, weights))
        chosen = choose_alpha(
            features.held(selection), targets[selection], codes[selection], own_groups, seed, own_weights
        )
        alpha = chosen.alpha
    solution, scores = ridge(features, targets, float(alpha), folds, weights)
    projection = Projection(mean, np.ascontiguousarray(solution, X.dtype), prior.astype(X.dtype), float(alpha))
    points = _points_to_cluster(scores, features, solution, codes)
    return projection, (scores + prior).astype(X.dtype), (points + prior).astype(X.dtype)


def _points_to_cluster(scores: Array, features: Shards, solution: Array, codes: Array) -> Array:
    """Return held-out scores, moved class by class to the shrunk fitted means of the classes if they are inverted.

    Of few samples the held-out means are so noisy that samples of one class may score lower for it than those of
    another class do; the clusters of the two would then be exchanged. The fitted means have the right order but lie too
    far apart, so they are shrunk by a factor: the median over the classes of held-out mean to fitted mean.

    Shapes: scores (n, n_classes), features (n, d), solution (d, n_classes), codes (n,) class numbers.
    """
    classes, codes = np.unique(codes, return_inverse=True)
    means = class_means(as_shards(scores), codes)
    own = np.eye(scores.shape[1], dtype=bool)[classes]
    if (means[own] > np.where(own, -np.inf, means).max(axis=0)[classes]).all():
        return scores
    fitted = class_means(features, codes) @ solution
    lengths = np.square(fitted).sum(axis=1)
    shrinkage = np.median((means * fitted).sum(axis=1) / np.where(lengths > 0, lengths, 1))
    return scores + (max(shrinkage, MIN_SHRINKAGE) * fitted - means)[codes]
