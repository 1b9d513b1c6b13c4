"""Learning of filters without labels or back-propagation: patches, contrast, whitening, a k-means dictionary.

References
----------
Coates, Lee & Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.
Coates & Ng, "Learning Feature Representations with K-means", in Neural Networks: Tricks of the Trade, 2012.
"""

from functools import partial

import numpy as np

from framecnn.errors import SettingError, ShapeError
from framecnn.kernels.linalg import BLOCK_ROWS, blocked_product, lower_gram
from framecnn.kernels.threads import ordered_map, single_threaded_blas
from framecnn.typing import Array

__all__ = ["METHODS", "learn_filters", "normalise_patches", "sample_patches", "spherical_kmeans", "whitening"]

METHODS = ("kmeans", "random", "pca")
ITERATIONS = 10  # the dictionary converges in about ten (Coates & Ng 2012, section 3)
WHITENING_FLOOR = 0.1  # added to the eigenvalues; weaker components are noise (ibid., section 3.1)


def sample_patches(x: Array, n_patches: int, kernel_size: tuple[int, int], rng: np.random.Generator) -> Array:
    """Return windows at random positions of random frames.

    Parameters
    ----------
    x : (n, h, w, c) array
    n_patches : int
    kernel_size : (int, int)
        Rows and columns of a window, in pixels.
    rng : numpy.random.Generator

    Returns
    -------
    (n_patches, kh * kw * c) array
        Row by row, channels innermost, in the dtype of `x`.

    Examples
    --------
    >>> sample_patches(np.zeros((2, 9, 9, 3)), 5, (6, 6), np.random.default_rng(0)).shape
    (5, 108)
    """
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel_size, axis=(1, 2))  # (n, oh, ow, c, kh, kw)
    positions = tuple(rng.integers(size, size=n_patches) for size in windows.shape[:3])
    return windows[positions].transpose(0, 2, 3, 1).reshape(n_patches, -1)


def normalise_patches(patches: Array, contrast: float) -> Array:
    """Return patches minus their mean, divided by ``sqrt(variance + contrast)``, as a FilterBankLayer computes them.

    Parameters
    ----------
    patches : (n, d) array
    contrast : float
        In squared units of the values.

    Returns
    -------
    (n, d) float32 array

    Examples
    --------
    >>> normalise_patches(np.array([[1.0, 3.0]]), contrast=0.0)
    array([[-1.,  1.]], dtype=float32)
    """
    centred = patches - patches.mean(axis=1, keepdims=True, dtype=np.float64)
    return (centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + contrast)).astype(np.float32)


@single_threaded_blas()
def whitening(patches: Array) -> tuple[Array, Array]:
    """Return mean and matrix of ZCA whitening: ``(patches - mean) @ matrix`` has a covariance close to the identity.

    .. math:: matrix = V (\\Lambda + 0.1)^{-1/2} V^T

    Parameters
    ----------
    patches : (n, d) array

    Returns
    -------
    mean : (d,) array
    matrix : (d, d) array
    """
    mean = patches.mean(axis=0, dtype=np.float64)
    centred = (patches - mean).astype(np.float32)
    values, vectors = np.linalg.eigh(lower_gram(centred.T) / len(patches))
    return mean, (vectors / np.sqrt(np.maximum(values, 0) + WHITENING_FLOOR)) @ vectors.T


@single_threaded_blas()
def spherical_kmeans(points: Array, n_directions: int, rng: np.random.Generator) -> Array:
    """Return the unit vectors of spherical k-means, each the centre of the points closest to it in angle.

    In every iteration the points closest to a direction, weighted by their projections onto it, are added to it, and
    the sum is scaled to length 1. A direction without points does not change.

    Parameters
    ----------
    points : (n, d) float32 array
    n_directions : int
    rng : numpy.random.Generator

    Returns
    -------
    (n_directions, d) float32 array
        The same bits for any number of threads.

    References
    ----------
    Coates & Ng 2012, section 2 (damped updates).
    """
    directions = _unit_rows(rng.normal(size=(n_directions, points.shape[1])))
    blocks = np.split(points, range(BLOCK_ROWS, len(points), BLOCK_ROWS))
    for _ in range(ITERATIONS):
        found = ordered_map(partial(_longest, directions.T.copy()), blocks)
        nearest, lengths = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(nearest, kind="stable")
        weighted = points[order] * lengths[order, None]
        chosen, starts = np.unique(nearest[order], return_index=True)
        directions[chosen] += np.add.reduceat(weighted, starts, axis=0)
        directions = _unit_rows(directions)
    return directions


def _longest(directions: Array, points: Array) -> tuple[Array, Array]:
    """Return for each point (n, d) the index of the direction (d, k) with the longest projection, and that length."""
    lengths = points @ directions
    nearest = lengths.argmax(axis=1)
    return nearest, lengths[np.arange(len(points)), nearest]


def _unit_rows(rows: Array) -> Array:
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)


@single_threaded_blas()
def learn_filters(
    patches: Array, n_filters: int, kernel_size: tuple[int, int], contrast: float, method: str, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return kernel and bias of a FilterBankLayer: filters learned from patches, with the whitening folded into them.

    Parameters
    ----------
    patches : (n, kh * kw * c) array
        From :func:`sample_patches`.
    n_filters : int
    kernel_size : (int, int)
        Rows and columns of a patch, in pixels.
    contrast : float
        Added to a window's variance, in squared units of the values.
    method : "kmeans", "random" or "pca"
        Directions in whitened space: a k-means dictionary, random ones, or the leading principal components with both
        signs, at most ``2 kh kw c`` of them.
    rng : numpy.random.Generator

    Returns
    -------
    kernel : (kh, kw, c, filters) float32 array
    bias : (filters,) float32 array

    Raises
    ------
    SettingError
        If `method` is not one of these.
    ShapeError
        If the patches do not fit the window.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> kernel, bias = learn_filters(rng.normal(size=(500, 27)), 8, (3, 3), 10.0, "kmeans", rng)
    >>> kernel.shape, bias.shape
    ((3, 3, 3, 8), (8,))
    """
    channels, rest = divmod(patches.shape[1], kernel_size[0] * kernel_size[1])
    if rest:
        window = f"{kernel_size[0]}x{kernel_size[1]}"
        raise ShapeError(f"learn_filters: expected patches of {window} pixels, got {patches.shape[1]} values")
    normalised = normalise_patches(patches, contrast)
    mean, matrix = whitening(normalised)
    if method == "kmeans":
        white = blocked_product((normalised - mean).astype(np.float32), matrix.astype(np.float32))
        directions = spherical_kmeans(white, n_filters, rng)
    elif method == "random":
        directions = _unit_rows(rng.normal(size=(n_filters, patches.shape[1])))
    elif method == "pca":
        directions = _principal_directions(normalised, n_filters)
    else:
        raise SettingError(f"learn_filters: expected method as one of {', '.join(METHODS)}, got {method!r}")
    kernel = matrix @ directions.T.astype(np.float64)
    bias = -mean @ kernel
    return kernel.reshape(*kernel_size, channels, -1).astype(np.float32), bias.astype(np.float32)


def _principal_directions(patches: Array, n_filters: int) -> Array:
    _, vectors = np.linalg.eigh(np.cov(patches.T))
    leading = vectors.T[::-1]
    return np.stack([leading, -leading], axis=1).reshape(-1, leading.shape[1])[:n_filters].astype(np.float32)
