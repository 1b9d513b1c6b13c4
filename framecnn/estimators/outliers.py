"""Outlier scores: how unlike the training samples a sample is, and which of them are the most like it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from scipy import linalg

from framecnn import kernels
from framecnn.data.shards import Shards, as_shards
from framecnn.errors import SettingError
from framecnn.estimators.checks import check_overflow
from framecnn.estimators.ridge import folds_by_group
from framecnn.estimators.selection import selection_rows
from framecnn.estimators.state import as_number
from framecnn.kernels.linalg import lower_gram, squared_distances
from framecnn.storage.model_file import Description, State, expect
from framecnn.typing import Array

__all__ = ["OutlierDetector"]

N_COMPONENTS, N_LEADING = 128, 32
SHRINKAGE = 1e-4  # added to within-class variances, in units of the summed variance of the features
MAX_SAMPLES = 5000  # training samples that are kept
MAX_SELECTION = 1000  # training samples from which components and threshold are computed
N_FOLDS = 10  # of nearly as many samples as all: a nearest sample of fewer samples is farther away
BLOCK = 1024  # samples that are compared at a time
NEAR_COPY = 0.1  # of the threshold: below it a blank sample is like a blank training sample
SMALLEST = 1e-6  # cosine distances below it are rounding
DIMENSIONS = {"mean": 1, "components": 2, "rotation": 2, "offset": 1, "network_mean": 1, "network_scale": 1}
Moments = tuple[Array, Array]


@dataclass(frozen=True)
class OutlierDetector:
    """Coordinates of the training samples, and the score above which a new sample is an outlier.

    Features are projected to up to 128 principal components, except those by a network that was trained elsewhere. The
    dissimilarity of two samples is the product of

    * the Euclidean distance on the first 32 components, each divided by the fourth root of its variance;
    * the cosine distance on all components after whitening by the within-class covariance, as Mahalanobis distances of
      classes use it (Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018),
      shrunk by 1e-4 of the summed variance of all features;
    * the squared cosine distance on the features by a network that was trained elsewhere, before they are standardised;
      squared, it has the weight of the two others.

    Without features of a kind, their factors are left out. The first factor sees samples far from all training samples;
    the second sees samples in directions in which classes do not lie; the third sees other contents. The outlier score
    is the dissimilarity to the nearest training sample (as Sun et al., "Out-of-Distribution Detection with Deep
    Nearest Neighbors", ICML 2022, who use the third). A sample that is nearer to a blank one than to all training
    samples has a score above the threshold. The threshold is a quantile of the scores of training samples,
    each compared with the samples of the other folds by group, with components and covariance of these alone.

    samples (m, l + k + p); rows (m,) of the samples in the training data, at most 5,000, evenly over the groups;
    blanks (b, l + k + p).
    """

    space: "_Space"
    samples: Array
    rows: Array
    blanks: Array
    threshold: float

    @classmethod
    def fit(
        cls, X: Shards | Array, codes: Array, groups: Array | None, false_alarm_rate: float, seed: int, moments: Moments
    ) -> Self:
        """Fit the detector to samples (n, d), their class numbers (n,), and groups (n,), None if each is its own.

        `moments` are means and scales (p,) by which the last p features were standardised: those by a network that was
        trained elsewhere.
        """
        rows = selection_rows(len(X), groups, MAX_SAMPLES, seed)
        codes, groups, held = codes[rows], None if groups is None else groups[rows], as_shards(X).held(rows)
        chosen = selection_rows(len(rows), groups, MAX_SELECTION, seed)
        scores = np.empty(len(rows))
        everything = np.arange(len(rows))
        folds = folds_by_group(codes, groups, seed, N_FOLDS) or folds_by_group(codes, None, seed, N_FOLDS)
        for fold in folds or np.array_split(everything, 2):
            known = np.setdiff1d(chosen, fold)
            own, others = np.intersect1d(chosen, fold), np.setdiff1d(everything, fold)
            space = _Space.fit(held[known], codes[known], moments)
            found = space.dissimilarities(space.place(held, own), space.place(held, others))
            scores[own] = found.min(axis=1, initial=np.inf)
        space = _Space.fit(held[chosen], codes[chosen], moments)
        samples = space.place(held)
        return cls(space, samples, rows, samples[:0], float(np.quantile(scores[chosen], 1 - false_alarm_rate)))

    def with_blanks(self, X: Array) -> Self:
        """Return a detector that knows the features (b, d) of samples without content, such as noise."""
        return replace(self, blanks=self.space.place(X))

    def compare(self, X: Shards | Array, k: int) -> tuple[Array, Array, Array]:
        """Return outlier scores (n,), and rows and dissimilarities (n, k) of the nearest training samples in order.

        Raises
        ------
        SettingError
            If `k` is larger than the number of training samples that are kept.
        FormatError
            If dissimilarities are not finite: X is too large, or the model comes from a forged file.
        """
        if k > len(self.rows):
            raise SettingError(f"nearest: expected k of at most {len(self.rows)}, the training samples, got {k}")
        found = as_shards(X).each(lambda block: self._compare_block(block, k))
        scores, rows, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return scores, rows, distances

    def _compare_block(self, X: Array, k: int) -> tuple[Array, Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            placed = self.space.place(X)
            distances = self.space.dissimilarities(placed, self.samples)
            to_blank = self.space.dissimilarities(placed, self.blanks).min(axis=1, initial=np.inf)
            scores = distances.min(axis=1)
            ratios = scores / np.maximum(to_blank, SMALLEST**2)
            is_blank = (ratios > 1) & (scores > NEAR_COPY * self.threshold)
            scores = np.where(is_blank, np.maximum(scores, self.threshold) * ratios, scores)
        check_overflow("KMeansClassifier", "distances", distances)
        check_overflow("KMeansClassifier", "distances", scores)
        nearest = _smallest(distances, k)
        return scores, self.rows[nearest], np.take_along_axis(distances, nearest, axis=1)

    def fitted_state(self) -> State:
        """Return the threshold, and the arrays."""
        arrays = self.space._asdict() | {"samples": self.samples, "rows": self.rows, "blanks": self.blanks}
        return {"threshold": self.threshold}, {name: array for name, array in arrays.items() if array.size}

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild a detector from the state that :meth:`fitted_state` returned.

        Raises
        ------
        FormatError
            If the parts do not fit together.
        """
        expect(tensors.keys() <= {*DIMENSIONS, "samples", "rows", "blanks"}, "outliers of nine arrays or fewer")
        samples, rows = tensors["samples"], tensors["rows"]
        space = _Space(*(tensors.get(name, np.empty((0,) * n, samples.dtype)) for name, n in DIMENSIONS.items()))
        one = space.mean.ndim == space.network_mean.ndim == 1
        expect(one and space.components.ndim == 2, "outliers/mean and components of 1 and 2 dimensions")
        k, n_network = space.components.shape[1], len(space.network_mean)
        leading = min(k, N_LEADING)
        width = leading + k + n_network
        blanks = tensors.get("blanks", np.empty((0, width), samples.dtype))
        floats = space._asdict() | {"samples": samples, "blanks": blanks}
        shapes = {"components": (len(space.mean), k), "rotation": (k, leading + k), "offset": (leading + k,)}
        shapes |= {"network_scale": (n_network,), "samples": (rows.size, width), "blanks": (len(blanks), width)}
        for name, shape in shapes.items():
            expect(floats[name].shape == shape, f"outliers/{name} of shape {shape}")
        same = all(array.dtype == samples.dtype for array in floats.values()) and samples.dtype.kind == "f"
        expect(same, "outliers of the same float dtype")
        expect(rows.ndim == 1 and rows.dtype == np.int64, "outliers/rows as int64")
        expect(rows[0] >= 0 and bool((rows[1:] > rows[:-1]).all()), "outliers/rows in ascending order")
        threshold = as_number(description["threshold"])
        expect(threshold >= 0, "an outlier threshold of at least 0")
        return cls(space, samples, rows, blanks, threshold)


class _Space(NamedTuple):
    """Where samples are compared: principal components, some of them scaled, all of them whitened; and a network's
    features.

    Shapes: mean (d,), components (d, k), rotation (k, l + k), offset (l + k,), network_mean and network_scale (p,):
    coordinates are the l leading ones, k that have length one together, and p that have length one together.
    """

    mean: Array
    components: Array
    rotation: Array
    offset: Array
    network_mean: Array
    network_scale: Array

    @classmethod
    def fit(cls, X: Array, codes: Array, moments: Moments) -> Self:
        """Fit the space to samples (n, d + p), their class numbers (n,), and the moments (p,) of the last features."""
        moments = moments[0].astype(X.dtype), moments[1].astype(X.dtype)
        X = X[:, : X.shape[1] - len(moments[0])]
        if not X.shape[1]:
            nothing = np.empty((0, 0), X.dtype)
            return cls(nothing.ravel(), nothing, nothing, nothing.ravel(), *moments)
        mean = X.mean(axis=0, dtype=np.float64).astype(X.dtype)
        components, total = _principal_components(X - mean)
        points = kernels.dense(X - mean, kernels.PackedDense.of(components)).astype(np.float64)
        classes, codes = np.unique(codes, return_inverse=True)
        centres = np.stack([points[codes == code].mean(axis=0) for code in range(len(classes))])
        within = points - centres[codes]
        values, vectors = linalg.eigh(within.T @ within / len(points), check_finite=False)
        whitening = vectors / np.sqrt(np.maximum(values, 0) + SHRINKAGE * total)
        variances = points[:, :N_LEADING].var(axis=0)
        scales = np.where(variances > 0, variances, 1) ** -0.25
        leading = np.eye(points.shape[1])[:, :N_LEADING] * scales
        offset = np.concatenate([np.zeros(len(scales)), -centres.mean(axis=0) @ whitening])
        rotation = np.ascontiguousarray(np.hstack([leading, whitening]), X.dtype)
        return cls(mean, components, rotation, offset.astype(X.dtype), *moments)

    def place(self, X: Shards | Array, rows: Array | None = None) -> Array:
        """Return the coordinates (n, l + k + p) of samples (n, d + p), of some rows of them if these are named."""
        rows = np.arange(len(X)) if rows is None else rows
        d, width = len(self.mean), len(self.offset)
        found = np.empty((len(rows), width + len(self.network_mean)), self.offset.dtype)
        components = kernels.PackedDense.of(self.components) if d else None
        rotation = kernels.PackedDense.of(self.rotation, self.offset) if d else None
        for start in range(0, len(rows), BLOCK):
            block, own = X[rows[start : start + BLOCK]], found[start : start + BLOCK]
            if components is not None and rotation is not None:
                own[:, :width] = kernels.dense(kernels.dense(block[:, :d] - self.mean, components), rotation)
            own[:, width:] = block[:, d:] * self.network_scale + self.network_mean
        for part in (found[:, width - len(self.rotation) : width], found[:, width:]):
            lengths = np.sqrt(np.square(part, dtype=np.float64).sum(axis=1, keepdims=True))
            part /= np.where(lengths > 0, lengths, 1).astype(found.dtype)
        return found

    def dissimilarities(self, x: Array, samples: Array) -> Array:
        """Return the products of distances (n, m) of coordinates (n, l + k + p) and (m, l + k + p)."""
        width = len(self.offset)
        leading = width - len(self.rotation)
        if not len(samples):
            return np.empty((len(x), 0))
        found = np.ones((len(x), len(samples)))
        if width:
            found = np.sqrt(squared_distances(x[:, :leading], samples[:, :leading]))
            found *= squared_distances(x[:, leading:width], samples[:, leading:width]) / 2 + SMALLEST
        if x.shape[1] > width:
            found *= np.square(squared_distances(x[:, width:], samples[:, width:]) / 2)
        return found


def _principal_components(centred: Array) -> tuple[Array, float]:
    """Return directions (d, k) of length one of samples (n, d) with mean zero, and their summed variance."""
    dual = len(centred) <= centred.shape[1]
    values, vectors = linalg.eigh(lower_gram(centred if dual else centred.T), driver="evd", check_finite=False)
    kept = np.flatnonzero(values > values[-1] * np.finfo(centred.dtype).eps)[::-1][:N_COMPONENTS]
    if not len(kept):
        return np.zeros((centred.shape[1], 1), centred.dtype), 1.0
    vectors = np.ascontiguousarray(vectors[:, kept])
    directions = centred.T @ vectors / np.sqrt(values[kept]) if dual else vectors
    return np.ascontiguousarray(directions, centred.dtype), float(values.sum()) / len(centred)


def _smallest(values: Array, k: int) -> Array:
    """Return the columns of the `k` smallest values of each row, (n, k), in order; of equal values the first columns.

    It is ``np.argsort(values, axis=1, kind="stable")[:, :k]``, without sorting the others.
    """
    if k == 1:
        return values.argmin(axis=1)[:, None]
    found = np.sort(np.argpartition(values, k - 1, axis=1)[:, :k], axis=1)
    own = np.take_along_axis(values, found, axis=1)
    tied = np.count_nonzero(values <= own.max(axis=1, keepdims=True), axis=1) > k  # any of them may have been taken
    found = np.take_along_axis(found, np.argsort(own, axis=1, kind="stable"), axis=1)
    found[tied] = np.argsort(values[tied], axis=1, kind="stable")[:, :k]
    return found
