"""The explanation of a prediction: which places of a frame speak for its class rather than for another."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecnn import geometry
from framecnn.errors import SettingError, ShapeError
from framecnn.estimators.checks import check_overflow
from framecnn.estimators.features import FINE_GRID, FrameFeatures
from framecnn.kernels.threads import single_threaded_blas
from framecnn.layers import DownsamplingLayer, FilterBankLayer, InputLayer, Layer, PoolingLayer
from framecnn.layers.settings import layer_window
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array

__all__ = ["Explanation", "ExplanationMixin", "explain", "filter_contributions"]


@dataclass(frozen=True)
class Explanation:
    """What speaks for the predicted class of a frame, rather than for another class, and where.

    ``evidence == baseline + map.sum()`` but for rounding to float32; ``map.sum() == cells.sum()`` likewise.

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
    cells : (n_scales, rows, columns) float64 array
        The same by scale and cell of the pooling grid.
    """

    label: Any
    against: Any
    evidence: float
    baseline: float
    map: Array
    cells: Array


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

    A feature belongs to one scale, one cell of the grid and one filter, and is zero for the mean of the training
    frames. So the contributions of cells and scales are exact: they are the Shapley values of a linear model with
    independent features. A feature before standardisation is the square root of a mean of responses, :math:`r_p` of
    :math:`n` windows at positions :math:`p` of the cell. Each position gets a share in proportion to its response, less
    an equal share of the mean of the training frames:

    .. math:: \frac{u_k}{scale_k} \left( \frac{r_p}{n \sqrt{\bar r}} - \frac{mean_k}{n} \right)

    and each pixel of a window an equal share of that. The sum stays exact; how a cell's contribution is divided among
    its pixels is this rule, not a consequence of the model, and a contribution is no finer than a window: 6 pixels of
    the frame at the finest scale, 24 at the coarsest. A place without any pattern can speak for a class too, where the
    training frames have patterns.

    Parameters
    ----------
    classifier : FrameClassifier
        Fitted on frames, with learned features of any depth.
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
        If the features are trained, or were feature vectors at fit; if `against` is not a class with a cluster, or is
        the predicted class.
    ShapeError, ValueError
        If the frame does not fit, or holds NaN or infinity.
    FormatError
        If the result is not finite, as for frames that are too large.

    References
    ----------
    Lundberg & Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017: Shapley values of a linear
    model. Bach et al., "On Pixel-Wise Explanations", PLoS ONE 2015: shares in proportion to responses.

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
    features, head = _checked_parts("explain", classifier)
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
        pixels, cells = _contributions(features, frames, weights / features.scale_)
        check_overflow("explain", "contributions", pixels)
    return Explanation(
        label=classifier.classes_.tolist()[head.cluster_labels_[label]],
        against=classifier.classes_.tolist()[head.cluster_labels_[other]],
        evidence=float(distances[other] ** 2 - distances[label] ** 2) / head.temperature_,
        baseline=float(from_origin[1] - from_origin[0]) / head.temperature_,
        map=pixels,
        cells=cells,
    )


@single_threaded_blas()
def filter_contributions(classifier: Any, X: Any, y: Any) -> list[Array]:
    """Return how much each filter adds to the score of a class, on the average of some frames of the class.

    A feature is zero for the mean of the training frames, so a positive contribution means that the filter responds
    more, or less, than on average in a way that speaks for the class. Contributions of cells and thresholds are summed.

    Parameters
    ----------
    classifier : FrameClassifier
        Fitted on frames, with learned features and the discriminant projection.
    X : (n, h, w, c) array
        Frames, such as the typical ones of each class.
    y : (n,) array of labels
        Their classes.

    Returns
    -------
    list of (n_classes, n_filters) float64 arrays
        One per scale; zero for a class without frames. With ``depth=2`` the filters are those of the second bank.

    Raises
    ------
    SettingError
        If the features are trained, or were feature vectors at fit, or there is no projection.

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
    features, head = _checked_parts("filter_contributions", classifier)
    if head.projection is None:
        raise SettingError(
            "filter_contributions: expected projection='discriminant', got None; plain k-means has no weights"
        )
    values, labels = features.transform(X).astype(np.float64), np.asarray(y)
    added = np.zeros((len(head.classes_), values.shape[1]))
    for own, label, weights in zip(added, head.classes_, head.weights_.T, strict=True):
        if (labels == label).any():
            own[:] = values[labels == label].mean(axis=0) * weights
    found, start = [], 0
    for backbone in features.backbones_:
        bank = backbone.layers[-2]
        stop = start + features.grid[0] * features.grid[1] * backbone.output_shape[2]
        found.append(added[:, start:stop].reshape(len(added), -1, bank.filters).sum(axis=1))  # type: ignore[attr-defined]
        start = stop
    return found


def _checked_parts(who: str, classifier: Any) -> tuple[FrameFeatures, Any]:
    """Return features and head of a classifier; raise SettingError unless its features have places."""
    features = classifier.features_
    if not isinstance(features, FrameFeatures) or not features.backbones_ or not all(map(_known, features.backbones_)):
        raise SettingError(
            f"{who}: expected a FrameClassifier fitted on frames with features='learned'; features that a network "
            "was trained to compute, and feature vectors, have no exact contributions of places"
        )
    return features, classifier.head_


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


def _known(backbone: Sequential) -> bool:
    """Return whether a backbone ends with responses and their mean over the fine grid, after layers with windows."""
    *layers, last = backbone.layers
    kinds = InputLayer | DownsamplingLayer | PoolingLayer | FilterBankLayer
    responses = all(isinstance(layer, kinds) for layer in layers) and isinstance(layers[-1], FilterBankLayer)
    return responses and isinstance(last, PoolingLayer) and last.mode == "adaptive_average"


def _contributions(features: FrameFeatures, frames: Array, weights: Array) -> tuple[Array, Array]:
    """Return the contributions of pixels (h, w) and of cells (n_scales, rows, columns) for one frame (1, h, w, c).

    `weights` (n_features,) belong to features before standardisation.
    """
    batch = features._read(features._check(frames, reset=False), np.array([0]))
    n_rows, n_columns = features.grid
    pixels, cells = np.zeros(features.frame_shape_[:2]), []
    copies = [(batch, 1), (batch[:, :, ::-1], -1)] if features.averages_flips_ else [(batch, 1)]
    start = 0
    for backbone in features.backbones_:
        stop = start + n_rows * n_columns * backbone.output_shape[2]
        shape = n_rows, n_columns, -1
        own = weights[start:stop].reshape(shape) / len(copies)
        absent = (own * features.mean_[start:stop].reshape(shape)).sum(axis=2)
        rows, columns = _spreads(backbone)
        cells.append(np.zeros((n_rows, n_columns)))
        for copied, direction in copies:
            responses = Sequential(backbone.layers[:-1]).predict(copied)[0]
            for cell, positions in _positions(responses, own, absent):
                pixels += (rows @ positions @ columns.T)[:, ::direction]
                cells[-1][cell] += positions.sum()
        start = stop
    return pixels, np.array(cells)


def _positions(responses: Array, weights: Array, absent: Array) -> Iterator[tuple[tuple[int, int], Array]]:
    """Yield each cell of the grid, and the contributions (oh, ow) of the positions to it.

    Takes responses (oh, ow, d), weights (rows, columns, d), and the contribution `absent` (rows, columns) that the mean
    training frame has in each cell.
    """
    down, across = (
        _cell_means(*sizes) for sizes in zip(responses.shape[:2], weights.shape[:2], FINE_GRID, strict=True)
    )
    for row, column in np.ndindex(absent.shape):
        (ys,), (xs,) = down[row].nonzero(), across[column].nonzero()
        cell = slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)
        share = np.outer(down[row, cell[0]], across[column, cell[1]])
        inside = responses[cell].astype(np.float64)
        roots = np.sqrt(np.tensordot(share, inside, axes=2))
        gain = np.divide(weights[row, column], roots, out=np.zeros_like(roots), where=roots > 0)
        positions = np.zeros(responses.shape[:2])
        positions[cell] = share * (inside @ gain - absent[row, column])
        yield (row, column), positions


def _cell_means(n_positions: int, n_cells: int, n_fine: int) -> Array:
    """Return the matrix (n_cells, n_positions) that averages positions over cells, each a mean of fine cells."""
    fine = _averages(geometry.adaptive_cells(n_positions, n_fine), n_positions)
    return fine.reshape(n_cells, -1, n_positions).mean(axis=1)


def _averages(windows: geometry.Ranges, length: int) -> Array:
    """Return the matrix (n_windows, length) that averages the pixels of each window along an axis."""
    inside = np.zeros((len(windows[0]), length))
    for row, (start, stop) in zip(inside, zip(*windows[:2], strict=True), strict=True):
        row[start : stop : windows[2]] = 1
    return inside / inside.sum(axis=1, keepdims=True)


def _spreads(backbone: Sequential) -> tuple[Array, Array]:
    """Return the matrices (h, oh) and (w, ow) that share a contribution of a position equally among its pixels."""
    height, width, _ = backbone.input_shape
    rows, columns = np.eye(height), np.eye(width)
    for layer in backbone.layers[1:-1]:
        down, across = _windows(layer)
        rows = rows @ _averages(down, rows.shape[1]).T
        columns = columns @ _averages(across, columns.shape[1]).T
    return rows, columns


def _windows(layer: Layer) -> tuple[geometry.Ranges, geometry.Ranges]:
    """Return the pixels of a layer's windows along the rows and the columns of its input."""
    height, width, _ = layer.input_shape
    if isinstance(layer, PoolingLayer):
        return layer.windows((height, width))
    if isinstance(layer, DownsamplingLayer):
        return geometry.sliding_window((height, width), layer.factor, layer.factor, (1, 1), "valid", "explain").pixels
    assert isinstance(layer, FilterBankLayer)
    return layer_window(layer, (height, width), layer.kernel_size).pixels
