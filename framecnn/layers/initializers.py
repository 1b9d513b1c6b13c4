"""Initializers: random weights before training."""

import math
from collections.abc import Callable

import numpy as np

from framecnn.errors import SettingError
from framecnn.typing import Array, Shape

__all__ = ["NAMES", "draw"]


def _uniform(rng: np.random.Generator, shape: Shape, limit: float) -> Array:
    return rng.uniform(-limit, limit, shape)


def _fans(shape: Shape) -> tuple[int, int]:
    """Return fan-in and fan-out: channels and filters times the pixels of the window."""
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


_DRAW: dict[str, Callable[[np.random.Generator, Shape], Array]] = {
    "zeros": lambda rng, shape: np.zeros(shape),
    "ones": lambda rng, shape: np.ones(shape),
    "glorot_uniform": lambda rng, shape: _uniform(rng, shape, np.sqrt(6 / sum(_fans(shape)))),
    "he_normal": lambda rng, shape: rng.normal(0, np.sqrt(2 / _fans(shape)[0]), shape),
    "he_uniform": lambda rng, shape: _uniform(rng, shape, np.sqrt(6 / _fans(shape)[0])),
}

NAMES = tuple(_DRAW)
"""The names of all initializers."""


def draw(name: str, shape: Shape, rng: np.random.Generator, dtype: np.dtype | type) -> Array:
    """Return an array of new weights.

    Parameters
    ----------
    name : str
        ``"zeros"``, ``"ones"``, ``"glorot_uniform"`` (uniform within ``sqrt(6 / (fan_in + fan_out))``), ``"he_normal"``
        (standard deviation ``sqrt(2 / fan_in)``) or ``"he_uniform"`` (within ``sqrt(6 / fan_in)``).
    shape : tuple of int
        The last two axes are channels and filters, the axes before them the window.
    rng : numpy.random.Generator
    dtype : float32 or float64

    Returns
    -------
    array of `shape`

    Raises
    ------
    SettingError
        If `name` is unknown.

    References
    ----------
    Glorot & Bengio, AISTATS 2010; He et al., ICCV 2015.

    Examples
    --------
    >>> draw("zeros", (2,), np.random.default_rng(0), np.float32)
    array([0., 0.], dtype=float32)
    """
    if name not in _DRAW:
        raise SettingError(f"initializer: expected one of {', '.join(_DRAW)}, got {name!r}")
    return _DRAW[name](rng, shape).astype(dtype)
