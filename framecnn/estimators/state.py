"""Conversion of estimators' parameters, numbers and class labels to JSON's types and back."""

import re
from typing import Any

import numpy as np

from framecnn.estimators.checks import LARGEST_NAMES, MOST_NAMES, size_of_names
from framecnn.storage.container import canonical
from framecnn.storage.model_file import Description, SavedModel, expect
from framecnn.typing import Array

__all__ = [
    "as_number",
    "as_parameters",
    "classes_of",
    "describe_classes",
    "describe_parameters",
    "pack_names",
    "unpack_names",
]

LARGEST_LABELS = 2**26  # bytes of all class labels
FILL = b"\xff"  # occurs in no UTF-8 text
LABEL_DTYPES = re.compile(r"\|b1|[<>|][iuf][1248]|[<>]U\d{1,7}|\|O")  # those that JSON can represent


def as_parameters(described: Description) -> dict[str, Any]:
    """Return the parameters of an estimator from JSON, lists as tuples.

    Examples
    --------
    >>> as_parameters({"grid": [2, 2], "depth": 1})
    {'grid': (2, 2), 'depth': 1}
    """
    return {name: _as_tuples(value) for name, value in described.items()}


def describe_parameters(estimator: Any) -> dict[str, Any]:
    """Return the parameters of an estimator for JSON; a `random_state` that is not an integer becomes None.

    So does a model, such as a network: the fitted state has the parts of it that are used.
    """
    parameters = estimator.get_params(deep=False)
    if not isinstance(parameters["random_state"], int | np.integer):
        parameters["random_state"] = None
    return {name: None if isinstance(value, SavedModel) else value for name, value in parameters.items()}


def as_number(value: Any) -> float:
    """Return a number as float; raise FormatError for anything else."""
    expect(type(value) in (int, float), "a number")
    return float(value)


def describe_classes(classes: Array) -> dict[str, Any]:
    """Return class labels, (n_classes,), for JSON; :func:`classes_of` is the inverse.

    Raises
    ------
    TypeError
        If they are not numbers, bools or strings.
    """
    values, dtype = classes.tolist(), classes.dtype.str
    if all(isinstance(value, str | int | float) for value in values):
        return {"dtype": dtype if LABEL_DTYPES.fullmatch(dtype) else "|O", "values": values}
    raise TypeError(f"save: expected labels that are numbers, bools or strings, got dtype {classes.dtype}; convert y")


def classes_of(described: Description) -> Array:
    """Return the class labels, (n_classes,), that :func:`describe_classes` described; raise FormatError for others."""
    values = described["values"]
    expect(bool(LABEL_DTYPES.fullmatch(described["dtype"])), "labels that are numbers, bools or strings")
    dtype = np.dtype(described["dtype"])
    expect(dtype.itemsize * len(values) <= LARGEST_LABELS, f"labels of at most {LARGEST_LABELS} bytes")
    classes = np.array(values, dtype)
    exact = canonical({"": classes.tolist()}) == canonical({"": values})
    expect(classes.ndim == 1 and exact, f"labels of dtype {dtype}")
    expect(
        len(classes) > 1 and bool((classes[1:] > classes[:-1]).all()), "at least two labels, sorted, without duplicates"
    )
    return classes


def pack_names(names: Array) -> Array:
    """Return names (n,) as an int64 array: their UTF-8 bytes, each name ended by a zero byte, filled up with 0xFF."""
    content = b"".join(name.encode("utf-8", "surrogatepass") + b"\0" for name in names.tolist())
    return np.frombuffer(content + FILL * (-len(content) % 8), "<i8")


def unpack_names(packed: Array) -> Array:
    """Return the names, (n,) str, that :func:`pack_names` packed; raise FormatError for other arrays.

    Examples
    --------
    >>> unpack_names(pack_names(np.array(["a/1.png", "Ö.png"]))).tolist()
    ['a/1.png', 'Ö.png']
    """
    expect(packed.dtype == np.int64 and packed.ndim == 1, "names as an int64 array of one dimension")
    content = packed.tobytes().rstrip(FILL)
    expect(content.count(b"\0") <= MOST_NAMES, f"at most {MOST_NAMES:,} names")
    *names, rest = content.split(b"\0")
    expect(not rest, "names that end with a zero byte")
    expect(all(names), "names that are not empty")
    expect(size_of_names(names) <= LARGEST_NAMES, f"names of at most {LARGEST_NAMES} bytes")
    return np.array([name.decode("utf-8", "surrogatepass") for name in names])


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value
