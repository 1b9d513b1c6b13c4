"""The explanation of a prediction: which places of a frame speak for its class rather than for another."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecnn.errors import SettingError, ShapeError
from framecnn.estimators.checks import check_overflow
from framecnn.estimators.feature_choice import kind_of
from framecnn.estimators.features import FrameFeatures
from framecnn.estimators.learned_contributions import contributions_of_windows, has_windows
from framecnn.estimators.network_contributions import contributions_of_positions, has_positions
from framecnn.estimators.network_features import NetworkFeatures
from framecnn.estimators.transformer import FrameTransformer
from framecnn.kernels.threads import single_threaded_blas
from framecnn.typing import Array

__all__ = ["Explanation", "ExplanationMixin", "explain", "filter_contributions"]


@dataclass(frozen=True)
class Explanation:
    """What speaks for the predicted class of a frame, rather than for another class, and where.

    ``evidence == baseline + map.sum()`` but for rounding to float32. The sum of all `cells`, and that of `by_kind`, is
    that of the map likewise.

    Parameters
    ----------
    label, against : label
        The predicted class, and the class that it is compared with.
    evidence : float
        The logarithm of the probability of `label` divided by that of `against`.
    baseline : float
        The evidence that a frame with the mean features of the training frames has.
    map : (h, w) float64 array
        The part of the evidence that comes from each pixel: positive where the frame speaks for `label`.
    cells : tuple of (rows, columns) float64 arrays
        The same before it is shared out among pixels, by network: of learned features, for each scale, by cell of the
        pooling grid; then of the features of a network by position of its maps.
    by_kind : dict of str to float
        The sum of the contributions of each kind of features: ``"learned"``, ``"pretrained"``, ``"network"``.
    """

    label: Any
    against: Any
    evidence: float
    baseline: float
    map: Array
    cells: tuple[Array, ...]
    by_kind: dict[str, float]


class ExplanationMixin:
    """The method of a classifier of frames that explains a prediction."""

    def explain(self, frame: Any, against: Any = None) -> Explanation:
        """Return which places of a frame speak for its predicted class rather than for another class.

        :func:`framecnn.estimators.explain` says how, and which errors it raises.

        Parameters
        ----------
        frame : (h, w, c) array
            One frame, as for :meth:`predict`; or a flat row.
        against : label, optional
            The class to compare with; by default the most probable of the others.

        Returns
        -------
        Explanation
        """
        return explain(self, frame, against)


@single_threaded_blas()
def explain(classifier: Any, frame: Any, against: Any = None) -> Explanation:
    r"""Return which places of a frame speak for its predicted class rather than for another class.

    The logarithm of the ratio of two probabilities is the difference of two squared distances to cluster centres,
    divided by the temperature. It is linear in the features :math:`x_k`, since the square of the scores cancels:

    .. math:: \log \frac{p_a}{p_b} = baseline + \sum_k u_k x_k

    A feature is zero for the mean of the training frames, so contributions of features are exact: they are the Shapley
    values of a linear model with independent features.

    **Learned features.** A feature belongs to one scale, one cell of the grid and one filter. Before standardisation it
    is the square root of a mean of responses, :math:`r_p` of :math:`n` windows at positions :math:`p` of the cell. Each
    position gets a share in proportion to its response, less an equal share of the mean of the training frames:

    .. math:: \frac{u_k}{scale_k} \left( \frac{r_p}{n \sqrt{\bar r}} - \frac{mean_k}{n} \right)

    and each pixel of a window an equal share of that. The sum stays exact; how a cell's contribution is divided among
    its pixels is this rule, not a consequence of the model, and a contribution is no finer than a window: 6 pixels of
    the frame at the finest scale, 24 at the coarsest. A place without any pattern can speak for a class too, where the
    training frames have patterns.

    **Pretrained features, and those of a network that ends in maps.** A feature before standardisation is the mean of a
    map :math:`m_p` over :math:`n` positions, so the contributions of positions are exact as well:

    .. math:: \frac{u_k}{scale_k} \, \frac{m_p - mean_k}{n}

    A position stands for a cell of the frame, all equally large (7 x 7 for pretrained features), and its contribution
    is shared out smoothly around the centre of the cell. What a position reads of the frame is larger than its cell.

    With both kinds of features, the map is the sum of the two.

    Parameters
    ----------
    classifier : FrameClassifier
        Fitted on frames, with learned features of any depth, pretrained ones, both, or those of a network that ends in
        maps or in their means.
    frame : (h, w, c) array
        One frame, as for ``predict``; or a flat row.
    against : label, optional
        The class to compare with; by default the most probable of the others.

    Returns
    -------
    Explanation

    Raises
    ------
    SettingError
        If the features are those of a network that ends in rows, as trained ones, or were feature vectors at fit; if
        `against` is not a class with a cluster, or is the predicted class.
    ShapeError, ValueError
        If the frame does not fit, or holds NaN or infinity.
    FormatError
        If the result is not finite, as for frames that are too large.

    References
    ----------
    Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017: Shapley values of a linear
    model. Bach et al., "On Pixel-Wise Explanations", PLoS ONE 2015: shares in proportion to responses. Zhou et al.,
    "Learning Deep Features for Discriminative Localization", CVPR 2016: contributions of positions of maps.

    Examples
    --------
    >>> from framecnn.estimators import FrameClassifier
    >>> rng = np.random.default_rng(0)
    >>> above, below = rng.integers(0, 256, (2, 8, 24, 32, 3), dtype=np.uint8)
    >>> above[:, 12:], below[:, :12] = 128, 128
    >>> clf = FrameClassifier(grid=(2, 1), n_filters=20, random_state=0)
    >>> clf = clf.fit(np.concatenate([above, below]), ["above"] * 8 + ["below"] * 8)
    >>> found = explain(clf, above[0])
    >>> found.label, found.against, found.map.shape, bool(found.map.sum() > 0)
    ('above', 'below', (24, 32), True)
    """
    classifier = copy.copy(classifier)  # another thread may fit it
    features, head = classifier.features_, classifier.head_
    _check_places(features)
    if np.shape(frame) not in (features.frame_shape_, (features.n_features_in_,)):
        raise ShapeError(
            f"explain: expected one frame of shape {features.frame_shape_}, got shape {np.shape(frame)}; "
            "explain frames one at a time"
        )
    frames = np.asarray(frame)[None]
    with np.errstate(over="ignore", invalid="ignore"):
        distances = head.transform(features.transform(frames))[0]
        label, other = _clusters(classifier, distances, against)
        centres = head.cluster_centers_.astype(np.float64)
        weights, origin = 2 / head.temperature_ * (centres[label] - centres[other]), np.zeros(centres.shape[1])
        if head.projection is not None:
            projection = head.weights_.astype(np.float64)
            weights, origin = projection @ weights, head.offset_ - head.mean_ @ projection
        from_origin = ((centres[[label, other]] - origin) ** 2).sum(axis=1)
        pixels, cells, by_kind = _contributions(features, frames, weights / features.scale_)
        check_overflow("explain", "contributions", pixels)
    return Explanation(
        label=classifier.classes_.tolist()[head.cluster_labels_[label]],
        against=classifier.classes_.tolist()[head.cluster_labels_[other]],
        evidence=float(distances[other] ** 2 - distances[label] ** 2) / head.temperature_,
        baseline=float(from_origin[1] - from_origin[0]) / head.temperature_,
        map=pixels,
        cells=tuple(cells),
        by_kind=by_kind,
    )


@single_threaded_blas()
def filter_contributions(classifier: Any, X: Any, y: Any) -> list[Array]:
    """Return how much each filter adds to the score of a class, on the average of some frames of the class.

    A feature is zero for the mean of the training frames, so a positive contribution means that the filter responds
    more, or less, than on average in a way that speaks for the class. Contributions of cells and thresholds are summed.

    Parameters
    ----------
    classifier : FrameClassifier
        Fitted on frames, with learned features, alone or beside pretrained ones, and the discriminant projection.
    X : (n, h, w, c) array
        Frames, such as the typical ones of each class.
    y : (n,) array of labels
        Their classes.

    Returns
    -------
    list of (n_classes, n_filters) float64 arrays
        One per scale of the learned features; zero for a class without frames. With ``depth=2`` the filters are those
        of the second bank.

    Raises
    ------
    SettingError
        If no features are learned, or they were feature vectors at fit, or there is no projection.

    Examples
    --------
    >>> from framecnn.estimators import FrameClassifier
    >>> rng = np.random.default_rng(0)
    >>> noise, flat = rng.integers(0, 256, (8, 24, 32, 3), np.uint8), np.full((8, 24, 32, 3), 99, np.uint8)
    >>> X, y = np.concatenate([noise, flat]), ["noise"] * 8 + ["flat"] * 8
    >>> clf = FrameClassifier(n_filters=20, random_state=0).fit(X, y)
    >>> [found.shape for found in filter_contributions(clf, X, y)]
    [(2, 20)]
    """
    classifier = copy.copy(classifier)
    features, head = classifier.features_, classifier.head_
    learned = features.parts_[0]
    if not isinstance(learned, FrameFeatures) or not has_windows(learned):
        raise SettingError(
            "filter_contributions: expected a FrameClassifier fitted on frames with features='learned' or 'both', got "
            f"{type(features).__name__}; other features have no filters whose contributions could be summed"
        )
    if head.projection is None:
        raise SettingError(
            "filter_contributions: expected projection='discriminant', got None; plain k-means has no weights"
        )
    raw, labels = learned.compute(features._check(X, reset=False)), np.asarray(y)
    block = slice(raw.shape[1])
    values = ((raw - features.mean_[block]) / features.scale_[block]).astype(np.float64)
    added = np.zeros((len(head.classes_), values.shape[1]))
    for own, label, weights in zip(added, head.classes_, head.weights_[block].T, strict=True):
        if (labels == label).any():
            own[:] = values[labels == label].mean(axis=0) * weights
    found, start = [], 0
    for backbone in learned.backbones_:
        bank = backbone.layers[-2]
        stop = start + learned.grid[0] * learned.grid[1] * backbone.output_shape[2]
        found.append(added[:, start:stop].reshape(len(added), -1, bank.filters).sum(axis=1))  # type: ignore[attr-defined]
        start = stop
    return found


def _check_places(features: FrameTransformer) -> None:
    """Raise SettingError unless all features have places."""
    if not all(map(_has_places, features.parts_)):
        raise SettingError(
            "explain: expected a FrameClassifier fitted on frames with features='learned', 'pretrained' or 'both', or "
            f"of a network that ends in maps, got {type(features).__name__} without places; feature vectors and a "
            "network that ends in rows, as a trained one, have no exact contributions of places; "
            "NetworkFeatures(network, layer=...) takes a layer that has maps"
        )


def _has_places(features: FrameTransformer) -> bool:
    if isinstance(features, FrameFeatures):
        return has_windows(features)
    return isinstance(features, NetworkFeatures) and has_positions(features)


def _contributions(
    features: FrameTransformer, frames: Array, weights: Array
) -> tuple[Array, list[Array], dict[str, float]]:
    """Return the contributions of pixels (h, w), of cells and positions by network, and of the kinds of features.

    `weights` (n_features,) belong to features before standardisation.
    """
    batch = features._read(features._check(frames, reset=False), np.array([0]))
    pixels, cells, by_kind, start = np.zeros(batch.shape[1:3]), [], {}, 0
    for part in features.parts_:
        block = slice(start, start + sum(network.output_shape[0] for network in part.networks_))
        compute = contributions_of_windows if isinstance(part, FrameFeatures) else contributions_of_positions
        own, own_cells = compute(part, batch, weights[block], features.mean_[block])
        pixels += own
        cells += own_cells
        by_kind[kind_of(part)] = float(own.sum())
        start = block.stop
    return pixels, cells, by_kind


def _clusters(classifier: Any, distances: Array, against: Any) -> tuple[int, int]:
    """Return the nearest cluster, and the nearest one of the class `against`, by default of any other class."""
    of_class = classifier.head_.cluster_labels_
    label = int(distances.argmin())
    predicted, classes = of_class[label], classifier.classes_.tolist()
    candidates = of_class != predicted
    if against is not None:
        candidates &= of_class == (classes.index(against) if against in classes else -1)
    if not candidates.any():
        expected = sorted(str(classes[code]) for code in set(of_class) - {predicted})
        raise SettingError(
            f"explain: expected against as another class than the predicted one, {classes[predicted]!r}, that has a "
            f"cluster (of {', '.join(expected) or 'none'}), got {against!r}"
        )
    return label, int(np.where(candidates, distances, np.inf).argmin())
