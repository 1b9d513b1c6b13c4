"""Outlier scores: how far a sample is from the training samples, and which of them are the nearest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import linalg

from framecnn import kernels
from framecnn.errors import SettingError
from framecnn.estimators.checks import check_overflow
from framecnn.estimators.selection import selection_rows
from framecnn.estimators.state import as_number
from framecnn.kernels.linalg import blocked_product, lower_gram, squared_distances
from framecnn.storage.model_file import Description, State, expect
from framecnn.typing import Array

__all__ = ["OutlierDetector"]

N_COMPONENTS = 64
MAX_SAMPLES = 20_000  # training samples that are kept
MAX_AXES_SAMPLES = 2000  # training samples that the components are computed from


@dataclass(frozen=True)
class OutlierDetector:
    """The training samples on whitened principal components, and the score above which a new one is an outlier.

    The outlier score of a sample is its distance to the nearest training sample. The threshold is a quantile of the
    distances of training samples to the nearest sample of another group.

    mean (d,), components (d, k), samples (m, k) on the components, rows (m,) of the samples in the training data.
    """

    mean: Array
    components: Array
    samples: Array
    rows: Array
    threshold: float

    @classmethod
    def fit(cls, X: Array, groups: Array | None, false_alarm_rate: float, seed: int) -> Self:
        """Fit the detector to samples (n, d) and their groups (n,), None if each sample is its own group."""
        mean = X.mean(axis=0, dtype=np.float64).astype(X.dtype)
        components = _whitening(X[selection_rows(len(X), groups, MAX_AXES_SAMPLES, seed)] - mean)
        rows = selection_rows(len(X), groups, MAX_SAMPLES, seed)
        samples = blocked_product(X[rows] - mean, components)
        own = rows if groups is None else groups[rows]
        squares = squared_distances(samples, samples)
        same = own[:, None] == own
        if same.all():
            same = np.eye(len(rows), dtype=bool)
        scores = np.sqrt(np.where(same, np.inf, squares).min(axis=1))
        return cls(mean, components, samples, rows, float(np.quantile(scores, 1 - false_alarm_rate)))

    def compare(self, X: Array, k: int) -> tuple[Array, Array, Array]:
        """Return outlier scores (n,), and rows and distances (n, k) of the nearest training samples, nearest first.

        Raises
        ------
        SettingError
            If `k` is larger than the number of training samples that are kept.
        """
        if k > len(self.rows):
            raise SettingError(f"nearest: expected k of at most {len(self.rows)}, the training samples, got {k}")
        with np.errstate(over="ignore", invalid="ignore"):
            placed = kernels.dense(X - self.mean, kernels.PackedDense.of(self.components))
            distances = np.sqrt(squared_distances(placed, self.samples))
        check_overflow("KMeansClassifier", "distances", distances)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return distances.min(axis=1), self.rows[nearest], np.take_along_axis(distances, nearest, axis=1)

    def fitted_state(self) -> State:
        """Return the threshold, and the arrays."""
        arrays = {"mean": self.mean, "components": self.components, "samples": self.samples, "rows": self.rows}
        return {"threshold": self.threshold}, arrays

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild a detector from the state that :meth:`fitted_state` returned.

        Raises
        ------
        FormatError
            If the parts do not fit together.
        """
        detector = cls(**tensors, threshold=as_number(description["threshold"]))
        mean, components, samples, rows = (tensors[name] for name in ("mean", "components", "samples", "rows"))
        expect(mean.ndim == 1 and components.ndim == 2, "outliers/mean and components of 1 and 2 dimensions")
        expect(len(components) == len(mean), f"outliers/components of {len(mean)} rows")
        expect(samples.shape == (len(rows), components.shape[1]), "outliers/samples on all components")
        floats = mean.dtype == components.dtype == samples.dtype and mean.dtype.kind == "f"
        expect(floats, "outliers/mean, components and samples of the same float dtype")
        expect(rows.ndim == 1 and rows.dtype == np.int64, "outliers/rows as int64")
        expect(rows[0] >= 0 and bool((rows[1:] > rows[:-1]).all()), "outliers/rows in ascending order")
        expect(detector.threshold >= 0, "an outlier threshold of at least 0")
        return detector


def _whitening(centred: Array) -> Array:
    """Return directions (d, k) on which samples (n, d), of mean zero, have variance one."""
    dual = len(centred) <= centred.shape[1]
    values, vectors = linalg.eigh(lower_gram(centred if dual else centred.T), driver="evd", check_finite=False)
    kept = values > max(values[-1], 1e-30) * 1e-6
    values, vectors = values[kept][::-1][:N_COMPONENTS], vectors[:, kept][:, ::-1][:, :N_COMPONENTS]
    if not len(values):
        return np.zeros((centred.shape[1], 1), centred.dtype)
    directions = centred.T @ vectors / np.sqrt(values) if dual else vectors
    return np.ascontiguousarray(directions * np.sqrt(len(centred) / values), centred.dtype)
