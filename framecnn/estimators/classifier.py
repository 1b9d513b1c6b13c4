"""The whole classifier: frames in, labels out."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from framecnn.estimators.features import GRIDS, FrameFeatures
from framecnn.estimators.head import KMeansClassifier, check_groups, selection_rows
from framecnn.estimators.selection import choose_grid

__all__ = ["FrameClassifier"]

SELECTION_FRAMES = 2000


class FrameClassifier(ClassifierMixin, TransformerMixin, BaseEstimator):
    """Classify frames by filters learned without labels and a k-means head.

    :class:`FrameFeatures` describes the frames, :class:`KMeansClassifier` labels them. Only the pooling grid and the
    shrinkage are chosen, on the training frames, by leaving out groups; nothing needs tuning.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows. 2-D input without it is taken as feature vectors.
    grid : "auto" (default) or (int, int)
        Cells of the pooling; "auto" tries the whole frame, 2 x 2 and 3 x 4.
    shrinkage : "auto" (default) or float
    clusters_per_class : int, default 1
    projection : "discriminant" (default) or None
        None is the plain k-means head.
    filters : "kmeans" (default), "random" or "pca"
    n_filters : int or None, default None
    depth : 1 (default) or 2
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    classes_ : (n_classes,) array
    features_ : FrameFeatures
    head_ : KMeansClassifier
    chosen_ : dict
        ``grid``, ``shrinkage``, and ``accuracies``: by grid, over frames whose group was left out.
    prototypes_ : (n_clusters,) int array
        The training frame nearest to each cluster's centre.
    n_features_in_ : int
        Values of a frame.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> dark, light = rng.integers(0, 90, (8, 24, 32, 3)), rng.integers(0, 250, (8, 24, 32, 3))
    >>> clf = FrameClassifier(n_filters=20, random_state=0).fit(np.concatenate([dark, light]), [0] * 8 + [1] * 8)
    >>> clf.predict(light[:2]).tolist()
    [1, 1]
    """

    def __init__(
        self,
        frame_shape=None,
        *,
        grid="auto",
        shrinkage="auto",
        clusters_per_class=1,
        projection="discriminant",
        filters="kmeans",
        n_filters=None,
        depth=1,
        random_state=None,
    ):
        self.frame_shape = frame_shape
        self.grid = grid
        self.shrinkage = shrinkage
        self.clusters_per_class = clusters_per_class
        self.projection = projection
        self.filters = filters
        self.n_filters = n_filters
        self.depth = depth
        self.random_state = random_state

    def fit(self, X, y, groups=None):
        """Learn filters, choose grid and shrinkage, fit the head.

        Parameters
        ----------
        X : (n, h, w, c) array of uint8 or float
            Or flat rows with `frame_shape`, or a lazily loaded array such as ``FrameFolder.frames``. Frames are read
            in batches.
        y : (n,) array of labels
        groups : (n,) array, optional
            Frames of one group (a shot) are alike and are left out together; by default every frame is its own.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter, X, y or groups does not fit, or y holds one class.
        """
        self._fit(X, y, groups)
        return self

    def fit_transform(self, X, y=None, groups=None):
        """Fit, and give the distances of the training frames to the clusters without reading them again."""
        features = self._fit(X, y, groups)
        return self.head_.transform(features)

    def _fit(self, X, y, groups):
        """Fit, and give the features of the training frames."""
        if y is None:
            raise ValueError("FrameClassifier: requires y to be passed, but the target y is None")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        automatic = isinstance(self.grid, str) and self.grid == "auto"
        self.features_ = FrameFeatures(
            self.frame_shape,
            grid=GRIDS[0] if automatic else self.grid,
            filters=self.filters,
            n_filters=self.n_filters,
            depth=self.depth,
            random_state=seed,
        )
        self.head_ = KMeansClassifier(
            self.clusters_per_class, projection=self.projection, shrinkage=self.shrinkage, random_state=seed
        )
        codes, groups = self._check_targets(X, y, groups)
        frames = self.features_.learn(X)
        chosen = None
        if automatic and self.projection is not None and self.features_.frame_shape_ is not None:
            raw, chosen = self._choose(frames, codes, groups, seed)
            self.features_.grid = chosen.grid
        else:
            raw = self.features_.extract(frames, [self.features_.grid])[self.features_.grid]
        features = self.features_.standardise(raw)
        self.head_.fit(features, self.classes_[codes], groups)
        self.n_features_in_ = self.features_.n_features_in_
        self.chosen_ = {
            "grid": self.features_.grid,
            "shrinkage": getattr(self.head_, "shrinkage_", None),
            "accuracies": {} if chosen is None else {g: choice.accuracy for g, choice in chosen.tried.items()},
        }
        return features

    def _check_targets(self, X, y, groups):
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        n = X.shape[0] if hasattr(X, "shape") and len(X.shape) else len(X)
        if len(y) != n:
            raise ValueError(f"FrameClassifier: expected a label a frame, got {n} frames and {len(y)} labels")
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"FrameClassifier: expected at least two classes in y, got 1 class ({self.classes_[0]!r})")
        return codes, check_groups(groups, n)

    def _choose(self, frames, codes, groups, seed):
        """Choose on at most 2,000 frames; give the features of all frames over the chosen grid."""
        rows = selection_rows(codes, groups, SELECTION_FRAMES, seed)
        everything = len(rows) == len(frames)
        by_grid = self.features_.extract(frames, GRIDS, rows)
        standardised = {grid: self.features_.standardise(raw) for grid, raw in by_grid.items()}
        chosen = choose_grid(standardised, codes[rows], None if groups is None else groups[rows], seed)
        if everything:
            return by_grid[chosen.grid], chosen
        return self.features_.extract(frames, [chosen.grid])[chosen.grid], chosen

    def predict(self, X):
        """Give the label of every frame, (n,)."""
        return self.head_.predict(self._features(X))

    def predict_proba(self, X):
        """Give probabilities (n, n_classes) in the order of ``classes_``."""
        return self.head_.predict_proba(self._features(X))

    def transform(self, X):
        """Give the distance of every frame to every cluster, (n, n_clusters)."""
        return self.head_.transform(self._features(X))

    def reject(self, X):
        """Say which frames are unlike all training frames, (n,) bool; see :meth:`KMeansClassifier.reject`."""
        return self.head_.reject(self._features(X))

    def _features(self, X):
        check_is_fitted(self)
        return self.features_.transform(X)

    @property
    def prototypes_(self):
        """The training frame nearest to each cluster's centre, (n_clusters,) int."""
        return self.head_.prototypes_

    def save(self, path):
        """Write the fitted classifier as one safetensors file, atomically; see :func:`framecnn.load`.

        Parameters
        ----------
        path : path
        """
        from framecnn.serialization import save

        save(self, path)
