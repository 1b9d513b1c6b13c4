"""A run of training in one file after every epoch: data, never code, and nothing of when, where or how fast.

Tensors: ``weights/...``, ``optimizer/...`` and, where another epoch than the last was the best, ``best/...``. Their
description: the model's layers, the settings of the run and its history. All randomness is drawn from the seed and the
number of the epoch, so these two are the state of the generators.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framecnn.errors import FormatError, ShapeError
from framecnn.storage import container as model_file
from framecnn.training.history import History
from framecnn.training.model import TrainableModel
from framecnn.training.optimizers import Optimizer
from framecnn.typing import Array

__all__ = ["read", "write"]

KIND = "training"


def write(
    path: str | os.PathLike[str],
    model: TrainableModel,
    optimizer: Optimizer,
    best: Mapping[str, Array],
    history: History,
    settings: Mapping[str, Any],
) -> None:
    """Write a checkpoint atomically; the same run gives the same bytes, interrupted or not, on any number of threads.

    Parameters
    ----------
    path : path
    model : Sequential
    optimizer : Optimizer
    best : mapping of str to array
        The parameters of the best epoch.
    history : History
        All of it but the seconds is stored.
    settings : mapping
        What makes the run what it is, as JSON knows it.
    """
    tensors = _prefixed("weights", model.parameters()) | _prefixed("optimizer", optimizer.state_dict())
    if history.best_epoch != len(history):
        tensors |= _prefixed("best", best)
    model_file.write(path, _describe(model, settings) | {"history": _told(history)}, tensors)


def read(
    path: str | os.PathLike[str], model: TrainableModel, optimizer: Optimizer, settings: Mapping[str, Any]
) -> tuple[dict[str, Array], History]:
    """Bring model and optimizer to where a checkpoint stands.

    Parameters
    ----------
    path : path
    model : Sequential
    optimizer : Optimizer
    settings : mapping
        As they were written.

    Returns
    -------
    best : dict of str to array
        The parameters of the best epoch.
    history : History

    Raises
    ------
    FormatError
        If the file is no checkpoint, not whole, or that of another run.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        description, tensors = model_file.read(path)
        told = description.pop("history", None)
        _check_same(_describe(model, settings), description)
        history = _history(told)
        weights, best, state = (_own(tensors, prefix) for prefix in ("weights", "best", "optimizer"))
        best = best or weights
        for parameters in (best, weights):
            model.load_state_dict(parameters)
        optimizer.load_state_dict(state)
    except (FormatError, ShapeError) as error:
        raise FormatError(f"{path.name}: {error}") from error
    return best, history


def _describe(model: TrainableModel, settings: Mapping[str, Any]) -> dict[str, Any]:
    layers = [layer.config for layer in model.layers]
    return {"kind": KIND, "layers": layers, "dtype": model.layers[0].dtype.name, **settings}


def _check_same(expected: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    if received.get("kind") != KIND:
        raise FormatError(f"expected a checkpoint of training, got a file of {received.get('kind')!r}; name another")
    for name in sorted(expected.keys() | received.keys()):
        ours, theirs = (model_file.canonical({name: side.get(name)}) for side in (expected, received))
        if ours != theirs:
            raise FormatError(
                f"expected a checkpoint of this run ({ours:.150}), got one of another ({theirs:.150}); "
                "go on with the same settings, or begin anew with resume=False"
            )


def _told(history: History) -> dict[str, Any]:
    return {name: values for name, values in asdict(history).items() if name != "seconds"}


def _history(told: Any) -> History:
    blank = _told(History())
    whole = isinstance(told, dict) and told.keys() == blank.keys() and all(isinstance(v, list) for v in told.values())
    if not whole or len({len(values) for values in told.values()}) != 1:
        raise FormatError("expected a history of training, got one that is damaged; begin anew with resume=False")
    history = History(**told, seconds=[None] * len(told["loss"]))
    numbers = [value for values in told.values() for value in values if value is not None]
    if not all(type(number) is float for number in numbers) or None in (*history.loss, *history.learning_rate):
        raise FormatError("expected a history of numbers, got something else; begin anew with resume=False")
    return history


def _prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{prefix}/{name}": value for name, value in arrays.items()}


def _own(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    begin = f"{prefix}/"
    return {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}
