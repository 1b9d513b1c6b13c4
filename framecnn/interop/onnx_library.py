"""The package onnx: its import, and its numbers of dtypes."""

from typing import Any

import numpy as np

from framecnn.errors import MissingExtraError

__all__ = ["DOUBLE", "FLOAT", "FLOATS", "INT64", "load_onnx"]

FLOAT, INT64, DOUBLE = 1, 7, 11
FLOATS: dict[int, np.dtype[Any]] = {FLOAT: np.dtype(np.float32), DOUBLE: np.dtype(np.float64)}
"""The dtypes of networks, by ONNX's numbers."""


def load_onnx(who: str) -> Any:
    """Return the module ``onnx``.

    Parameters
    ----------
    who : str
        The function that an error names.

    Returns
    -------
    module
        ``onnx``.

    Raises
    ------
    MissingExtraError
        If onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError(who, "onnx", "onnx") from None
    return onnx
