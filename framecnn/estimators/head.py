"""The k-means head: a classifier by clusters in a discriminant space, labelled by their samples."""

import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from framecnn import kernels
from framecnn.arguments import check_count, check_number
from framecnn.errors import SettingError
from framecnn.estimators.calibration import fit_temperature
from framecnn.estimators.checks import (
    FLOATS,
    as_random_state,
    balanced_weights,
    check_known,
    check_overflow,
    encode_groups,
    encode_labels,
)
from framecnn.estimators.clusters import Clusters, cluster_by_class, cluster_without_labels, nearest_by_class
from framecnn.estimators.details import DetailsMixin
from framecnn.estimators.outliers import OutlierDetector
from framecnn.estimators.projection import fit_projection
from framecnn.estimators.ridge import folds_by_group
from framecnn.estimators.saved_estimator import SavedEstimator
from framecnn.estimators.selection import selection_rows
from framecnn.estimators.snapshot import reads_snapshot, sets_atomically
from framecnn.estimators.state import as_number, as_parameters, classes_of, describe_classes, describe_parameters
from framecnn.kernels.linalg import squared_distances
from framecnn.kernels.threads import single_threaded_blas
from framecnn.storage.model_file import Description, State, expect, nested, prefixed
from framecnn.typing import Array, Shape

__all__ = ["KMeansClassifier"]

CLUSTER_ARRAYS = ("cluster_centers", "cluster_labels", "prototypes")
PROJECTION_ARRAYS = ("mean", "weights", "offset")


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
        The share of samples like those of training that :meth:`reject` is to mark, above 0 and below 1.
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
        The probabilities of the training samples, each from a projection and clusters fitted without its group; NaN if
        no group can be held out. Not saved.
    outlier_threshold_ : float
        The score above which :meth:`reject` marks a sample: the quantile ``1 - false_alarm_rate`` of the scores of
        training samples, each of them without its own group.
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
        self.check_parameters()
        X = validate_data(self, X, dtype=FLOATS)
        self.classes_, codes = encode_labels("KMeansClassifier", y, len(X))
        groups = encode_groups("KMeansClassifier", groups, len(X))
        seed = int(as_random_state("KMeansClassifier", self.random_state).randint(2**31 - 1))
        # OpenMP's limit belongs to the calling thread
        with single_threaded_blas(), threadpool_limits(1, user_api="openmp"):
            weights = None if self.class_weight is None else balanced_weights(codes)
            folds = folds_by_group(codes, groups, seed)
            scores = points = X
            if self.projection is not None:
                rows = selection_rows(len(X), groups, self.max_selection_rows, seed)
                fitted = fit_projection(X, codes, groups, weights, self.alpha, rows, folds, seed)
                (self.mean_, self.weights_, self.offset_, self.alpha_), scores, points = fitted
            self._fit_clusters(points, codes, weights, seed)
            self._calibrate(scores, codes, weights, folds, seed)
            self.outliers_ = OutlierDetector.fit(X, codes, groups, self.false_alarm_rate, seed)
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
        by_class = nearest_by_class(np.square(distances), self.cluster_labels_, len(self.classes_))
        return softmax(-by_class / self.temperature_, axis=1)

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
        arrays = {name: getattr(self, f"{name}_") for name in self._array_names}
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
        expect(own <= set(head._array_names), "no tensors beside those of clusters, projection and outliers")
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
        head.outliers_ = OutlierDetector.from_fitted_state(description["outliers"], outlier_arrays)
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
        projection = [getattr(self, f"{name}_") for name in PROJECTION_ARRAYS if self.projection]
        same = all(array.dtype == centers.dtype for array in projection)
        expect(same and centers.dtype.kind == "f", "arrays of the same float dtype")
        expect(self.outliers_.mean.shape == (n_features,), f"outliers/mean of shape ({n_features},)")
        expect(self.outliers_.mean.dtype == centers.dtype, "outliers of the float dtype of the clusters")

    def check_parameters(self) -> None:
        """Raise SettingError unless every parameter has a valid value."""
        check_count("KMeansClassifier", "clusters_per_class", self.clusters_per_class)
        if not (self.projection is None or (isinstance(self.projection, str) and self.projection == "discriminant")):
            raise SettingError(f"KMeansClassifier: expected projection 'discriminant' or None, got {self.projection!r}")
        alpha = self.alpha
        positive = isinstance(alpha, Real) and not isinstance(alpha, bool) and 0 < float(alpha) < np.inf
        if not positive and not (isinstance(alpha, str) and alpha == "auto"):
            raise SettingError(f"KMeansClassifier: expected alpha 'auto' or a positive number, got {alpha!r}")
        weight = self.class_weight
        if not (weight is None or (isinstance(weight, str) and weight == "balanced")):
            raise SettingError(f"KMeansClassifier: expected class_weight None or 'balanced', got {weight!r}")
        if not 0 < check_number("KMeansClassifier", "false_alarm_rate", self.false_alarm_rate) < 1:
            raise SettingError(
                f"KMeansClassifier: expected false_alarm_rate between 0 and 1, got {self.false_alarm_rate!r}"
            )

    @property
    def outlier_threshold_(self) -> float:
        """The outlier score above which :meth:`reject` marks a sample."""
        return self.outliers_.threshold

    def _head_and_vectors(self, X: Any) -> tuple[Self, Array]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        return self, X.astype(self.cluster_centers_.dtype, copy=False)

    def _clusters(self, points: Array, codes: Array, weights: Array | None, seed: int) -> Clusters:
        if self.projection is not None:
            return cluster_by_class(points, codes, self.clusters_per_class, seed)
        return cluster_without_labels(points, codes, self.clusters_per_class * len(self.classes_), seed, weights)

    def _fit_clusters(self, points: Array, codes: Array, weights: Array | None, seed: int) -> None:
        """Set the clusters of points (n, d) with class numbers (n,), and warn if there are fewer than asked for."""
        self.cluster_centers_, self.cluster_labels_, self.labels_ = self._clusters(points, codes, weights, seed)
        found, wanted = len(self.cluster_centers_), self.clusters_per_class * len(self.classes_)
        if found < wanted:
            message = f"KMeansClassifier: expected {wanted} clusters, got {found}: too few samples differ"
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        squares = squared_distances(points, self.cluster_centers_)
        to_members = np.where(self.labels_[:, None] == np.arange(found), squares, np.inf)
        self.prototypes_ = to_members.argmin(axis=0)
        self._n_features_out = found

    def _calibrate(self, points: Array, codes: Array, weights: Array | None, folds: list[Array], seed: int) -> None:
        """Set the temperature, and the probabilities of held-out samples from clusters without their fold.

        Projected points are held-out scores already, so the temperature of the final clusters is fitted to them. It
        has a higher likelihood on new frames than one of clusters without each fold, which lie farther away.
        """
        n_classes = len(self.classes_)

        def by_class(rows: Array, clusters: Clusters) -> Array:
            return nearest_by_class(squared_distances(points[rows], clusters.centers), clusters.labels, n_classes)

        everything = np.arange(len(points))
        fitted = by_class(everything, Clusters(self.cluster_centers_, self.cluster_labels_, self.labels_))
        held_out = np.full((len(points), n_classes), np.nan)
        for rows in folds:
            rest = np.setdiff1d(everything, rows)
            own_weights = None if weights is None else weights[rest]
            held_out[rows] = by_class(rows, self._clusters(points[rest], codes[rest], own_weights, seed))
        in_sample = self.projection is None
        self.temperature_ = fit_temperature(held_out if in_sample and folds else fitted, codes, weights)
        self.held_out_probabilities_ = softmax(-held_out / self.temperature_, axis=1)

    def _project(self, X: Array) -> Array:
        if self.projection is None:
            return X
        return kernels.dense(X - self.mean_, kernels.PackedDense.of(self.weights_, self.offset_))
