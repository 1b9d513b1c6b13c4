"""Matrices that resample the rows and the columns of maps, with which ONNX files average uneven cells and resize."""

import numpy as np

from framecnn import geometry
from framecnn.kernels import triangle_taps
from framecnn.layers import PoolingLayer, ResizingLayer
from framecnn.typing import Array

__all__ = ["averaging_matrix", "resampling_matrices"]


def resampling_matrices(layer: PoolingLayer | ResizingLayer, frame: geometry.Pair) -> tuple[Array, Array]:
    """Return the matrices (oh, h) and (ow, w) with which a layer computes ``rows @ x @ columns.T`` for each channel.

    Parameters
    ----------
    layer : PoolingLayer or ResizingLayer
        The pooling averages.
    frame : (int, int)
        Rows and columns of the input.

    Returns
    -------
    rows, columns : float32 arrays

    Examples
    --------
    >>> resampling_matrices(PoolingLayer((1, 2), mode="adaptive_average"), (2, 3))[1]
    array([[0.5, 0.5, 0. ],
           [0. , 0.5, 0.5]], dtype=float32)
    """
    if isinstance(layer, ResizingLayer):
        rows, columns = (_resizing_matrix(*axis) for axis in zip(frame, layer.size, strict=True))
    else:
        axes = zip(frame, layer.windows(frame), strict=True)
        rows, columns = (averaging_matrix(*axis).astype(np.float32) for axis in axes)
    return rows, columns


def _resizing_matrix(length: int, size: int) -> Array:
    """Return the matrix (size, length) that resamples an axis."""
    starts, _, weights = triangle_taps(length, size, np.dtype(np.float32))
    matrix = np.zeros((size, length + weights.shape[1]), np.float32)
    np.put_along_axis(matrix, starts[:, None] + np.arange(weights.shape[1]), weights, axis=1)
    return matrix[:, :length]


def averaging_matrix(length: int, windows: geometry.Ranges) -> Array:
    """Return the matrix (windows, length) that averages the pixels of each window along an axis."""
    starts, stops, _ = windows
    pixels = np.arange(length)
    inside = (pixels >= starts[:, None]) & (pixels < stops[:, None])
    return inside / inside.sum(axis=1, keepdims=True)
