"""A fitted model as one file: the state of the model, and the versions of the packages that computed it.

A state is a description, of JSON's types, and tensors by name. Code from a file never runs: a class rebuilds a model
from a state, and the description of the rebuilt model must equal that of the file.
"""

import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Protocol, Self

import numpy as np

from framecnn.errors import FormatError
from framecnn.storage.container import canonical, write
from framecnn.typing import Array
from framecnn.version import __version__

__all__ = ["Description", "State", "StatefulModel", "expect", "nested", "prefixed", "restore", "write_model"]

Description = Mapping[str, Any]
State = tuple[dict[str, Any], dict[str, Array]]


class StatefulModel(Protocol):
    """A model with a fitted state, from which it can be rebuilt."""

    def fitted_state(self) -> State:
        """Return description and tensors."""

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Return a model of this state; raise an error if its parts do not fit together."""


def write_model(
    path: str | os.PathLike[str],
    model_class: type[StatefulModel],
    description: Description,
    tensors: Mapping[str, Array],
) -> None:
    """Write the fitted state of a model atomically, after checking that the model can be rebuilt from it.

    Parameters
    ----------
    path : path
    model_class : type
        Its name is the file's ``kind``.
    description, tensors
        The result of the model's ``fitted_state()``.

    Raises
    ------
    ValueError
        If a number is not finite, or the model could not be loaded again.
    """
    versions = {"framecnn": __version__} | {name: version(name) for name in ("numpy", "numba", "scikit-learn")}
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    restore(model_class, json.loads(canonical(description)), contiguous)
    write(path, {"kind": model_class.__name__, **description, "versions": versions}, contiguous)


def restore(model_class: type[StatefulModel], description: Description, tensors: Mapping[str, Array]) -> Any:
    """Return a model of a state; its own description must equal the given one.

    Parameters
    ----------
    model_class : type
    description : mapping
        Values of JSON's types.
    tensors : mapping of str to array

    Returns
    -------
    model : an instance of `model_class`

    Raises
    ------
    FormatError
        If the parts do not fit together. Invalid settings raise other errors.
    """
    model = model_class.from_fitted_state(description, tensors)
    same = canonical(model.fitted_state()[0]) == canonical(description)
    expect(same, "a description of all settings and nothing else")
    return model


def expect(holds: bool, what: str) -> None:
    """Raise FormatError with `what` as the expectation unless `holds`."""
    if not holds:
        raise FormatError(f"expected {what}, got a model whose parts do not fit together; save it again")


def prefixed(prefix: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tensors of a part of a model under names of the whole model.

    Examples
    --------
    >>> prefixed("head", {"radius": 1})
    {'head/radius': 1}
    """
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def nested(prefix: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return the tensors of a part of a model, under the part's names; the inverse of :func:`prefixed`.

    Examples
    --------
    >>> nested("head", {"head/radius": 1, "features/mean": 2})
    {'radius': 1}
    """
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
