"""Checks of arguments. Each error names the function or class, what was expected and what was given."""

import sys
from typing import Any

import numpy as np

from framecnn.errors import SettingError, ShapeError
from framecnn.typing import Shape

__all__ = [
    "LARGEST_SIZE",
    "channels_first_hint",
    "check_choice",
    "check_count",
    "check_number",
    "check_shape",
    "check_size",
    "is_integer",
]

LARGEST_SIZE = 2**31 - 1
"""The largest number of pixels, channels, filters or units along an axis."""


def channels_first_hint(received: Shape, shape: Shape) -> str:
    """Return what to do if frames of shape `received`, (n, c, h, w), are those of `shape` (h, w, c); else no text.

    Examples
    --------
    >>> channels_first_hint((9, 3, 24, 32), (24, 32, 3))
    '; the channels come first in it, but last in framecnn: pass x.transpose(0, 2, 3, 1)'
    """
    if len(received) != 4 or received[1:] == tuple(shape) or (*received[2:], received[1]) != tuple(shape):
        return ""
    return "; the channels come first in it, but last in framecnn: pass x.transpose(0, 2, 3, 1)"


def check_shape(who: str, name: str, value: Any) -> Shape:
    """Return a shape as a tuple; raise ShapeError unless it is a sequence of positive integers below 2**31."""
    sizes = tuple(value) if np.iterable(value) else ()
    if not sizes or not all(is_integer(size, 1, LARGEST_SIZE) for size in sizes):
        raise ShapeError(f"{who}: expected {name} as positive integers up to {LARGEST_SIZE:,}, got {value!r}")
    return tuple(map(int, sizes))


def check_size(who: str, name: str, value: Any) -> int:
    """Return a positive integer below 2**31; raise SettingError for anything else."""
    size = check_count(who, name, value)
    if size > LARGEST_SIZE:
        raise SettingError(f"{who}: expected {name} of at most {LARGEST_SIZE:,}, got {value!r}")
    return size


def check_count(who: str, name: str, value: Any) -> int:
    """Return a positive integer; raise SettingError for anything else."""
    if not is_integer(value, 1):
        raise SettingError(f"{who}: expected {name} as a positive integer, got {value!r}")
    return int(value)


def check_number(who: str, name: str, value: Any) -> float:
    """Return a finite number as a float; raise SettingError for anything else."""
    if not (is_integer(value) or isinstance(value, float | np.floating)) or not abs(value) <= sys.float_info.max:
        raise SettingError(f"{who}: expected {name} as a finite number, got {value!r}")
    return float(value)


def check_choice(who: str, name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise SettingError unless `value` is one of `choices`."""
    if value not in choices:
        raise SettingError(f"{who}: expected {name} as one of {', '.join(map(str, choices))}, got {value!r}")


def is_integer(value: Any, smallest: int | None = None, largest: int | None = None) -> bool:
    """Return whether a value is an integer, of Python or NumPy but no bool, and within the bounds, if any.

    Examples
    --------
    >>> is_integer(3, 1), is_integer(0, 1), is_integer(True), is_integer(2.0)
    (True, False, False, False)
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        return False
    return (smallest is None or smallest <= int(value)) and (largest is None or int(value) <= largest)
