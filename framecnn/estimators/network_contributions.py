"""Which places of a frame contribute to a linear function of the means over a network's maps."""

import numpy as np

from framecnn import kernels
from framecnn.estimators.network_features import NetworkFeatures
from framecnn.layers import FlatteningLayer, PoolingLayer
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array

__all__ = ["contributions_of_positions", "has_positions"]


def has_positions(features: NetworkFeatures) -> bool:
    """Return whether the features are means over maps."""
    return bool(features.backbones_) and len(_before_means(features.backbones_[0]).output_shape) == 3


def contributions_of_positions(
    features: NetworkFeatures, batch: Array, weights: Array, means: Array
) -> tuple[Array, list[Array]]:
    r"""Return the contributions of pixels (h, w), and of the positions (mh, mw) of the maps.

    A feature is the mean of a map :math:`m_{kp}` over its :math:`n` positions :math:`p`, so a position contributes

    .. math:: \sum_k weights_k \frac{m_{kp} - means_k}{n}

    exactly. A position stands for a cell of the frame; the cells are equally large. A contribution is shared out among
    pixels in proportion to the weights by which they are interpolated between the centres of cells.

    Parameters
    ----------
    features : NetworkFeatures
        Fitted, those of which :func:`has_positions` is true.
    batch : (1, h, w, c) array
        One frame.
    weights, means : (n_features,) arrays
        The weight of every feature in the function, and its mean over the training frames, before standardisation.

    Returns
    -------
    pixels : (h, w) float64 array
    positions : list of one (mh, mw) float64 array

    References
    ----------
    Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016: class activation maps.
    """
    maps = _before_means(features.backbones_[0]).predict(batch)[0].astype(np.float64)
    positions = (maps - means) @ weights / (maps.shape[0] * maps.shape[1])
    rows, columns = (_shares(*lengths) for lengths in zip(batch.shape[1:3], positions.shape, strict=True))
    return rows @ positions @ columns.T, [positions]


def _before_means(backbone: Sequential) -> Sequential:
    """Return the network without the layers at its end that take the mean over maps."""
    layers = list(backbone.layers)
    if isinstance(layers[-1], FlatteningLayer) and layers[-1].input_shape[:2] == (1, 1):
        layers.pop()
    last = layers[-1]
    if isinstance(last, PoolingLayer) and last.mode == "adaptive_average" and last.pool_size == (1, 1):
        layers.pop()
    return Sequential(layers)


def _shares(n_pixels: int, n_positions: int) -> Array:
    """Return the matrix (n_pixels, n_positions) of the shares of each position's contribution that pixels get."""
    weights = kernels.resample2d(np.eye(n_positions)[None, ..., None], (n_pixels, n_positions))[0, ..., 0]
    return weights / weights.sum(axis=0)
