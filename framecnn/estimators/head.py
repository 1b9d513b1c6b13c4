"""The k-means head: a classifier by clusters in a discriminant space, labelled by their samples."""

import copy
import warnings
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from framecnn import kernels
from framecnn.data.shards import Shards, as_shards
from framecnn.estimators.calibration import fit_temperature, held_out_by_fold
from framecnn.estimators.checks import as_random_state, check_known, check_overflow, encode_groups, encode_labels
from framecnn.estimators.class_weights import balanced_weights
from framecnn.estimators.clusters import Clusters, cluster_all, cluster_by_class, nearest_by_class, squares_to
from framecnn.estimators.details import DetailsMixin
from framecnn.estimators.head_checks import check_head_arrays, check_head_parameters, checked_vectors, names_of_arrays
from framecnn.estimators.outliers import OutlierDetector
from framecnn.estimators.projection import fit_projection
from framecnn.estimators.reduction import Reduction
from framecnn.estimators.ridge import Folds, folds_by_group
from framecnn.estimators.saved_estimator import SavedEstimator
from framecnn.estimators.selection import selection_rows
from framecnn.estimators.snapshot import reads_snapshot, sets_atomically
from framecnn.estimators.state import as_number, as_parameters, classes_of, describe_classes, describe_parameters
from framecnn.kernels.threads import single_threaded_blas
from framecnn.storage.model_file import Description, State, expect, nested, prefixed
from framecnn.typing import Array

__all__ = ["KMeansClassifier"]

SMALLEST_TEMPERATURE = float(np.finfo(np.float64).tiny)


class KMeansClassifier(DetailsMixin, ClassifierMixin, SavedEstimator):
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
    class_weight : None (default) or "balanced"
        "balanced" gives a sample the weight ``n_samples / (n_classes * n_samples_of_its_class)``, so that all classes
        count the same in the projection, in plain clusters, in the choice of the penalty and in the probabilities.
    false_alarm_rate : float, default 0.05
        The share of samples like those of training that are to be out-of-distribution, above 0 and below 1.
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
    alpha_ : float
    mean_, weights_, offset_ : arrays
        ``scores = (X - mean_) @ weights_ + offset_``.
    temperature_ : float
        Scale of squared distances in :meth:`predict_proba`, fitted by maximum likelihood on held-out samples.
    held_out_probabilities_ : (n_samples, n_classes) array
        The probabilities of the training samples, each from a projection, clusters and a temperature fitted without its
        group; only a penalty that is chosen, and the temperature with ``projection=None``, are those of all samples.
        NaN for a sample whose group cannot be held out: all other samples are of other classes. Not saved.
    outlier_threshold_ : float
        The outlier score above which a sample is out-of-distribution: the quantile ``1 - false_alarm_rate`` of the
        scores of training samples, each of them without its own group.
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

    mean_: Array
    weights_: Array
    offset_: Array
    cluster_centers_: Array
    max_selection_rows = 2000
    """The largest number of samples on which the ridge penalty is chosen."""

    network_moments = np.empty(0), np.empty(0)  # means and scales of the last features, those by a network

    def __init__(
        self,
        clusters_per_class: int = 1,
        *,
        projection: str | None = "discriminant",
        alpha: float | str = "auto",
        class_weight: str | None = None,
        false_alarm_rate: float = 0.05,
        random_state: Any = None,
    ):
        self.clusters_per_class = clusters_per_class
        self.projection = projection
        self.alpha = alpha
        self.class_weight = class_weight
        self.false_alarm_rate = false_alarm_rate
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
        self._fit(X, y, groups, only_probabilities=False)
        found, wanted = len(self.cluster_centers_), self.clusters_per_class * len(self.classes_)
        if found < wanted:
            message = f"KMeansClassifier: expected {wanted} clusters, got {found}: too few samples differ"
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        return self

    @sets_atomically
    def fit_probabilities(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fit what :meth:`predict_proba` needs; :meth:`reject` and the like need :meth:`fit`.

        Parameters
        ----------
        X, y, groups
            As in :meth:`fit`.

        Returns
        -------
        self
        """
        self._fit(X, y, groups, only_probabilities=True)
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
        _, X = self._head_and_vectors(X)
        return self._distances(X)

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
        by_class = nearest_by_class(np.square(distances), self.cluster_labels_, len(self.classes_))
        with np.errstate(over="ignore", invalid="ignore"):
            found = softmax(-by_class / self.temperature_, axis=1)
        check_overflow("KMeansClassifier", "probabilities", found)
        return found

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
        outliers, outlier_arrays = self.outliers_.fitted_state()
        description = {
            "parameters": describe_parameters(self),
            "classes": describe_classes(self.classes_),
            "temperature": self.temperature_,
            "alpha": getattr(self, "alpha_", None),
            "outliers": outliers,
        }
        arrays = {name: getattr(self, f"{name}_") for name in names_of_arrays(self)}
        return description, arrays | prefixed("outliers", outlier_arrays)

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild a classifier from the state that :meth:`fitted_state` returned, which is without ``labels_`` and
        ``held_out_probabilities_``.

        Raises
        ------
        FormatError, ValueError
            If the parts do not fit together.
        """
        head = cls(**as_parameters(description["parameters"]))
        head.check_parameters()
        outlier_arrays = nested("outliers", tensors)
        own = tensors.keys() - prefixed("outliers", outlier_arrays).keys()
        expect(own <= set(names_of_arrays(head)), "no tensors beside those of clusters, projection and outliers")
        for name in names_of_arrays(head):
            setattr(head, f"{name}_", tensors[name])
        head.classes_ = classes_of(description["classes"])
        head.temperature_ = as_number(description["temperature"])
        expect(head.temperature_ >= SMALLEST_TEMPERATURE, "a positive temperature")
        if head.projection:
            head.alpha_ = as_number(description["alpha"])
            expect(head.alpha_ > 0, "a positive alpha")
        head.n_features_in_ = len(head.mean_) if head.projection else head.cluster_centers_.shape[1]
        head._n_features_out = len(head.cluster_centers_)
        head.outliers_ = OutlierDetector.from_fitted_state(description["outliers"], outlier_arrays)
        check_head_arrays(head)
        return head

    def check_parameters(self) -> None:
        """Raise SettingError unless every parameter has a valid value."""
        check_head_parameters(self)

    @property
    def outlier_threshold_(self) -> float:
        """The outlier score above which a sample is out-of-distribution."""
        return self.outliers_.threshold

    def _head_and_vectors(self, X: Any) -> tuple[Self, Shards]:
        check_is_fitted(self)
        return self, checked_vectors(self, X, self.cluster_centers_.dtype)

    def _fit(self, X: Any, y: Any, groups: Any, only_probabilities: bool) -> None:
        """Set what :meth:`predict_proba` needs, and everything else unless `only_probabilities` are wanted."""
        self.check_parameters()
        X = checked_vectors(self, X)
        self.classes_, codes = encode_labels("KMeansClassifier", y, len(X))
        groups = encode_groups("KMeansClassifier", groups, len(X))
        seed = int(as_random_state("KMeansClassifier", self.random_state).randint(2**31 - 1))
        with single_threaded_blas(), threadpool_limits(1, user_api="openmp"):  # a limit of the calling thread
            reduction = None if self.projection is None else Reduction.fit(X, groups, seed)
            samples = X if reduction is None else reduction.coordinates(X)
            folds = self._fit_classes(samples, codes, groups, seed)
            if self.projection is not None and not only_probabilities:
                self.held_out_probabilities_ = self._held_out(samples, codes, groups, folds, seed)
            if reduction is not None:
                self.offset_ = (self.offset_ - self.mean_ @ self.weights_).astype(X.dtype)
                self.mean_, self.weights_ = reduction.mean, reduction.weights(self.weights_).astype(X.dtype)
                self.cluster_centers_ = self.cluster_centers_.astype(X.dtype)
            if not only_probabilities:
                self.outliers_ = OutlierDetector.fit(
                    X, codes, groups, self.false_alarm_rate, seed, self.network_moments
                )

    def _clusters(self, points: Shards, codes: Array, weights: Array | None, seed: int) -> Clusters:
        if self.projection is not None:
            return cluster_by_class(points[:], codes, self.clusters_per_class, seed)
        return cluster_all(points, codes, self.clusters_per_class * len(self.classes_), seed, weights)

    def _fit_classes(self, X: Shards, codes: Array, groups: Array | None, seed: int) -> Folds:
        """Set projection, clusters and temperature; return the folds of held-out samples.

        The temperature of projected samples is that of the final clusters on held-out scores. It has a higher
        likelihood on new frames than one of clusters without each fold, which lie farther away.
        """
        weights, n_classes = None if self.class_weight is None else balanced_weights(codes), len(self.classes_)
        folds = folds_by_group(codes, groups, seed)
        scores = points = X
        if self.projection is not None:
            rows = selection_rows(len(X), groups, self.max_selection_rows, seed)
            fitted, *found = fit_projection(X, codes, groups, weights, self.alpha, rows, folds, seed)
            self.mean_, self.weights_, self.offset_, self.alpha_ = fitted
            scores, points = map(as_shards, found)
        clusters = self._clusters(points, codes, weights, seed)
        self.cluster_centers_, self.cluster_labels_, self.labels_ = clusters
        self._n_features_out = len(clusters.centers)
        is_member = self.labels_[:, None] == np.arange(len(clusters.centers))
        self.prototypes_ = np.where(is_member, squares_to(points, clusters.centers), np.inf).argmin(axis=0)
        by_class = nearest_by_class(squares_to(scores, clusters.centers), clusters.labels, n_classes)
        if self.projection is not None:
            self.temperature_ = fit_temperature(by_class, codes, weights)
            return folds

        def without_fold(rows: Array, rest: Array) -> Array:
            own = self._clusters(X.subset(rest), codes[rest], None if weights is None else weights[rest], seed)
            return nearest_by_class(squares_to(X.subset(rows), own.centers), own.labels, n_classes)

        held_out = held_out_by_fold(without_fold, codes, folds, n_classes)
        rows = np.flatnonzero(~np.isnan(held_out).any(axis=1))
        squares, rows = (held_out, rows) if len(rows) else (by_class, np.arange(len(X)))
        self.temperature_ = fit_temperature(squares[rows], codes[rows], None if weights is None else weights[rows])
        self.held_out_probabilities_ = softmax(-held_out / self.temperature_, axis=1)
        return folds

    def _held_out(self, X: Shards, codes: Array, groups: Array | None, folds: Folds, seed: int) -> Array:
        """Return probabilities (n, n_classes), each from a head with the same penalty fitted without its fold."""

        def without_fold(rows: Array, rest: Array) -> Array:
            head = copy.copy(self)
            head.alpha = self.alpha_
            head._fit_classes(X.subset(rest), codes[rest], None if groups is None else groups[rest], seed)
            return head.probabilities(head._distances(X.subset(rows)))

        return held_out_by_fold(without_fold, codes, folds, len(self.classes_))

    def _distances(self, X: Shards) -> Array:
        """Return the distance of every vector (n, d) to every cluster, (n, n_clusters)."""
        packed = None if self.projection is None else kernels.PackedDense.of(self.weights_, self.offset_)
        with np.errstate(over="ignore", invalid="ignore"):
            points = X if packed is None else X.map(lambda block, _: kernels.dense(block - self.mean_, packed))
            distances = np.sqrt(squares_to(points, self.cluster_centers_))
        check_overflow("KMeansClassifier", "distances", distances)
        return distances
