"""Warnings about frames that a network would be trained on as they should not be."""

import warnings
from typing import Any

import numpy as np

from framecnn.typing import Shape

__all__ = ["warn_of_input"]

SMALLEST_SIDE = 8  # pixels; a shape with a shorter side may well be that of maps


def warn_of_input(shape: Shape, scale: float, x: Any) -> None:
    """Warn if frames are 8-bit and not scaled, or if their channels seem to come first.

    Parameters
    ----------
    shape : tuple of int
        The shape of an item, as in the network's InputLayer.
    scale : float
        The scale of the InputLayer.
    x : array (n, *shape)
        What the network is trained on.

    Examples
    --------
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warn_of_input((8, 8, 3), 1.0, np.zeros((2, 8, 8, 3), np.uint8))
    >>> print(caught[0].message)
    Sequential.fit: frames of 0 to 255 are not scaled, so training may diverge; use InputLayer((8, 8, 3), scale=1 / 255)
    """
    if len(shape) != 3:
        return
    if getattr(x, "dtype", None) == np.uint8 and scale == 1:
        warnings.warn(
            "Sequential.fit: frames of 0 to 255 are not scaled, so training may diverge; "
            f"use InputLayer({shape}, scale=1 / 255)",
            stacklevel=3,
        )
    if shape[0] in (1, 3) and min(shape[1:]) >= SMALLEST_SIDE:
        warnings.warn(
            f"Sequential.fit: a frame of shape {shape} is read as {shape[0]} rows of {shape[1]} pixels with {shape[2]} "
            "channels; if its channels come first, pass x.transpose(0, 2, 3, 1) and give the InputLayer that shape",
            stacklevel=3,
        )
