"""Conversion between the layouts of framecnn, channels last, and of ONNX, channels first."""

import math
from collections.abc import Iterable

import numpy as np

from framecnn.typing import Array, Shape

__all__ = ["Flattened", "channels_first", "channels_last", "flattened_from", "flattened_order", "joined", "onnx_shape"]

Flattened = tuple[Shape, ...]
"""The shapes from which rows were flattened and then concatenated: (h, w, c) of maps, whose values ONNX orders channel
by channel, and (d,) of rows in framecnn's order. Empty for rows that are all in framecnn's order, and for maps."""


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


def flattened_from(shape: Shape) -> Flattened:
    """Return from which shapes rows are flattened that were maps (h, w, c) before.

    Examples
    --------
    >>> flattened_from((4, 5, 3)), flattened_from((1, 1, 3))
    (((4, 5, 3),), ())
    """
    return () if shape[2] == 1 or shape[:2] == (1, 1) else (shape,)


def flattened_order(flattened: Flattened) -> Array:
    """Return for each feature of rows in ONNX's order its index in framecnn's.

    Parameters
    ----------
    flattened : tuple of shapes
        What the rows were flattened from; not empty.

    Returns
    -------
    (d,) int array

    Examples
    --------
    >>> flattened_order(((1, 3, 2), (2,)))
    array([0, 2, 4, 1, 3, 5, 6, 7])
    """
    orders, start = [], 0
    for shape in flattened:
        order = np.arange(start, start + math.prod(shape)).reshape(shape)
        orders.append((order.transpose(2, 0, 1) if len(shape) == 3 else order).ravel())
        start += math.prod(shape)
    return np.concatenate(orders)


def joined(parts: Iterable[tuple[int, Flattened]]) -> Flattened:
    """Return from which shapes rows are flattened that were concatenated from rows.

    Parameters
    ----------
    parts : iterable of (int, tuple of shapes)
        The length of each of the rows, and what it was flattened from.

    Examples
    --------
    >>> joined([(6, ((1, 3, 2),)), (2, ())]), joined([(3, ()), (2, ())])
    (((1, 3, 2), (2,)), ())
    """
    listed = [(length, own) for length, own in parts]
    if not any(own for _, own in listed):
        return ()
    return tuple(shape for length, own in listed for shape in own or ((length,),))
