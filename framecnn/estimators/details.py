"""What a fitted classifier says about samples beside their labels: outlier scores and the nearest training samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from framecnn.arguments import check_count
from framecnn.data.shards import as_shards
from framecnn.estimators.snapshot import reads_snapshot
from framecnn.typing import Array

__all__ = ["DetailsMixin", "PredictionDetails"]

N_NEAREST = 3


@dataclass(frozen=True)
class PredictionDetails:
    """The result of ``predict_details`` for n samples.

    Attributes
    ----------
    probabilities : (n, n_classes) array
        As ``predict_proba`` returns them.
    outlier_scores : (n,) array
        As ``outlier_scores`` returns them.
    out_of_distribution : (n,) bool array
        As ``reject`` returns it.
    nearest : (n, 3) int array
        Rows of the nearest training samples, the nearest first; fewer columns if there are fewer training samples.
    """

    probabilities: Array
    outlier_scores: Array
    out_of_distribution: Array
    nearest: Array


class DetailsMixin:
    """Methods that compare samples with the training samples, for classifiers that have or are a k-means head.

    X is what the other methods of the class take: frames, or feature vectors.
    """

    def _head_and_vectors(self, X: Any) -> tuple[Any, Any]:
        """Return the fitted head, and the feature vectors of X (n, d) in a form that it takes."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method _head_and_vectors, got none; define it")

    @reads_snapshot
    def outlier_scores(self, X: Any) -> Array:
        """Return the outlier score of every sample; the higher, the more it is unlike the training samples.

        Parameters
        ----------
        X : array, as in :meth:`predict`

        Returns
        -------
        (n,) float64 array
        """
        head, vectors = self._head_and_vectors(X)
        return head.outliers_.compare(vectors, 1)[0]

    @reads_snapshot
    def reject(self, X: Any) -> Array:
        """Return which samples are out-of-distribution: their outlier score is above ``outlier_threshold_``.

        Parameters
        ----------
        X : array, as in :meth:`predict`

        Returns
        -------
        (n,) bool array
        """
        head, vectors = self._head_and_vectors(X)
        return head.outliers_.compare(vectors, 1)[0] > head.outliers_.threshold

    @reads_snapshot
    def nearest(self, X: Any, k: int = N_NEAREST) -> tuple[Array, Array]:
        """Return the training samples that are most like every sample.

        Parameters
        ----------
        X : array, as in :meth:`predict`
        k : int, default 3

        Returns
        -------
        rows : (n, k) int array
            Rows of training samples, the nearest first.
        distances : (n, k) float64 array

        Raises
        ------
        SettingError
            If k is no positive integer, or larger than the number of training samples.
        """
        k = check_count("nearest", "k", k)
        head, vectors = self._head_and_vectors(X)
        return head.outliers_.compare(vectors, k)[1:]

    @reads_snapshot
    def predict_details(self, X: Any) -> PredictionDetails:
        """Return probabilities, outlier scores, the nearest training samples, and what is out-of-distribution.

        X is read once.

        Parameters
        ----------
        X : array, as in :meth:`predict`

        Returns
        -------
        PredictionDetails
        """
        head, vectors = self._head_and_vectors(X)
        k = min(N_NEAREST, len(head.outliers_.rows))
        found = as_shards(vectors).each(lambda block: (head.predict_proba(block), *head.outliers_.compare(block, k)))
        probabilities, scores, rows, _ = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return PredictionDetails(probabilities, scores, scores > head.outliers_.threshold, rows)
