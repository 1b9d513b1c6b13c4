"""The classifier of frames: features and the k-means head together."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from framecnn.data.shards import Shards, as_shards
from framecnn.estimators.checks import as_random_state, check_known, check_names, encode_groups, encode_labels
from framecnn.estimators.details import DetailsMixin
from framecnn.estimators.explanation import ExplanationMixin
from framecnn.estimators.feature_choice import CLASSES, FeatureChoice, choose_features, kinds_of, new_features
from framecnn.estimators.file_predictions import PictureFilesMixin
from framecnn.estimators.head import KMeansClassifier
from framecnn.estimators.saved_estimator import SavedEstimator
from framecnn.estimators.snapshot import maps_rows, reads_snapshot, sets_atomically
from framecnn.estimators.state import as_number, as_parameters, describe_parameters, pack_names, unpack_names
from framecnn.estimators.transformer import FrameTransformer
from framecnn.storage.model_file import Description, State, expect, nested, prefixed
from framecnn.typing import Array

__all__ = ["FrameClassifier"]


class FrameClassifier(PictureFilesMixin, DetailsMixin, ExplanationMixin, ClassifierMixin, SavedEstimator):
    """A classifier of frames by filters learned without labels and a k-means head.

    :class:`FrameFeatures` computes features of the frames, :class:`KMeansClassifier` labels them. If the extra
    `pretrained` is installed, features by a network trained on ImageNet are tried too, alone and beside learned ones.
    :meth:`fit` chooses features, pooling grid and ridge penalty on held-out groups of the training frames; nothing
    needs tuning. With ``features="trained"`` the features are those of a network trained by back-propagation, see
    :class:`framecnn.estimators.TrainedFeatures`.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows. Without it, 2-D input is treated as feature vectors.
    features : "auto" (default), "learned", "trained", "pretrained", "both", Sequential or NetworkFeatures
        "pretrained" and "both" need the extra `pretrained`; for "both", the weight of each kind is chosen on held-out
        groups. "auto" takes learned, pretrained or both features, the best on held-out groups, the cheapest of equal
        ones; without the extra, or if frames are neither grey nor in colour, it is "learned". Only learned features use
        grid, filters, n_filters and depth.
    grid : "auto" (default) or (int, int)
        Cells of the pooling. "auto" chooses among 1 x 1, 2 x 2 and 3 x 4; without a projection it is 1 x 1.
    alpha : "auto" (default) or float
        Ridge penalty of the projection, in units of the number of features.
    clusters_per_class : int, default 1
    projection : "discriminant" (default) or None
        None is the plain k-means head.
    filters : "kmeans" (default), "random" or "pca"
    n_filters : int or None, default None
        None is 1,200, or 3,000 where the shorter side of the frames is below 48 pixels.
    depth : 1 (default) or 2
        The number of filter banks; a second one is applied to the responses of the first.
    class_weight : None (default) or "balanced"
        "balanced" makes all classes count the same, however many frames they have; see :class:`KMeansClassifier`.
    false_alarm_rate : float, default 0.05
        The share of frames like those of training that are to be out-of-distribution, above 0 and below 1.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    classes_ : (n_classes,) array
    features_ : FrameFeatures, TrainedFeatures, PretrainedFeatures, JoinedFeatures or NetworkFeatures
    head_ : KMeansClassifier
    chosen_ : dict
        ``grid`` (None without learned features), ``alpha``, and ``accuracies`` on held-out groups, by grid;
        ``features``, the kind, with ``features_accuracies`` and ``features_seconds`` by kind, if several were tried;
        ``learned_share``, that of learned features in the variance of both.
    prototypes_ : (n_clusters,) int array
        For each cluster, the row of the member frame nearest to its centre.
    held_out_probabilities_ : (n, n_classes) array
        The probabilities of the training frames, each from a head fitted without its group; filters, grid and ridge
        penalty are those of all training frames, and so are trained features, which makes the probabilities of these
        too high. NaN for a frame whose group cannot be held out, as the only one of a class. Not saved.
    outlier_threshold_ : float
        The outlier score above which a frame is out-of-distribution; :meth:`reject` says which are.
    training_names_ : (n,) str array or None
        The names of the training frames that were given to :meth:`fit`.
    n_features_in_ : int
        Values of a frame.

    Notes
    -----
    Features of training frames that do not fit the memory go to files; see :func:`framecnn.working_memory`.

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
    max_selection_frames = 2000
    """The largest number of frames on which the grid is chosen."""

    def __init__(
        self,
        frame_shape: Any = None,
        *,
        features: Any = "auto",
        grid: Any = "auto",
        alpha: float | str = "auto",
        clusters_per_class: int = 1,
        projection: str | None = "discriminant",
        filters: str = "kmeans",
        n_filters: int | None = None,
        depth: int = 1,
        class_weight: str | None = None,
        false_alarm_rate: float = 0.05,
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
        self.class_weight = class_weight
        self.false_alarm_rate = false_alarm_rate
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, names: Any = None) -> Self:
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
        names : (n,) array of str, optional
            Names of the frames, such as their paths, by which users know the rows that :meth:`nearest` returns.

        Returns
        -------
        self

        Raises
        ------
        SettingError
            If a parameter has an invalid value.
        ShapeError
            If X, y, groups or names does not fit, or y holds fewer than two classes.
        ValueError
            If X holds NaN or infinity, or scikit-learn refuses feature vectors or labels.
        """
        self.fit_features(X, y, groups, names)
        return self

    def fit_transform(self, X: Any, y: Any = None, groups: Any = None, names: Any = None) -> Array:
        """Fit; return the distances of the training frames to the clusters without reading the frames again.

        Parameters
        ----------
        X, y, groups, names
            As in :meth:`fit`.

        Returns
        -------
        (n, n_clusters) array
        """
        features = self.fit_features(X, y, groups, names)
        return self.head_.transform(features)

    @sets_atomically
    def fit_features(self, X: Any, y: Any, groups: Any = None, names: Any = None) -> Shards:
        """Fit; return the features of the training frames, input of ``head_``, without reading the frames again.

        Parameters
        ----------
        X, y, groups, names
            As in :meth:`fit`.

        Returns
        -------
        Shards (n, n_features)
            Indexed as an array; ``np.asarray`` reads all of them into memory.
        """
        seed = int(as_random_state("FrameClassifier", self.random_state).randint(2**31 - 1))
        first, head = self._new_parts(seed)
        frames = first.validate(X)
        classes, codes = encode_labels("FrameClassifier", y, len(frames))
        groups = encode_groups("FrameClassifier", groups, len(frames))
        names = check_names("FrameClassifier", names, len(frames))
        choice = choose_features(self, frames, first, codes, groups, seed)
        features, found = choice.features, choice.found
        head.network_moments = features.network_moments_
        head.fit(found, classes[codes], groups)
        if features.frame_shape_ is not None:
            head.outliers_ = head.outliers_.with_blanks(features.transform(features.blank_frames(frames.dtype)))
        self._set_parts(choice, head, names)
        return found

    @maps_rows
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

    @maps_rows
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

    @maps_rows
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
        ShapeError
            If y is None, or holds a label that was not seen at fit, which no prediction can equal.
        """
        check_is_fitted(self)
        check_known("FrameClassifier", y, self.classes_)
        return super().score(X, y, sample_weight)

    @property
    def prototypes_(self) -> Array:
        """For each cluster, the row of the member frame nearest to its centre, (n_clusters,) int."""
        return self.head_.prototypes_

    @property
    def held_out_probabilities_(self) -> Array:
        """The probabilities of the training frames, (n, n_classes), each from a head without its group; else NaN."""
        return self.head_.held_out_probabilities_

    @property
    def outlier_threshold_(self) -> float:
        """The outlier score above which a frame is out-of-distribution."""
        return self.head_.outlier_threshold_

    def fitted_state(self) -> State:
        """Return parameters, the accuracy of each grid, the names of training frames, and the states of the parts."""
        check_is_fitted(self, "head_")
        description: dict[str, Any] = {
            "parameters": describe_parameters(self),
            "accuracies": list(self.chosen_["accuracies"].items()),
            "features_kind": self.chosen_["features"],
            "features_accuracies": list(self.chosen_["features_accuracies"].items()),
        }
        tensors = {} if self.training_names_ is None else {"training_names": pack_names(self.training_names_)}
        for name, part in (("features", self.features_), ("head", self.head_)):
            description[name], part_tensors = part.fitted_state()
            tensors |= prefixed(name, part_tensors)
        return description, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild a classifier from the state that :meth:`fitted_state` returned.

        Raises
        ------
        FormatError, ValueError
            If the parts do not fit together.
        """
        classifier = cls(**as_parameters(description["parameters"]))
        seed = classifier.random_state
        expect(seed is None or (type(seed) is int and seed >= 0), "random_state as None or an integer of at least 0")
        classifier._new_parts(seed=0)
        kind = description["features_kind"]
        expect(kind in kinds_of(classifier.features), "features of a kind that the parameters name")
        parts = {name: nested(name, tensors) for name in ("features", "head")}
        packed = tensors.get("training_names")
        expect(
            sum(map(len, parts.values())) + (packed is not None) == len(tensors),
            "no tensors beside those of features and head, and training_names",
        )
        features = CLASSES[kind].from_fitted_state(description["features"], parts["features"])
        head = KMeansClassifier.from_fitted_state(description["head"], parts["head"])
        expect(classifier.frame_shape in (None, features.frame_shape_), "the same frame shape in all parts")
        same_grid = features.grid is None or classifier.grid in ("auto", features.grid)
        expect(same_grid, "the same pooling grid in all parts")
        expect(classifier.projection == head.projection, "the same projection in all parts")
        expect(head.n_features_in_ == len(features.mean_), "a head for as many features as are computed")
        expect(head.cluster_centers_.dtype == features.mean_.dtype, "features and head of the same float dtype")
        grids = _accuracies(description["accuracies"], _is_grid, "a pooling grid of integers for each accuracy")
        tried = _accuracies(description["features_accuracies"], CLASSES.__contains__, "kinds of features")
        if classifier.features is None:
            classifier.features = features
        names = None if packed is None else unpack_names(packed)
        expect(names is None or len(names) > head.outliers_.rows[-1], "a name for each training frame")
        choice = FeatureChoice(kind, features, as_shards(np.empty((0, 0))), grids, tried)
        classifier._set_parts(choice, head, names)
        return classifier

    @property
    def _n_features_out(self) -> int:
        return len(self.head_.cluster_centers_)

    def _features(self, X: Any) -> Shards | Array:
        check_is_fitted(self)
        return self.features_.transform_when_read(X)

    def _head_and_vectors(self, X: Any) -> tuple[KMeansClassifier, Any]:
        features = self._features(X)
        return self.head_, features

    def _new_parts(self, seed: int) -> tuple[FrameTransformer, KMeansClassifier]:
        """Return unfitted features and head; raise SettingError if a parameter has an invalid value."""
        features = new_features(self, kinds_of(self.features)[0], seed)
        features.check_parameters()
        head = KMeansClassifier(
            self.clusters_per_class,
            projection=self.projection,
            alpha=self.alpha,
            class_weight=self.class_weight,
            false_alarm_rate=self.false_alarm_rate,
            random_state=seed,
        )
        head.check_parameters()
        return features, head

    def _set_parts(self, choice: FeatureChoice, head: KMeansClassifier, names: Array | None) -> None:
        features = choice.features
        self.classes_, self.features_, self.head_ = head.classes_, features, head
        self.n_features_in_, self.training_names_ = features.n_features_in_, names
        self.chosen_ = {
            "grid": features.grid,
            "alpha": getattr(head, "alpha_", None),
            "accuracies": choice.grids,
            "features": choice.kind,
            "features_accuracies": choice.accuracies,
            "features_seconds": choice.seconds,
            "learned_share": getattr(features, "learned_share", None),
        }


def _accuracies(described: Any, is_key: Callable[[Any], bool], what: str) -> dict[Any, float]:
    """Return accuracies by grid or kind from a file; raise FormatError for others."""
    found = {}
    for key, accuracy in described:
        key = tuple(key) if isinstance(key, list) else key
        expect(is_key(key), what)
        found[key] = as_number(accuracy)
    return found


def _is_grid(key: Any) -> bool:
    return isinstance(key, tuple) and len(key) == 2 and all(type(size) is int for size in key)
