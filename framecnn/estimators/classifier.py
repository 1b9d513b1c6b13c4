"""The classifier of frames: features and the k-means head together."""

import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from framecnn.estimators.checks import as_random_state, check_known, encode_groups, encode_labels
from framecnn.estimators.features import GRIDS, FrameFeatures
from framecnn.estimators.head import KMeansClassifier
from framecnn.estimators.ridge import Choice
from framecnn.estimators.selection import Grid, choose_grid, selection_rows
from framecnn.estimators.snapshot import reads_snapshot, sets_atomically
from framecnn.estimators.state import as_number, as_parameters, describe_parameters
from framecnn.estimators.trained_features import TrainedFeatures
from framecnn.storage.model_file import Description, State, expect, nested, prefixed, write_model
from framecnn.typing import Array

__all__ = ["FrameClassifier"]


class FrameClassifier(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator):
    """A classifier of frames by filters learned without labels and a k-means head.

    :class:`FrameFeatures` computes features of the frames, :class:`KMeansClassifier` labels them. :meth:`fit` chooses
    the pooling grid and the ridge penalty on held-out groups of the training frames; nothing needs tuning. With
    ``features="trained"`` the features are those of a network trained by back-propagation, see
    :class:`framecnn.estimators.TrainedFeatures`.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows. 2-D input without it is taken as feature vectors.
    features : "learned" (default) or "trained"
        Trained features do not use grid, filters, n_filters and depth.
    grid : "auto" (default) or (int, int)
        Cells of the pooling. "auto" chooses among 1 x 1, 2 x 2 and 3 x 4; without a projection it is 1 x 1.
    alpha : "auto" (default) or float
        Ridge penalty of the projection, in units of the number of features.
    clusters_per_class : int, default 1
    projection : "discriminant" (default) or None
        None is the plain k-means head.
    filters : "kmeans" (default), "random" or "pca"
    n_filters : int or None, default None
        None is 1,200.
    depth : 1 (default) or 2
        The number of filter banks, one applied to the responses of the other.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    classes_ : (n_classes,) array
    features_ : FrameFeatures or TrainedFeatures
    head_ : KMeansClassifier
    chosen_ : dict
        ``grid`` (None for trained features), ``alpha``, and ``accuracies``: of each grid, on held-out groups.
    prototypes_ : (n_clusters,) int array
        The row of the training frame, among the cluster's members, nearest to each centre.
    n_features_in_ : int
        Values of a frame.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> across = np.repeat(rng.integers(0, 256, (8, 24, 1, 3), np.uint8), 32, axis=2)
    >>> down = np.repeat(rng.integers(0, 256, (8, 1, 32, 3), np.uint8), 24, axis=1)
    >>> X, y = np.concatenate([across, down]), ["across"] * 8 + ["down"] * 8
    >>> clf = FrameClassifier(n_filters=20, random_state=0).fit(X, y)
    >>> clf.predict(down[:2]).tolist()
    ['down', 'down']
    """

    chosen_: dict[str, Any]
    selection_frames = 2000
    """The number of frames, at most, on which the grid is chosen."""

    def __init__(
        self,
        frame_shape: Any = None,
        *,
        features: str = "learned",
        grid: Any = "auto",
        alpha: float | str = "auto",
        clusters_per_class: int = 1,
        projection: str | None = "discriminant",
        filters: str = "kmeans",
        n_filters: int | None = None,
        depth: int = 1,
        random_state: Any = None,
    ):
        self.frame_shape = frame_shape
        self.features = features
        self.grid = grid
        self.alpha = alpha
        self.clusters_per_class = clusters_per_class
        self.projection = projection
        self.filters = filters
        self.n_filters = n_filters
        self.depth = depth
        self.random_state = random_state

    @sets_atomically
    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn filters or train a network, choose grid and ridge penalty, fit the head.

        Parameters
        ----------
        X : (n, h, w, c) array of uint8, other integers or floats
            Or flat rows with `frame_shape`, or a lazily loaded array such as ``FrameFolder.frames``. Frames are read
            in batches.
        y : (n,) array of labels
        groups : (n,) array, optional
            Frames of one group (a shot, a movie) resemble each other and are held out together, also from the training
            of a network. By default each frame is its own group.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, X, y or groups does not fit, or y holds fewer than two classes.
        """
        self._fit(X, y, groups)
        return self

    @sets_atomically
    def fit_transform(self, X: Any, y: Any = None, groups: Any = None) -> Array:
        """Fit; return the distances of the training frames to the clusters without reading the frames again.

        Parameters
        ----------
        X, y, groups
            As in :meth:`fit`.

        Returns
        -------
        (n, n_clusters) array
        """
        features = self._fit(X, y, groups)
        return self.head_.transform(features)

    @reads_snapshot
    def predict(self, X: Any) -> Array:
        """Return the label of every frame.

        Parameters
        ----------
        X : (n, h, w, c) array, or as in :meth:`fit`

        Returns
        -------
        (n,) array of labels
        """
        features = self._features(X)
        return self.head_.predict(features)

    @reads_snapshot
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of every class.

        Parameters
        ----------
        X : (n, h, w, c) array, or as in :meth:`fit`

        Returns
        -------
        (n, n_classes) array
            In the order of ``classes_``.
        """
        features = self._features(X)
        return self.head_.predict_proba(features)

    @reads_snapshot
    def transform(self, X: Any) -> Array:
        """Return the distance of every frame to every cluster.

        Parameters
        ----------
        X : (n, h, w, c) array, or as in :meth:`fit`

        Returns
        -------
        (n, n_clusters) array
        """
        features = self._features(X)
        return self.head_.transform(features)

    @reads_snapshot
    def reject(self, X: Any) -> Array:
        """Return which frames are out-of-distribution; see :meth:`KMeansClassifier.reject`.

        Parameters
        ----------
        X : (n, h, w, c) array, or as in :meth:`fit`

        Returns
        -------
        (n,) bool array
        """
        features = self._features(X)
        return self.head_.reject(features)

    @reads_snapshot
    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the share of frames whose predicted label is right.

        Parameters
        ----------
        X : (n, h, w, c) array, or as in :meth:`fit`
        y : (n,) array of labels
        sample_weight : (n,) array, optional

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If y is None, or holds a label that was not seen at fit, which no prediction can equal.
        """
        check_is_fitted(self)
        check_known("FrameClassifier", y, self.classes_)
        return super().score(X, y, sample_weight)

    @property
    def prototypes_(self) -> Array:
        """The row of the training frame, among the cluster's members, nearest to each centre, (n_clusters,) int."""
        return self.head_.prototypes_

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier as one safetensors file, atomically; see :func:`framecnn.load`.

        Parameters
        ----------
        path : path
        """
        write_model(path, FrameClassifier, *self.fitted_state())

    def fitted_state(self) -> State:
        """Return parameters, the accuracies of the grids that were tried, and the states of features and head."""
        check_is_fitted(self, "head_")
        description: dict[str, Any] = {
            "parameters": describe_parameters(self),
            "accuracies": list(self.chosen_["accuracies"].items()),
        }
        tensors: dict[str, Array] = {}
        for name, part in (("features", self.features_), ("head", self.head_)):
            description[name], own = part.fitted_state()
            tensors |= prefixed(name, own)
        return description, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Return a classifier of the state that :meth:`fitted_state` gave.

        Raises
        ------
        FormatError, ValueError
            If the parts do not fit together.
        """
        classifier = cls(**as_parameters(description["parameters"]))
        seed = classifier.random_state
        expect(seed is None or (type(seed) is int and seed >= 0), "a seed as random_state")
        expected, _ = classifier._new_parts(seed=0)
        parts = {name: nested(name, tensors) for name in ("features", "head")}
        expect(sum(map(len, parts.values())) == len(tensors), "no further tensors")
        features = type(expected).from_fitted_state(description["features"], parts["features"])
        head = KMeansClassifier.from_fitted_state(description["head"], parts["head"])
        expect(classifier.frame_shape in (None, features.frame_shape_), "one shape of frames")
        expect(features.grid is None or classifier.grid in ("auto", features.grid), "one pooling grid")
        expect(classifier.projection == head.projection, "one projection")
        expect(head.n_features_in_ == len(features.mean_), "a head for these features")
        expect(head.cluster_centers_.dtype == features.mean_.dtype, "floats of one dtype")
        accuracies = {}
        for (rows, columns), accuracy in description["accuracies"]:
            expect(type(rows) is type(columns) is int, "accuracies by grid")
            accuracies[rows, columns] = as_number(accuracy)
        classifier._set_parts(features, head, accuracies)
        return classifier

    @property
    def _n_features_out(self) -> int:
        return len(self.head_.cluster_centers_)

    def _features(self, X: Any) -> Array:
        check_is_fitted(self)
        return self.features_.transform(X)

    def _fit(self, X: Any, y: Any, groups: Any) -> Array:
        """Fit; return the features of the training frames."""
        seed = int(as_random_state("FrameClassifier", self.random_state).randint(2**31 - 1))
        features, head = self._new_parts(seed)
        frames = features.accept(X)
        classes, codes = encode_labels("FrameClassifier", y, len(frames))
        groups = encode_groups("FrameClassifier", groups, len(frames))
        features.learn(frames, codes, groups)
        tried: dict[Grid, Choice] = {}
        if isinstance(features, FrameFeatures) and self._chooses_grid and features.frame_shape_ is not None:
            rows = selection_rows(len(frames), groups, self.selection_frames, seed)
            raw, tried = _choose_features(features, frames, rows, codes, groups, seed)
        else:
            raw = features.describe(frames)
        found = features.standardise(raw)
        head.fit(found, classes[codes], groups)
        self._set_parts(features, head, {grid: choice.accuracy for grid, choice in tried.items()})
        return found

    @property
    def _chooses_grid(self) -> bool:
        return isinstance(self.grid, str) and self.grid == "auto" and self.projection is not None

    def _new_parts(self, seed: int) -> tuple[FrameFeatures | TrainedFeatures, KMeansClassifier]:
        """Return features and head that are not fitted; a ValueError where a parameter does not fit."""
        if not isinstance(self.features, str) or self.features not in ("learned", "trained"):
            raise ValueError(f"FrameClassifier: expected features 'learned' or 'trained', got {self.features!r}")
        features: FrameFeatures | TrainedFeatures
        if self.features == "trained":
            features = TrainedFeatures(self.frame_shape, random_state=seed)
        else:
            features = FrameFeatures(
                self.frame_shape,
                grid=GRIDS[0] if isinstance(self.grid, str) and self.grid == "auto" else self.grid,
                filters=self.filters,
                n_filters=self.n_filters,
                depth=self.depth,
                random_state=seed,
            )
        features.check_parameters()
        head = KMeansClassifier(
            self.clusters_per_class, projection=self.projection, alpha=self.alpha, random_state=seed
        )
        head.check_parameters()
        return features, head

    def _set_parts(
        self, features: FrameFeatures | TrainedFeatures, head: KMeansClassifier, accuracies: dict[Grid, float]
    ) -> None:
        self.classes_, self.features_, self.head_ = head.classes_, features, head
        self.n_features_in_ = features.n_features_in_
        self.chosen_ = {"grid": features.grid, "alpha": getattr(head, "alpha_", None), "accuracies": accuracies}


def _choose_features(
    features: FrameFeatures, frames: Any, rows: Array, codes: Array, groups: Array | None, seed: int
) -> tuple[Array, dict[Grid, Choice]]:
    """Choose the grid on some rows and set it; return the features of all frames, and each grid's choice."""
    by_grid = features.extract(frames, GRIDS, rows)
    standardised = {grid: features.standardise(raw) for grid, raw in by_grid.items()}
    features.grid, tried = choose_grid(standardised, codes[rows], None if groups is None else groups[rows], seed)
    known = by_grid[features.grid]
    if len(rows) == len(frames):
        return known, tried
    rest = np.setdiff1d(np.arange(len(frames)), rows)
    raw = np.empty((len(frames), known.shape[1]), known.dtype)
    raw[rows], raw[rest] = known, features.extract(frames, [features.grid], rest)[features.grid]
    return raw, tried
