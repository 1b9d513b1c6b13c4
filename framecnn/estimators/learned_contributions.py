"""Which places of a frame contribute to a linear function of learned features."""

from collections.abc import Iterator

import numpy as np

from framecnn import geometry
from framecnn.estimators.features import FINE_GRID, FrameFeatures
from framecnn.layers import DownsamplingLayer, FilterBankLayer, InputLayer, Layer, PoolingLayer
from framecnn.layers.settings import layer_window
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array

__all__ = ["contributions_of_windows", "has_windows"]


def has_windows(features: FrameFeatures) -> bool:
    """Return whether every network ends with responses and their mean over the fine grid, after layers with windows."""
    return bool(features.backbones_) and all(map(_known, features.backbones_))


def contributions_of_windows(
    features: FrameFeatures, batch: Array, weights: Array, means: Array
) -> tuple[Array, list[Array]]:
    """Return the contributions of pixels (h, w), and of the cells (rows, columns) of the grid at every scale.

    Parameters
    ----------
    features : FrameFeatures
        Fitted, those of which :func:`has_windows` is true.
    batch : (1, h, w, c) array
        One frame.
    weights, means : (n_features,) arrays
        The weight of every feature in the function, and its mean over the training frames, before standardisation.

    Returns
    -------
    pixels : (h, w) float64 array
    cells : list of (rows, columns) float64 arrays
    """
    n_rows, n_columns = features.grid
    pixels, cells = np.zeros(batch.shape[1:3]), []
    copies = [(batch, 1), (batch[:, :, ::-1], -1)] if features.averages_flips_ else [(batch, 1)]
    start = 0
    for backbone in features.backbones_:
        stop = start + n_rows * n_columns * backbone.output_shape[2]
        shape = n_rows, n_columns, -1
        own = weights[start:stop].reshape(shape) / len(copies)
        absent = (own * means[start:stop].reshape(shape)).sum(axis=2)
        rows, columns = _spreads(backbone)
        cells.append(np.zeros((n_rows, n_columns)))
        for copied, direction in copies:
            responses = Sequential(backbone.layers[:-1]).predict(copied)[0]
            for cell, positions in _positions(responses, own, absent):
                pixels += (rows @ positions @ columns.T)[:, ::direction]
                cells[-1][cell] += positions.sum()
        start = stop
    return pixels, cells


def _known(backbone: Sequential) -> bool:
    """Return whether a backbone ends with responses and their mean over the fine grid, after layers with windows."""
    *layers, last = backbone.layers
    kinds = InputLayer | DownsamplingLayer | PoolingLayer | FilterBankLayer
    responses = all(isinstance(layer, kinds) for layer in layers) and isinstance(layers[-1], FilterBankLayer)
    return responses and isinstance(last, PoolingLayer) and last.mode == "adaptive_average"


def _positions(responses: Array, weights: Array, absent: Array) -> Iterator[tuple[tuple[int, int], Array]]:
    """Yield each cell of the grid, and the contributions (oh, ow) of the positions to it.

    Takes responses (oh, ow, d), weights (rows, columns, d), and the contribution `absent` (rows, columns) that the mean
    training frame has in each cell.
    """
    down, across = (
        _cell_means(*sizes) for sizes in zip(responses.shape[:2], weights.shape[:2], FINE_GRID, strict=True)
    )
    for row, column in np.ndindex(absent.shape):
        (ys,), (xs,) = down[row].nonzero(), across[column].nonzero()
        cell = slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)
        share = np.outer(down[row, cell[0]], across[column, cell[1]])
        inside = responses[cell].astype(np.float64)
        roots = np.sqrt(np.tensordot(share, inside, axes=2))
        gain = np.divide(weights[row, column], roots, out=np.zeros_like(roots), where=roots > 0)
        positions = np.zeros(responses.shape[:2])
        positions[cell] = share * (inside @ gain - absent[row, column])
        yield (row, column), positions


def _cell_means(n_positions: int, n_cells: int, n_fine: int) -> Array:
    """Return the matrix (n_cells, n_positions) that averages positions over cells, each a mean of fine cells."""
    fine = _averages(geometry.adaptive_cells(n_positions, n_fine), n_positions)
    return fine.reshape(n_cells, -1, n_positions).mean(axis=1)


def _averages(windows: geometry.Ranges, length: int) -> Array:
    """Return the matrix (n_windows, length) that averages the pixels of each window along an axis."""
    inside = np.zeros((len(windows[0]), length))
    for row, (start, stop) in zip(inside, zip(*windows[:2], strict=True), strict=True):
        row[start : stop : windows[2]] = 1
    return inside / inside.sum(axis=1, keepdims=True)


def _spreads(backbone: Sequential) -> tuple[Array, Array]:
    """Return the matrices (h, oh) and (w, ow) that share a contribution of a position equally among its pixels."""
    height, width, _ = backbone.input_shape
    rows, columns = np.eye(height), np.eye(width)
    for layer in backbone.layers[1:-1]:
        down, across = _windows(layer)
        rows = rows @ _averages(down, rows.shape[1]).T
        columns = columns @ _averages(across, columns.shape[1]).T
    return rows, columns


def _windows(layer: Layer) -> tuple[geometry.Ranges, geometry.Ranges]:
    """Return the pixels of a layer's windows along the rows and the columns of its input."""
    height, width, _ = layer.input_shape
    if isinstance(layer, PoolingLayer):
        return layer.windows((height, width))
    if isinstance(layer, DownsamplingLayer):
        return geometry.sliding_window((height, width), layer.factor, layer.factor, (1, 1), "valid", "explain").pixels
    assert isinstance(layer, FilterBankLayer)
    return layer_window(layer, (height, width), layer.kernel_size).pixels
