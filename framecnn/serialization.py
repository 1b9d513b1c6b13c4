"""Saving and loading of models: a file holds data only, and its kind selects a class of the table.

:mod:`framecnn.storage.container` reads and checks the file; the class rebuilds the model from its state.
"""

import os
from importlib import import_module
from typing import Any

from framecnn.errors import FormatError
from framecnn.storage.model_file import SavedModel, read_model

__all__ = ["load", "save"]

KINDS = {
    "Sequential": "framecnn.networks",
    **dict.fromkeys(
        (
            "FrameClassifier",
            "FrameFeatures",
            "JoinedFeatures",
            "KMeansClassifier",
            "NetworkFeatures",
            "PretrainedFeatures",
            "TrainedFeatures",
        ),
        "framecnn.estimators",
    ),
}
"""Names of the classes that a file may hold, and the module of each; it is imported when a file needs it."""


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a built network or a fitted estimator atomically: after an error an older file is unchanged.

    The same model gives the same bytes: no clock, path, host or number of threads is stored.

    Parameters
    ----------
    model : Sequential, FrameClassifier, KMeansClassifier, or features of any class
        A model of a subclass of a user is saved as the class of framecnn from which it derives.
    path : path
        Usually ``model.safetensors``; an older file is replaced.

    Raises
    ------
    TypeError
        If `model` is none of these, or its labels are not numbers, bools or strings.
    ValueError
        If it is not built or fitted, holds NaN or infinity, or is too large for :func:`load`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from framecnn import DenseLayer, InputLayer, Sequential
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save(Sequential([InputLayer((2,)), DenseLayer(1)]).build(), path)
    >>> load(path).output_shape
    (1,)
    """
    if not isinstance(model, SavedModel):
        raise TypeError(f"save: expected a model of {' or '.join(KINDS)}, got {type(model).__name__}")
    model.save(path)


def load(path: str | os.PathLike[str]) -> Any:
    """Return the model that :func:`save` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    Sequential, FrameClassifier, KMeansClassifier, or features of any class
        The class that the file names; ``FrameClassifier.load`` and the like refuse another one. A classifier predicts
        the same bits as before. Data about training only (``head_.labels_``, the history of trained features) and a
        `random_state` that is not an integer are not stored.

    Raises
    ------
    FormatError
        If the file is anything but a complete, consistent model of this format.
    OSError
        If it cannot be read, or there is no memory for it (MachineError).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from framecnn import DenseLayer, InputLayer, Sequential
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> Sequential([InputLayer((2,)), DenseLayer(1)]).build().save(path)
    >>> load(path).predict([[0.0, 0.0]])
    array([[0.]], dtype=float32)
    """
    return read_model(path, _model_class)


def _model_class(kind: str) -> Any:
    if kind not in KINDS:
        raise FormatError(f"expected a model of {' or '.join(KINDS)}, got {kind!r}; save it again")
    return getattr(import_module(KINDS[kind]), kind)
