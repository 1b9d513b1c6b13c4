"""Type aliases used across the package."""

from typing import Any

import numpy.typing as npt

__all__ = ["Array", "Shape"]

Array = npt.NDArray[Any]
"""An array of numbers; the docstring that uses it gives the shape."""

Shape = tuple[int, ...]
"""A shape without the batch: ``(height, width, channels)`` or ``(features,)``."""
