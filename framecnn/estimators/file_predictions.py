"""Predictions of picture files by a classifier of frames."""

import os
from collections.abc import Iterable
from typing import Any

from sklearn.utils.validation import check_is_fitted

from framecnn.data.picture_files import PictureFiles
from framecnn.errors import ShapeError
from framecnn.typing import Array

__all__ = ["PictureFilesMixin", "picture_problem"]


def picture_problem(classifier: Any) -> str | None:
    """Return what a fitted FrameClassifier is, if it does not take 8-bit colour frames, which files are decoded to."""
    features = classifier.features_
    if features.frame_shape_ is None:
        return "a classifier of feature vectors"
    if features.frame_shape_[2] != 3:
        return f"a classifier of frames with {features.frame_shape_[2]} channels"
    if features.dtype_kind_ != "integer" or features.input_scale_ != 1:
        return "a classifier of frames whose values are not 0 to 255"
    return None


class PictureFilesMixin:
    """The methods of a classifier of frames that read picture files."""

    def predict_files(self, paths: Iterable[str | os.PathLike[str]]) -> Array:
        """Return the label of every picture file.

        The files are decoded as a folder of frames and ``framecnn predict`` decode them.

        Parameters
        ----------
        paths : iterable of path
            JPEG, PNG, WebP and other pictures of any size; see :func:`framecnn.data.decode`.

        Returns
        -------
        (n,) array of labels

        Raises
        ------
        DataError
            If a file cannot be read; the message names it. ``framecnn predict`` skips such files.
        ShapeError
            If there is no path, or the classifier was not fitted to 8-bit colour frames.

        Examples
        --------
        >>> import numpy as np, tempfile
        >>> from PIL import Image
        >>> from framecnn import FrameClassifier
        >>> rng = np.random.default_rng(0)
        >>> across = np.repeat(rng.integers(0, 256, (8, 24, 1, 3), np.uint8), 32, axis=2)
        >>> down = np.repeat(rng.integers(0, 256, (8, 1, 32, 3), np.uint8), 24, axis=1)
        >>> X, y = np.concatenate([across, down]), ["across"] * 8 + ["down"] * 8
        >>> clf = FrameClassifier(n_filters=20, random_state=0).fit(X, y)
        >>> path = os.path.join(tempfile.mkdtemp(), "stripes.png")
        >>> Image.fromarray(down[0]).save(path)
        >>> clf.predict_files([path]).tolist()
        ['down']
        """
        return self.predict(self._pictures("predict_files", paths))  # type: ignore[attr-defined]

    def predict_proba_files(self, paths: Iterable[str | os.PathLike[str]]) -> Array:
        """Return the probability of every class for every picture file.

        Parameters
        ----------
        paths : iterable of path
            As in :meth:`predict_files`, which has the same errors.

        Returns
        -------
        (n, n_classes) array
            In the order of ``classes_``.
        """
        return self.predict_proba(self._pictures("predict_proba_files", paths))  # type: ignore[attr-defined]

    def _pictures(self, method: str, paths: Iterable[str | os.PathLike[str]]) -> PictureFiles:
        check_is_fitted(self)
        if problem := picture_problem(self):
            raise ShapeError(
                f"{type(self).__name__}.{method}: expected a classifier of 8-bit colour frames, got {problem}"
            )
        return PictureFiles(paths, self.features_.frame_shape_[:2])  # type: ignore[attr-defined]
