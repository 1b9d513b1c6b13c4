"""Where ONNX keeps a value that framecnn keeps elsewhere: channels first there, channels last here."""

import numpy as np

from framecnn.typing import Array, Shape

__all__ = ["channel_order", "channels_first", "channels_last", "onnx_shape"]


def channels_first(x: Array) -> Array:
    """Return frames (n, h, w, c) as (n, c, h, w), copied; rows stay as they are.

    Examples
    --------
    >>> channels_first(np.zeros((5, 240, 360, 3))).shape
    (5, 3, 240, 360)
    """
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def channels_last(x: Array) -> Array:
    """Return frames (n, c, h, w) as (n, h, w, c), a view; rows stay as they are.

    Examples
    --------
    >>> channels_last(np.zeros((5, 3, 240, 360))).shape
    (5, 240, 360, 3)
    """
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def onnx_shape(shape: Shape) -> Shape:
    """Return the shape of a frame (h, w, c) as (c, h, w); other shapes stay as they are.

    Examples
    --------
    >>> onnx_shape((240, 360, 3)), onnx_shape((128,))
    ((3, 240, 360), (128,))
    """
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape


def channel_order(shape: Shape) -> Array:
    """Say which of our flattened values stands at each place of ONNX's: they come channel by channel there.

    Parameters
    ----------
    shape : (int, int, int)
        (h, w, c) of what is flattened.

    Returns
    -------
    (h * w * c,) int array

    Examples
    --------
    >>> channel_order((1, 3, 2))
    array([0, 2, 4, 1, 3, 5])
    """
    return np.arange(np.prod(shape)).reshape(shape).transpose(2, 0, 1).ravel()
