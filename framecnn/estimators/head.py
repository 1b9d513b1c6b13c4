"""The k-means head: clusters in a discriminant space, labelled by the frames in them."""

import warnings

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from framecnn import kernels
from framecnn.estimators.ridge import choose_shrinkage, folds_by_group, ridge
from framecnn.kernels.linalg import squared_distances
from framecnn.kernels.threads import single_threaded_blas
from framecnn.typing import Array

__all__ = ["KMeansClassifier"]

SELECTION_ROWS = 4000
N_INIT = 5
FLOATS = (np.float64, np.float32)


class KMeansClassifier(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator):
    """Classify by the nearest cluster, where clusters carry the label of their training samples.

    Samples are projected to a discriminant space, one score a class, and clustered there by the scores that they get
    when their own group is left out, so that clusters lie where unseen samples will fall. Clusters keep to their class
    (constrained k-means: one cluster is the class mean). With ``projection=None`` k-means works on the features
    themselves and never looks at a label before its clusters are named after their members: the plain head.

    Parameters
    ----------
    clusters_per_class : int, default 1
        How many clusters are sought for each class.
    projection : "discriminant" (default) or None
    shrinkage : "auto" (default) or float
        Penalty of the projection in units of the summed variance of the features. "auto" picks it by leaving out
        groups.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    classes_ : (n_classes,) array
    cluster_centers_ : (n_clusters, n_classes) array
        In the discriminant space; (n_clusters, n_features) with ``projection=None``.
    cluster_labels_ : (n_clusters,) int array
        Index into ``classes_``: the class most frequent among a cluster's samples.
    labels_ : (n_samples,) int array
        Cluster of every training sample.
    prototypes_ : (n_clusters,) int array
        The training sample nearest to each centre.
    radius_ : (n_clusters,) array
        Distance within which 99 % of a cluster's training samples lie.
    shrinkage_ : float
    mean_, weights_, offset_ : arrays
        ``scores = (X - mean_) @ weights_ + offset_``.
    temperature_ : float
        Scale of distances in :meth:`predict_proba`, by maximum likelihood on the clustered scores.
    n_features_in_ : int

    References
    ----------
    Hastie, Buja & Tibshirani, "Penalized Discriminant Analysis", Annals of Statistics, 1995.
    Basu, Banerjee & Mooney, "Semi-supervised Clustering by Seeding", ICML 2002.

    Examples
    --------
    >>> X = np.array([[0.0, 0], [0, 1], [5, 5], [5, 6]])
    >>> KMeansClassifier(random_state=0).fit(X, ["a", "a", "b", "b"]).predict([[0, 0.5], [6, 6]]).tolist()
    ['a', 'b']
    """

    def __init__(self, clusters_per_class=1, *, projection="discriminant", shrinkage="auto", random_state=None):
        self.clusters_per_class = clusters_per_class
        self.projection = projection
        self.shrinkage = shrinkage
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Learn projection and clusters.

        Parameters
        ----------
        X : (n_samples, n_features) array
        y : (n_samples,) array of labels
        groups : (n_samples,) array, optional
            Samples of one group are alike and are left out together; by default every sample is its own group.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, X, y or groups does not fit, or y holds one class.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=FLOATS)
        check_classification_targets(y)
        groups = check_groups(groups, len(X))
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"KMeansClassifier: expected at least two classes in y, got 1 class ({self.classes_[0]!r})"
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        points = X if self.projection is None else self._fit_projection(X, codes, groups, seed)
        self._cluster(points, codes, seed)
        return self

    def _check_parameters(self):
        m = self.clusters_per_class
        if isinstance(m, bool) or not isinstance(m, int | np.integer) or m < 1:
            raise ValueError(f"KMeansClassifier: expected clusters_per_class as a positive whole number, got {m!r}")
        if self.projection not in ("discriminant", None):
            raise ValueError(f"KMeansClassifier: expected projection 'discriminant' or None, got {self.projection!r}")
        positive = isinstance(self.shrinkage, int | float) and 0 < self.shrinkage < np.inf
        if not positive and self.shrinkage != "auto":
            raise ValueError(
                f"KMeansClassifier: expected shrinkage 'auto' or a positive number, got {self.shrinkage!r}"
            )

    def _fit_projection(self, X, codes, groups, seed):
        """Set the projection; give the scores of every training sample by weights fitted without its fold."""
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(X.dtype)
        features = X - self.mean_
        indicators = np.eye(len(self.classes_))[codes]
        self.offset_ = indicators.mean(axis=0).astype(X.dtype)
        targets = indicators - indicators.mean(axis=0)
        if self.shrinkage == "auto":
            rows = selection_rows(codes, groups, SELECTION_ROWS, seed)
            chosen = choose_shrinkage(
                features[rows], targets[rows], codes[rows], None if groups is None else groups[rows], seed
            )
            self.shrinkage_ = chosen.shrinkage
        else:
            self.shrinkage_ = float(self.shrinkage)
        folds = folds_by_group(codes, groups, seed)
        weights, scores = ridge(features, targets, self.shrinkage_, folds)
        self.weights_ = np.ascontiguousarray(weights, X.dtype)
        return (scores + self.offset_).astype(X.dtype)

    def _cluster(self, points, codes, seed):
        if self.projection is None:
            self.cluster_centers_, assigned = self._centres(points, self.clusters_per_class * len(self.classes_), seed)
            members = [
                np.bincount(codes[assigned == k], minlength=len(self.classes_)) for k in range(assigned.max() + 1)
            ]
            self.cluster_labels_ = np.argmax(members, axis=1)
        else:
            parts = [points[codes == code] for code in range(len(self.classes_))]
            centres = [self._centres(part, self.clusters_per_class, seed)[0] for part in parts]
            self.cluster_centers_ = np.concatenate(centres)
            self.cluster_labels_ = np.repeat(np.arange(len(centres)), [len(c) for c in centres])
        squares = squared_distances(points, self.cluster_centers_)
        self.labels_ = squares.argmin(axis=1)
        self.prototypes_ = squares.argmin(axis=0)
        nearest = np.sqrt(squares.min(axis=1))
        own = [nearest[self.labels_ == k] for k in range(len(self.cluster_centers_))]
        self.radius_ = np.array([np.quantile(distances if len(distances) else nearest, 0.99) for distances in own])
        self.temperature_ = self._fit_temperature(squares, codes)
        self._n_features_out = len(self.cluster_centers_)

    def _centres(self, points, wanted, seed):
        """Give k-means centres (k, d) of points and the cluster of every point; fewer where fewer points differ."""
        distinct = min(wanted, len(np.unique(points, axis=0)))
        if distinct < wanted:
            message = f"KMeansClassifier: {wanted} clusters were asked of {distinct} distinct samples; made {distinct}"
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        with single_threaded_blas():
            clustering = KMeans(distinct, n_init=N_INIT, random_state=seed).fit(points)
        return np.ascontiguousarray(clustering.cluster_centers_, points.dtype), clustering.labels_

    def _fit_temperature(self, squares, codes):
        by_class = self._nearest_by_class(squares.astype(np.float64))
        scale = np.median(by_class.min(axis=1)) or np.median(by_class[np.isfinite(by_class)]) or 1.0

        def surprise(log_temperature):
            return -np.log(
                _softmax(-by_class / (scale * np.exp(log_temperature)))[np.arange(len(codes)), codes] + 1e-12
            ).mean()

        return float(scale * np.exp(minimize_scalar(surprise, bounds=(-8, 8), method="bounded").x))

    def _nearest_by_class(self, squares):
        """Squared distance to the nearest cluster of each class (n, n_classes); infinite for a class without one."""
        by_class = np.full((len(squares), len(self.classes_)), np.inf)
        for cluster, label in enumerate(self.cluster_labels_):
            by_class[:, label] = np.minimum(by_class[:, label], squares[:, cluster])
        return by_class

    def _project(self, X):
        if self.projection is None:
            return X
        return kernels.dense(X - self.mean_, self.weights_, self.offset_)

    def _squared_distances(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        dtype = self.cluster_centers_.dtype
        return squared_distances(self._project(X.astype(dtype, copy=False)), self.cluster_centers_)

    def transform(self, X):
        """Give the distance of every sample to every cluster, (n_samples, n_clusters), in the space of the clusters."""
        return np.sqrt(self._squared_distances(X))

    def predict(self, X):
        """Give the label of the nearest cluster, (n_samples,)."""
        return self.classes_[self.cluster_labels_[self._squared_distances(X).argmin(axis=1)]]

    def predict_proba(self, X):
        """Give probabilities (n_samples, n_classes), highest for the label that :meth:`predict` gives.

        Softmax of minus the squared distance to the nearest cluster of each class over ``temperature_``.
        """
        return self.probabilities(self.transform(X))

    def probabilities(self, distances):
        """Give the probabilities (n_samples, n_classes) of samples whose distances :meth:`transform` gave."""
        squares = np.square(distances, dtype=np.float64)
        return _softmax(-self._nearest_by_class(squares) / self.temperature_)

    def reject(self, X):
        """Say which samples are unlike all training samples: farther from the nearest cluster than its ``radius_``.

        Returns
        -------
        (n_samples,) bool array
        """
        distances = self.transform(X)
        nearest = distances.argmin(axis=1)
        return distances[np.arange(len(distances)), nearest] > self.radius_[nearest]


def _softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def check_groups(groups: Array | None, n_samples: int) -> Array | None:
    """Give groups as numbers (n_samples,); a ValueError where their number differs."""
    if groups is None:
        return None
    if np.shape(groups) != (n_samples,):
        raise ValueError(f"groups: expected one a sample, shape ({n_samples},), got shape {np.shape(groups)}")
    return np.unique(groups, return_inverse=True)[1]


def selection_rows(codes: Array, groups: Array | None, limit: int, seed: int) -> Array:
    """Give sorted row numbers, whole groups at random until about `limit` rows; all rows where they are no more."""
    if len(codes) <= limit:
        return np.arange(len(codes))
    groups = np.arange(len(codes)) if groups is None else groups
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    sizes = np.bincount(groups)[order]
    kept = order[: max(1, int(np.searchsorted(np.cumsum(sizes), limit, side="right")))]
    return np.flatnonzero(np.isin(groups, kept))
