"""The k-means head: a classifier by clusters in a discriminant space, labelled by their samples."""

import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from framecnn import kernels
from framecnn.arguments import check_count
from framecnn.errors import SettingError
from framecnn.estimators.checks import (
    FLOATS,
    as_random_state,
    check_known,
    check_overflow,
    encode_groups,
    encode_labels,
)
from framecnn.estimators.ridge import choose_alpha, folds_by_group, ridge
from framecnn.estimators.saved_estimator import SavedEstimator
from framecnn.estimators.selection import selection_rows
from framecnn.estimators.snapshot import reads_snapshot, sets_atomically
from framecnn.estimators.state import as_number, as_parameters, classes_of, describe_classes, describe_parameters
from framecnn.kernels.linalg import squared_distances
from framecnn.kernels.threads import single_threaded_blas
from framecnn.storage.model_file import Description, State, expect
from framecnn.typing import Array, Shape

__all__ = ["KMeansClassifier"]

N_INIT = 5
WITHIN_RADIUS = 0.99
TINY = 1e-12  # keeps the logarithm of a likelihood of zero finite
CLUSTER_ARRAYS = ("cluster_centers", "cluster_labels", "prototypes", "radius")
PROJECTION_ARRAYS = ("mean", "weights", "offset")


class KMeansClassifier(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, SavedEstimator):
    """A classifier by the nearest cluster; a cluster is labelled with the class of its training samples.

    Samples are projected to a discriminant space with one score per class. To be scored like new samples, training
    samples get scores from a projection fitted without their group. Each class is clustered separately (constrained
    k-means; a single cluster is the class mean). With ``projection=None``, the plain head, k-means clusters the
    features themselves without labels, and each cluster gets the label of most of its members.

    Parameters
    ----------
    clusters_per_class : int, default 1
        The number of clusters to find for each class.
    projection : "discriminant" (default) or None
    alpha : "auto" (default) or float
        Penalty of the projection in units of the summed variance of the features. "auto" chooses it by the
        accuracy on held-out groups.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    classes_ : (n_classes,) array
    cluster_centers_ : (n_clusters, n_classes) array
        In the discriminant space; (n_clusters, n_features) with ``projection=None``.
    cluster_labels_ : (n_clusters,) int array
        Index into ``classes_``: the class of the cluster's samples, the most frequent one with ``projection=None``.
    labels_ : (n_samples,) int array
        The cluster of each training sample.
    prototypes_ : (n_clusters,) int array
        For each cluster, the row of the member sample nearest to its centre.
    radius_ : (n_clusters,) array
        For each cluster, the 99th percentile of its distances to the training samples that are nearest to it.
    alpha_ : float
    mean_, weights_, offset_ : arrays
        ``scores = (X - mean_) @ weights_ + offset_``.
    temperature_ : float
        Scale of squared distances in :meth:`predict_proba`, fitted by maximum likelihood on the clustered scores.
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

    max_selection_rows = 2000
    """The largest number of samples on which the ridge penalty is chosen."""

    def __init__(
        self,
        clusters_per_class: int = 1,
        *,
        projection: str | None = "discriminant",
        alpha: float | str = "auto",
        random_state: Any = None,
    ):
        self.clusters_per_class = clusters_per_class
        self.projection = projection
        self.alpha = alpha
        self.random_state = random_state

    @sets_atomically
    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit projection and clusters.

        Parameters
        ----------
        X : (n_samples, n_features) array
        y : (n_samples,) array of labels
        groups : (n_samples,) array, optional
            Samples of one group resemble each other and are held out together. By default each sample is its own group.

        Returns
        -------
        self

        Raises
        ------
        SettingError
            If a parameter has an invalid value.
        ShapeError, ValueError
            If X, y or groups does not fit, X holds NaN or infinity, or y holds fewer than two classes.

        Warns
        -----
        ConvergenceWarning
            If there are fewer distinct samples than clusters; fewer clusters are made then.
        """
        self.check_parameters()
        X = validate_data(self, X, dtype=FLOATS)
        self.classes_, codes = encode_labels("KMeansClassifier", y, len(X))
        groups = encode_groups("KMeansClassifier", groups, len(X))
        seed = int(as_random_state("KMeansClassifier", self.random_state).randint(2**31 - 1))
        # OpenMP's limit belongs to the calling thread
        with single_threaded_blas(), threadpool_limits(1, user_api="openmp"):
            points = X if self.projection is None else self._fit_projection(X, codes, groups, seed)
            self._cluster(points, codes, seed)
        return self

    @reads_snapshot
    def transform(self, X: Any) -> Array:
        """Return the distance of every sample to every cluster, in the space of the clusters.

        Parameters
        ----------
        X : (n_samples, n_features) array

        Returns
        -------
        (n_samples, n_clusters) float64 array
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False).astype(self.cluster_centers_.dtype, copy=False)
        with np.errstate(over="ignore", invalid="ignore"):
            distances = np.sqrt(squared_distances(self._project(X), self.cluster_centers_))
        check_overflow("KMeansClassifier", "distances", distances)
        return distances

    @reads_snapshot
    def predict(self, X: Any) -> Array:
        """Return the label of the nearest cluster.

        Parameters
        ----------
        X : (n_samples, n_features) array

        Returns
        -------
        (n_samples,) array of labels
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    @reads_snapshot
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class: the softmax of ``-distance**2 / temperature_``.

        The distance of a class is that to its nearest cluster. :meth:`predict` returns the most probable class.

        Parameters
        ----------
        X : (n_samples, n_features) array

        Returns
        -------
        (n_samples, n_classes) array
            In the order of ``classes_``; zero for a class without a cluster.
        """
        return self.probabilities(self.transform(X))

    def probabilities(self, distances: Array) -> Array:
        """Return the probabilities of :meth:`predict_proba` for distances of :meth:`transform`.

        Parameters
        ----------
        distances : (n_samples, n_clusters) array

        Returns
        -------
        (n_samples, n_classes) array
        """
        return softmax(-self._nearest_by_class(np.square(distances)) / self.temperature_, axis=1)

    @reads_snapshot
    def reject(self, X: Any) -> Array:
        """Return which samples are out-of-distribution: farther from the nearest cluster than its ``radius_``.

        Parameters
        ----------
        X : (n_samples, n_features) array

        Returns
        -------
        (n_samples,) bool array
        """
        distances = self.transform(X)
        return distances.min(axis=1) > self.radius_[distances.argmin(axis=1)]

    @reads_snapshot
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the share of samples whose predicted label is right.

        Parameters
        ----------
        X : (n_samples, n_features) array
        y : (n,) array of labels
        sample_weight : (n,) array, optional

        Returns
        -------
        float

        Raises
        ------
        ShapeError
            If y is None, or holds a label that was not seen at fit, which no prediction can equal.
        """
        check_is_fitted(self)
        check_known("KMeansClassifier", y, self.classes_)
        return super().score(X, y, sample_weight)

    def fitted_state(self) -> State:
        """Return parameters, classes, temperature and penalty, and the arrays of clusters and projection."""
        check_is_fitted(self)
        description = {
            "parameters": describe_parameters(self),
            "classes": describe_classes(self.classes_),
            "temperature": self.temperature_,
            "alpha": getattr(self, "alpha_", None),
        }
        return description, {name: getattr(self, f"{name}_") for name in self._array_names}

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild a classifier from the state that :meth:`fitted_state` returned, which is without ``labels_``.

        Raises
        ------
        FormatError, ValueError
            If the parts do not fit together.
        """
        head = cls(**as_parameters(description["parameters"]))
        head.check_parameters()
        expect(tensors.keys() <= set(head._array_names), "no tensors beside those of clusters and projection")
        for name in head._array_names:
            setattr(head, f"{name}_", tensors[name])
        head.classes_ = classes_of(description["classes"])
        head.temperature_ = as_number(description["temperature"])
        expect(head.temperature_ > 0, "a positive temperature")
        if head.projection:
            head.alpha_ = as_number(description["alpha"])
            expect(head.alpha_ > 0, "a positive alpha")
        head.n_features_in_ = len(head.mean_) if head.projection else head.cluster_centers_.shape[1]
        head._n_features_out = len(head.cluster_centers_)
        head._check_arrays()
        return head

    @property
    def _array_names(self) -> tuple[str, ...]:
        return CLUSTER_ARRAYS + PROJECTION_ARRAYS if self.projection else CLUSTER_ARRAYS

    def _check_arrays(self) -> None:
        n_clusters, n_classes, n_features = len(self.cluster_centers_), len(self.classes_), self.n_features_in_
        shapes: dict[str, Shape] = {"cluster_centers": (n_clusters, n_classes if self.projection else n_features)}
        shapes |= dict.fromkeys(CLUSTER_ARRAYS[1:], (n_clusters,))
        if self.projection:
            shapes |= {"mean": (n_features,), "weights": (n_features, n_classes), "offset": (n_classes,)}
        for name, shape in shapes.items():
            expect(getattr(self, f"{name}_").shape == shape, f"head/{name} of shape {shape}")
        labels, prototypes, centers = self.cluster_labels_, self.prototypes_, self.cluster_centers_
        expect(labels.dtype == prototypes.dtype == np.int64, "int64 labels and prototypes of clusters")
        expect(
            min(labels.min(), prototypes.min()) >= 0 and labels.max() < n_classes,
            "labels and prototypes in range",
        )
        expect(self.radius_.dtype.kind == "f" and self.radius_.min() >= 0, "radii as floats of at least 0")
        projection = [getattr(self, f"{name}_") for name in PROJECTION_ARRAYS if self.projection]
        same = all(array.dtype == centers.dtype for array in projection)
        expect(same and centers.dtype.kind == "f", "arrays of the same float dtype")

    def check_parameters(self) -> None:
        """Raise SettingError unless every parameter has a valid value."""
        check_count("KMeansClassifier", "clusters_per_class", self.clusters_per_class)
        if not (self.projection is None or (isinstance(self.projection, str) and self.projection == "discriminant")):
            raise SettingError(f"KMeansClassifier: expected projection 'discriminant' or None, got {self.projection!r}")
        alpha = self.alpha
        positive = isinstance(alpha, Real) and not isinstance(alpha, bool) and 0 < float(alpha) < np.inf
        if not positive and not (isinstance(alpha, str) and alpha == "auto"):
            raise SettingError(f"KMeansClassifier: expected alpha 'auto' or a positive number, got {alpha!r}")

    def _fit_projection(self, X: Array, codes: Array, groups: Array | None, seed: int) -> Array:
        """Fit the projection; return the held-out scores of the training samples (n, n_classes)."""
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(X.dtype)
        features = X - self.mean_
        indicators = np.eye(len(self.classes_))[codes]
        prior = indicators.mean(axis=0)
        targets = indicators - prior
        if self.alpha == "auto":
            rows = selection_rows(len(X), groups, self.max_selection_rows, seed)
            row_groups = None if groups is None else groups[rows]
            self.alpha_ = choose_alpha(features[rows], targets[rows], codes[rows], row_groups, seed).alpha
        else:
            self.alpha_ = float(self.alpha)
        weights, scores = ridge(features, targets, self.alpha_, folds_by_group(codes, groups, seed))
        self.weights_ = np.ascontiguousarray(weights, X.dtype)
        self.offset_ = prior.astype(X.dtype)
        return (scores + prior).astype(X.dtype)

    def _cluster(self, points: Array, codes: Array, seed: int) -> None:
        """Set clusters, radii and temperature from points (n, d) and their class numbers."""
        n_classes = len(self.classes_)
        if self.projection is None:
            self.cluster_centers_, self.labels_ = _k_means(points, self.clusters_per_class * n_classes, seed)
            members = np.zeros((len(self.cluster_centers_), n_classes), np.int64)
            np.add.at(members, (self.labels_, codes), 1)
            self.cluster_labels_ = members.argmax(axis=1)
        else:
            parts = [_k_means(points[codes == code], self.clusters_per_class, seed) for code in range(n_classes)]
            sizes = [len(centres) for centres, _ in parts]
            self.cluster_centers_ = np.concatenate([centres for centres, _ in parts])
            self.cluster_labels_ = np.repeat(np.arange(n_classes), sizes)
            self.labels_ = np.empty(len(points), np.int64)
            for code, (_, assigned) in enumerate(parts):
                self.labels_[codes == code] = assigned + sum(sizes[:code])
        squares = squared_distances(points, self.cluster_centers_)
        to_members = np.where(self.labels_[:, None] == np.arange(len(self.cluster_centers_)), squares, np.inf)
        self.prototypes_ = to_members.argmin(axis=0)
        distances, nearest = np.sqrt(squares.min(axis=1)), squares.argmin(axis=1)
        around = [distances[nearest == k] for k in range(len(self.cluster_centers_))]
        self.radius_ = np.array([np.quantile(d if len(d) else distances, WITHIN_RADIUS) for d in around])
        self.temperature_ = self._fit_temperature(squares, codes)
        self._n_features_out = len(self.cluster_centers_)

    def _fit_temperature(self, squares: Array, codes: Array) -> float:
        """Return the temperature with the highest likelihood, for squared distances (n, n_clusters)."""
        by_class = self._nearest_by_class(squares)
        scale = np.median(by_class.min(axis=1)) or np.median(by_class[np.isfinite(by_class)]) or 1.0

        def negative_log_likelihood(log_temperature: float) -> float:
            likelihood = softmax(-by_class / (scale * np.exp(log_temperature)), axis=1)[np.arange(len(codes)), codes]
            return -float(np.log(likelihood + TINY).mean())

        return float(scale * np.exp(minimize_scalar(negative_log_likelihood, bounds=(-8, 8), method="bounded").x))

    def _nearest_by_class(self, squares: Array) -> Array:
        """Return squared distances to the nearest cluster of each class (n, n_classes), infinite if it has none."""
        by_class = np.full((len(squares), len(self.classes_)), np.inf)
        for cluster, label in enumerate(self.cluster_labels_):
            by_class[:, label] = np.minimum(by_class[:, label], squares[:, cluster])
        return by_class

    def _project(self, X: Array) -> Array:
        if self.projection is None:
            return X
        return kernels.dense(X - self.mean_, kernels.PackedDense.of(self.weights_, self.offset_))


def _k_means(points: Array, wanted: int, seed: int) -> tuple[Array, Array]:
    """Return k-means centres (k, d) and the cluster of each point; fewer than `wanted` if fewer points differ."""
    distinct: set[bytes] = set()
    for row in points:
        distinct.add((row + 0).tobytes())  # + 0 turns -0 into 0
        if len(distinct) == wanted:
            break
    clustering = KMeans(len(distinct), n_init=N_INIT, random_state=seed).fit(points)
    kept, assigned = np.unique(clustering.labels_, return_inverse=True)
    if len(kept) < wanted:
        message = f"KMeansClassifier: expected {wanted} clusters, got {len(kept)}: too few samples differ"
        warnings.warn(message, ConvergenceWarning, stacklevel=5)
    return np.ascontiguousarray(clustering.cluster_centers_[kept], points.dtype), assigned
