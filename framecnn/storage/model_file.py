"""A fitted model as one file: the state of the model, and the versions of the packages that computed it.

A state is a description, of JSON's types, and tensors by name. Code from a file never runs: a class rebuilds a model
from a state, and the description of the rebuilt model must equal that of the file.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np

from framecnn.errors import FormatError, MachineError
from framecnn.storage import container
from framecnn.storage.container import canonical, write
from framecnn.text import shortened
from framecnn.typing import Array
from framecnn.version import __version__

__all__ = ["Description", "SavedModel", "State", "expect", "nested", "prefixed", "read_model", "restore", "write_model"]

Description = Mapping[str, Any]
State = tuple[dict[str, Any], dict[str, Array]]


class SavedModel(ABC):
    """A model with a fitted state, which can be written to a file and read again."""

    @abstractmethod
    def fitted_state(self) -> State:
        """Return description and tensors."""

    @classmethod
    @abstractmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Return a model of this state; raise an error if its parts do not fit together."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as one safetensors file, atomically; see :func:`framecnn.save`.

        Parameters
        ----------
        path : path
        """
        write_model(path, self._saved_class(), *self.fitted_state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the model of this class in a file; :func:`framecnn.load` returns one of any class.

        A model of a subclass that is not part of framecnn is saved as the class of framecnn from which it derives.
        ``Subclass.load`` returns a `Subclass` if that is created like its base class.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            If the file is not a complete, consistent model of this class.
        OSError
            If it cannot be read, or there is no memory for it (MachineError).
        """
        own = cls._saved_class().__name__

        def same_class(kind: str) -> type[Self]:
            if kind != own:
                raise FormatError(f"expected a {own}, got a {kind}; load it with framecnn.load")
            return cls

        return read_model(path, same_class)

    @classmethod
    def _saved_class(cls) -> "type[SavedModel]":
        """Return the class of framecnn whose name is the kind of the file."""
        return next(base for base in cls.__mro__ if base.__module__.startswith("framecnn."))


def write_model(
    path: str | os.PathLike[str],
    model_class: type[SavedModel],
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


def read_model(path: str | os.PathLike[str], model_class: Callable[[str], type[SavedModel]]) -> Any:
    """Return the model in a file.

    Parameters
    ----------
    path : path
    model_class : callable
        Returns the class for the kind in the file, or raises FormatError.

    Returns
    -------
    model

    Raises
    ------
    FormatError
        If the file is anything but a complete, consistent model of this format.
    OSError
        If it cannot be read, or there is no memory for it (MachineError).
    """
    path = Path(path)
    try:
        description, tensors = container.read(path)
        kind = description.pop("kind")
        if kind == container.CHECKPOINT:
            raise FormatError("expected a model, got a checkpoint; resume its training (resume=True), then save it")
        del description["versions"]
        return restore(model_class(kind), description, tensors)
    except FormatError as error:
        raise FormatError(f"{path.name}: {shortened(error)}") from error
    except MemoryError as error:
        raise MachineError(f"{path.name}: expected memory for the model, got none; close other programs") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = shortened(f"{type(error).__name__}: {error}")
        raise FormatError(f"{path.name}: expected a framecnn model, got one that cannot be built ({reason})") from error


def restore(model_class: type[SavedModel], description: Description, tensors: Mapping[str, Array]) -> Any:
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
