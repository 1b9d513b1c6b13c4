"""Clusters of samples by k-means, each labelled with a class."""

from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans

from framecnn.data.shards import Shards
from framecnn.estimators.selection import selection_rows
from framecnn.kernels.linalg import squared_distances
from framecnn.typing import Array

__all__ = ["Clusters", "cluster_all", "cluster_by_class", "nearest_by_class", "squares_to"]

N_INIT = 5
MOST_POINTS = 8192  # from which clusters without labels are found


class Clusters(NamedTuple):
    """Centres (k, d), the class number of each centre (k,), and the cluster of each sample (n,)."""

    centers: Array
    labels: Array
    assigned: Array


def cluster_by_class(points: Array, codes: Array, per_class: int, seed: int) -> Clusters:
    """Return up to `per_class` clusters of each class, found among its samples alone (constrained k-means).

    Shapes: points (n, d), codes (n,) class numbers; a class without samples gets no cluster.
    """
    centers: list[Array] = []
    labels: list[int] = []
    assigned = np.empty(len(points), np.int64)
    for code in np.unique(codes):
        own, members = k_means(points[codes == code], per_class, seed)
        assigned[codes == code] = members + len(labels)
        centers.append(own)
        labels += [code] * len(own)
    return Clusters(np.concatenate(centers), np.array(labels, np.int64), assigned)


def cluster_all(points: Shards, codes: Array, wanted: int, seed: int, weights: Array | None) -> Clusters:
    """Return up to `wanted` k-means clusters, each labelled with the class that has the largest weight in it.

    Of more than 8,192 points, clusters are found on as many random ones, and the others go to the nearest cluster.

    Shapes: points (n, d), codes (n,) class numbers, weights (n,) of samples, or None if all count the same.
    """
    rows = selection_rows(len(points), None, MOST_POINTS, seed)
    centers, assigned = k_means(points.held(rows)[:], wanted, seed, None if weights is None else weights[rows])
    if len(rows) < len(points):
        kept, assigned = np.unique(squares_to(points, centers).argmin(axis=1), return_inverse=True)
        centers = centers[kept]
    members = np.zeros((len(centers), codes.max() + 1))
    np.add.at(members, (assigned, codes), 1 if weights is None else weights)
    return Clusters(centers, members.argmax(axis=1), assigned)


def squares_to(points: Shards, centers: Array) -> Array:
    """Return the squared distance of each point (n, d) to each centre (k, d), (n, k)."""
    return np.concatenate(list(points.each(lambda block: squared_distances(block, centers))))


def k_means(points: Array, wanted: int, seed: int, weights: Array | None = None) -> tuple[Array, Array]:
    """Return centres (k, d) and the cluster of each point (n,); fewer than `wanted` if fewer points differ."""
    if wanted == 1:
        return points.mean(axis=0, keepdims=True, dtype=np.float64).astype(points.dtype), np.zeros(len(points), int)
    distinct: set[bytes] = set()
    for row in points:
        distinct.add((row + 0).tobytes())  # + 0 turns -0 into 0
        if len(distinct) == wanted:
            break
    clustering = KMeans(len(distinct), n_init=N_INIT, random_state=seed).fit(points, sample_weight=weights)
    kept, assigned = np.unique(clustering.labels_, return_inverse=True)
    return np.ascontiguousarray(clustering.cluster_centers_[kept], points.dtype), assigned


def nearest_by_class(squares: Array, labels: Array, n_classes: int) -> Array:
    """Return squared distances to the nearest cluster of each class (n, n_classes), infinite if it has none.

    Shapes: squares (n, k) squared distances to clusters, labels (k,) their class numbers.

    Examples
    --------
    >>> nearest_by_class(np.array([[4.0, 1.0, 9.0]]), np.array([0, 0, 1]), 3)
    array([[ 1.,  9., inf]])
    """
    by_class = np.full((len(squares), n_classes), np.inf)
    for cluster, label in enumerate(labels):
        by_class[:, label] = np.minimum(by_class[:, label], squares[:, cluster])
    return by_class
