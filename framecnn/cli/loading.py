"""Models that commands load."""

from pathlib import Path
from typing import Any

from framecnn.errors import DataError

__all__ = ["load_classifier", "load_model"]


def load_model(path: Path) -> Any:
    """Return the model of a file; raise DataError if there is no such file."""
    from framecnn import load

    try:
        return load(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: expected a model, but there is no such file; framecnn train writes one") from error


def load_classifier(path: Path) -> Any:
    """Return the classifier of a file; raise DataError unless it takes 8-bit colour frames."""
    from framecnn import FrameClassifier

    model = load_model(path)
    if not isinstance(model, FrameClassifier):
        kind = f"a {type(model).__name__}"
    elif model.features_.frame_shape_ is None:
        kind = "a classifier of feature vectors"
    elif model.features_.frame_shape_[2] != 3:
        kind = f"a classifier of frames with {model.features_.frame_shape_[2]} channels"
    elif model.features_.dtype_kind_ != "integer" or model.features_.input_scale_ != 1:
        kind = "a classifier of frames whose values are not 0 to 255"
    else:
        return model
    raise DataError(f"{path}: expected a classifier of 8-bit colour frames, got {kind}; framecnn train writes one")
