"""Models that commands load."""

from pathlib import Path
from typing import Any

from framecnn.data.decode import SUFFIXES
from framecnn.data.movie_files import MOVIE_SUFFIXES
from framecnn.errors import DataError

__all__ = ["load_classifier", "load_model"]


def load_model(path: Path) -> Any:
    """Return the model of a file; raise DataError if there is no such file, or it is a picture or a movie."""
    from framecnn import load

    if path.suffix.lower() in (*SUFFIXES, *MOVIE_SUFFIXES):
        raise DataError(f"{path}: expected a model first, got a picture or a movie; name the model before it")
    try:
        return load(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a model, but there is no such file; framecnn train writes one") from error


def load_classifier(path: Path) -> Any:
    """Return the classifier of a file; raise DataError unless it takes 8-bit colour frames."""
    from framecnn import FrameClassifier
    from framecnn.estimators.file_predictions import picture_problem

    model = load_model(path)
    kind = picture_problem(model) if isinstance(model, FrameClassifier) else f"a {type(model).__name__}"
    if kind is None:
        return model
    raise DataError(f"{path}: expected a classifier of 8-bit colour frames, got {kind}; framecnn train writes one")
