"""A checkpoint: the state of a training run in one file, written after every epoch.

Tensors: ``weights/...``, ``optimizer/...`` and, if the best epoch is not the last one, ``best/...``. Description:
layers of the model, settings of the run and its history without the seconds. All random numbers are drawn from the seed
and the number of the epoch, so that no state of a generator is stored.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framecnn.errors import FormatError, ShapeError
from framecnn.storage import container
from framecnn.storage.model_file import nested, prefixed
from framecnn.training.history import History
from framecnn.training.model import TrainableModel
from framecnn.training.optimizers import Optimizer
from framecnn.typing import Array

__all__ = ["read", "write"]


def write(
    path: str | os.PathLike[str],
    model: TrainableModel,
    optimizer: Optimizer,
    best: Mapping[str, Array],
    history: History,
    settings: Mapping[str, Any],
) -> None:
    """Write a checkpoint atomically.

    Interrupted or not, and with any number of threads, the same run writes the same bytes.

    Parameters
    ----------
    path : path
    model : Sequential
    optimizer : Optimizer
    best : mapping of str to array
        The parameters of the best epoch.
    history : History
    settings : mapping
        The settings that a run must share to resume this one, of JSON's types.
    """
    description, weights = model.fitted_state()
    tensors = prefixed("weights", weights) | prefixed("optimizer", optimizer.state_dict())
    if history.best_epoch != len(history):
        tensors |= prefixed("best", best)
    container.write(
        path, {"kind": container.CHECKPOINT, **description, **settings, "history": _columns(history)}, tensors
    )


def read(
    path: str | os.PathLike[str], model: TrainableModel, optimizer: Optimizer, settings: Mapping[str, Any]
) -> tuple[dict[str, Array], History]:
    """Set model and optimizer to the state of a checkpoint; return the best parameters and the history.

    Parameters
    ----------
    path : path
    model : Sequential
    optimizer : Optimizer
    settings : mapping
        The settings that were passed to :func:`write`.

    Returns
    -------
    best : dict of str to array
        The parameters of the best epoch.
    history : History

    Raises
    ------
    FormatError
        If the file is not a checkpoint, is damaged, or belongs to another run.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        received, tensors = container.read(path)
        columns = received.pop("history", None)
        _check_same({"kind": container.CHECKPOINT, **model.fitted_state()[0], **settings}, received)
        history = _history(columns)
        weights, best, state = (nested(prefix, tensors) for prefix in ("weights", "best", "optimizer"))
        best = best or weights
        for parameters in (best, weights):
            model.load_state_dict(parameters)
        optimizer.load_state_dict(state)
    except (FormatError, ShapeError) as error:
        raise FormatError(f"{path.name}: {error}") from error
    return best, history


def _check_same(expected: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    """Raise FormatError with the first difference unless two descriptions of a run are equal."""
    if received.get("kind") != container.CHECKPOINT:
        raise FormatError(f"expected a checkpoint of training, got a file of {received.get('kind')!r}; name one")
    for name in sorted(expected.keys() | received.keys()):
        ours, theirs = (container.canonical({name: run.get(name)}) for run in (expected, received))
        if ours != theirs:
            raise FormatError(
                f"expected a checkpoint of this run ({ours:.150}), got one of another run ({theirs:.150}); "
                "resume with the same settings, or start again with resume=False"
            )


def _columns(history: History) -> dict[str, Any]:
    return {name: values for name, values in asdict(history).items() if name != "seconds"}


def _history(columns: Any) -> History:
    """Return the history of a checkpoint; raise FormatError unless it is complete and consistent."""
    names = _columns(History()).keys()
    lists = isinstance(columns, dict) and columns.keys() == names and all(isinstance(v, list) for v in columns.values())
    if not lists or len({len(values) for values in columns.values()}) != 1:
        raise FormatError("expected a history of training, got a damaged one; start again with resume=False")
    history = History(**columns, seconds=[None] * len(columns["loss"]))
    numbers = [value for values in columns.values() for value in values if value is not None]
    if not all(type(number) is float for number in numbers) or None in (*history.loss, *history.learning_rate):
        raise FormatError("expected a history of numbers, got something else; start again with resume=False")
    return history
