"""Conversion between the layouts of framecnn, channels last, and of ONNX, channels first."""

import numpy as np

from framecnn.typing import Array, Shape

__all__ = ["channel_order", "channels_first", "channels_last", "onnx_shape"]


def channels_first(x: Array) -> Array:
    """Return a copy of frames (n, h, w, c) as (n, c, h, w), or rows unchanged.

    Examples
    --------
    >>> channels_first(np.zeros((5, 240, 360, 3))).shape
    (5, 3, 240, 360)
    """
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def channels_last(x: Array) -> Array:
    """Return a view of frames (n, c, h, w) as (n, h, w, c), or rows unchanged.

    Examples
    --------
    >>> channels_last(np.zeros((5, 3, 240, 360))).shape
    (5, 240, 360, 3)
    """
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def onnx_shape(shape: Shape) -> Shape:
    """Return the shape of a frame (h, w, c) as (c, h, w), or any other shape unchanged.

    Examples
    --------
    >>> onnx_shape((240, 360, 3)), onnx_shape((128,))
    ((3, 240, 360), (128,))
    """
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape


def channel_order(shape: Shape) -> Array:
    """Return for each value in ONNX's flattened order (channel by channel) its index in framecnn's.

    Parameters
    ----------
    shape : (int, int, int)
        (h, w, c) of the maps.

    Returns
    -------
    (h * w * c,) int array

    Examples
    --------
    >>> channel_order((1, 3, 2))
    array([0, 2, 4, 1, 3, 5])
    """
    return np.arange(np.prod(shape)).reshape(shape).transpose(2, 0, 1).ravel()
