"""Checks of settings: who, what was expected, what came."""

import sys
from typing import Any

import numpy as np

from framecnn.errors import ShapeError
from framecnn.typing import Shape

__all__ = ["LARGEST_SIZE", "check_choice", "check_count", "check_number", "check_size", "check_sizes"]

LARGEST_SIZE = 2**31 - 1
"""The most pixels, channels, filters or units that a layer may have along an axis."""


def check_sizes(who: str, name: str, value: Any) -> Shape:
    """Return a tuple of positive whole numbers; a ShapeError for anything else."""
    sizes = tuple(value) if np.iterable(value) else ()
    if not sizes:
        raise ShapeError(f"{who}: expected {name} as positive whole numbers, got {value!r}")
    return tuple(check_size(who, f"every size of {name}", size) for size in sizes)


def check_size(who: str, name: str, value: Any) -> int:
    """Return a positive whole number below 2**31; a ShapeError for anything else."""
    size = check_count(who, name, value)
    if size > LARGEST_SIZE:
        raise ShapeError(f"{who}: expected {name} as at most {LARGEST_SIZE:,}, got {value!r}")
    return size


def check_count(who: str, name: str, value: Any) -> int:
    """Return a positive whole number; a ShapeError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ShapeError(f"{who}: expected {name} as a positive whole number, got {value!r}")
    return int(value)


def check_number(who: str, name: str, value: Any) -> float:
    """Return a finite number; a ShapeError for anything else."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not abs(value) <= sys.float_info.max:
        raise ShapeError(f"{who}: expected {name} as a finite number, got {value!r}")
    return float(value)


def check_choice(who: str, name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """A ShapeError unless `value` is one of `choices`."""
    if value not in choices:
        raise ShapeError(f"{who}: expected {name} as one of {', '.join(map(str, choices))}, got {value!r}")
