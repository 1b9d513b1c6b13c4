"""Definitions of the operations in plain NumPy and float64, against which the fast kernels are tested.

Slow on purpose: each function is its formula. Window geometry is passed in, already computed by
:mod:`framecnn.geometry`.
"""

import math
from collections.abc import Iterator

import numpy as np

from framecnn.geometry import Border, Pair
from framecnn.typing import Array

__all__ = [
    "activation",
    "activation_backward",
    "adam_update",
    "batch_norm",
    "conv2d",
    "conv2d_backward",
    "dense",
    "dense_backward",
    "filter_bank",
    "pool2d",
    "pool2d_backward",
    "resample2d",
    "resample2d_backward",
    "sgd_update",
]

ROUNDING = 1e-12


def conv2d(x: Array, kernel: Array, bias: Array, strides: Pair, border: Border, dilation: Pair, groups: int) -> Array:
    """Return the convolution, in which padding counts as zeros.

    ``y[n, i, j, f] = bias[f] + sum_{u, v, k} x[n, i s + u d - top, j s + v d - left, k] kernel[u, v, k, f]``.

    Shapes: x (n, h, w, c), kernel (kh, kw, c / groups, f), bias (f,), y (n, oh, ow, f). Filters are split evenly over
    groups, and each group sees its own ``c / groups`` channels.
    """
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *border, (0, 0)))
    kernel = np.asarray(kernel, np.float64)
    channels, filters = kernel.shape[2], kernel.shape[3] // groups
    maps = []
    for group in range(groups):
        group_x = x[..., group * channels : (group + 1) * channels]
        windows = np.stack(list(_taps(group_x, kernel.shape[:2], strides, dilation)), axis=3)  # (n, oh, ow, kh*kw, c)
        weights = kernel[..., group * filters : (group + 1) * filters].reshape(-1, channels, filters)
        maps.append(np.einsum("nijtk,tkf->nijf", windows, weights))
    return np.concatenate(maps, axis=-1) + np.asarray(bias, np.float64)


def conv2d_backward(
    x: Array, kernel: Array, dy: Array, strides: Pair, border: Border, dilation: Pair, groups: int
) -> tuple[Array, Array, Array]:
    """Return the gradients of ``sum dy * conv2d(x, kernel, bias)`` with respect to x, kernel and bias.

    Shapes: as for :func:`conv2d`, dy as y.
    """
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *border, (0, 0)))
    kernel, dy = np.asarray(kernel, np.float64), np.asarray(dy, np.float64)
    dpadded, dkernel = np.zeros_like(padded), np.zeros_like(kernel)
    channels, filters = kernel.shape[2], kernel.shape[3] // groups
    for group in range(groups):
        inputs, outputs = slice(group * channels, (group + 1) * channels), slice(group * filters, (group + 1) * filters)
        taps = zip(
            _taps(padded[..., inputs], kernel.shape[:2], strides, dilation),
            _taps(dpadded[..., inputs], kernel.shape[:2], strides, dilation),
            np.ndindex(kernel.shape[:2]),
            strict=True,
        )
        for pixels, dpixels, (u, v) in taps:
            dkernel[u, v, :, outputs] = np.einsum("nijk,nijf->kf", pixels, dy[..., outputs])
            dpixels += dy[..., outputs] @ kernel[u, v, :, outputs].T
    (top, _), (left, _) = border
    dx = dpadded[:, top : top + x.shape[1], left : left + x.shape[2]]
    return dx, dkernel, dy.sum(axis=(0, 1, 2))


def filter_bank(
    x: Array, kernel: Array, bias: Array, strides: Pair, contrast: float, thresholds: tuple[float, ...]
) -> Array:
    """Return ``relu(kernel . (window - mean) / sqrt(variance + contrast) + bias - threshold)``, a map per threshold.

    Shapes: x (n, h, w, c), kernel (kh, kw, c, f), bias (f,), result (n, oh, ow, thresholds * f), threshold by
    threshold. Mean and variance are taken over the window's kh * kw * c values.
    """
    kernel = np.asarray(kernel, np.float64)
    windows = np.stack(list(_taps(np.asarray(x, np.float64), kernel.shape[:2], strides, (1, 1))), axis=3)
    windows = windows.reshape(*windows.shape[:3], -1)
    windows = windows - windows.mean(axis=-1, keepdims=True)
    windows /= np.sqrt(np.mean(windows**2, axis=-1, keepdims=True) + contrast)
    response = windows @ kernel.reshape(-1, kernel.shape[3]) + np.asarray(bias, np.float64)
    return np.concatenate([np.maximum(response - threshold, 0) for threshold in thresholds], axis=-1)


def _taps(x: Array, window: Pair, strides: Pair, dilation: Pair) -> Iterator[Array]:
    """Yield the pixels under every value of the kernel: kh * kw arrays (n, oh, ow, c)."""
    last = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
    for u in range(window[0]):
        for v in range(window[1]):
            row, column = u * dilation[0], v * dilation[1]
            stop_row, stop_column = x.shape[1] - last[0] + row, x.shape[2] - last[1] + column
            yield x[:, row : stop_row : strides[0], column : stop_column : strides[1]]


def pool2d(x: Array, rows: list[Array], columns: list[Array], mode: str) -> Array:
    """Return ``y[n, i, j] = max or mean of x[n, r, c]`` for r in rows[i], c in columns[j].

    Shapes: x (n, h, w, c); rows and columns list the pixels of every window; y (n, len(rows), len(columns), c).
    Pixels of the border are in no list, so a mean divides by the number of real pixels. NaN wins over every number.
    """
    reduce = np.max if mode == "max" else np.mean
    x = np.asarray(x, np.float64)
    lines = [[reduce(x[:, row][:, :, column], axis=(1, 2)) for column in columns] for row in rows]
    return np.stack([np.stack(line, axis=1) for line in lines], axis=1)


def pool2d_backward(x: Array, dy: Array, rows: list[Array], columns: list[Array], mode: str) -> Array:
    """Return the gradient of ``sum dy * pool2d(x)`` with respect to x; the first of equal maxima counts.

    Shapes: as for :func:`pool2d`, dy as y.
    """
    dx = np.zeros(x.shape)
    for (n, i, j, k), gradient in np.ndenumerate(np.asarray(dy, np.float64)):
        pixels = np.ix_([n], rows[i], columns[j], [k])
        window = x[pixels]
        if mode == "max":
            share = np.arange(window.size).reshape(window.shape) == np.argmax(window)
        else:
            share = np.full(window.shape, 1 / window.size)
        dx[pixels] += gradient * share
    return dx


def batch_norm(x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    """Return ``gamma (x - mean) / sqrt(variance + epsilon) + beta``, channel by channel: gamma ... variance (c,)."""
    x, gamma, beta, mean, variance = (np.asarray(values, np.float64) for values in (x, gamma, beta, mean, variance))
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def batch_moments(x: Array) -> tuple[Array, Array]:
    """Return mean and variance of each channel: x (n, ..., c), results (c,)."""
    pixels = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    return pixels.mean(axis=0), pixels.var(axis=0)


def batch_norm_backward(
    dy: Array, x: Array, gamma: Array, epsilon: float, y: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return the gradients with respect to x, gamma and beta of a normalisation by :func:`batch_moments`; dy is 0
    where y, if it is given, is not positive."""
    mean, variance = batch_moments(x)
    dy, x = (np.asarray(values, np.float64) for values in (dy, x))
    normal = (x - mean) / np.sqrt(variance + epsilon)
    dy = dy if y is None else np.where(y > 0, dy, 0)
    axes = tuple(range(x.ndim - 1))
    dgamma, dbeta, count = (dy * normal).sum(axis=axes), dy.sum(axis=axes), x.size // x.shape[-1]
    return gamma / np.sqrt(variance + epsilon) * (dy - dbeta / count - normal * dgamma / count), dgamma, dbeta


def resample2d(x: Array, size: Pair) -> Array:
    """Return frames of another size: along each axis, the mean of pixels weighted by the height of a triangle.

    The centre of pixel ``i`` is at ``i + 1/2``. The triangle is two pixels of the output wide, at least two of x.

    Shapes: x (n, h, w, c), y (n, *size, c).
    """
    y = np.asarray(x, np.float64)
    for axis, pixels in enumerate(size, start=1):
        lines = [
            np.tensordot(heights[heights > 0], y.compress(heights > 0, axis), (0, axis))
            for heights in _triangles(y.shape[axis], pixels)
        ]
        y = np.stack(lines, axis)
    return y


def resample2d_backward(dy: Array, frame: Pair) -> Array:
    """Return the gradient of ``sum dy * resample2d(x, size)`` with respect to x, whose frames have the size `frame`.

    Shapes: dy (n, oh, ow, c), dx (n, *frame, c).
    """
    rows, columns = (_triangles(*lengths) for lengths in zip(frame, dy.shape[1:3], strict=True))
    return np.einsum("iu,jv,nijk->nuvk", rows, columns, np.asarray(dy, np.float64))


def _triangles(length: int, size: int) -> Array:
    """Return the matrix (size, length) of the weights along an axis."""
    step = length / size
    distances = np.abs((np.arange(size)[:, None] + 0.5) * step - (np.arange(length) + 0.5))
    heights = 1 - distances / max(step, 1)
    heights = np.where(heights > ROUNDING, heights, 0)  # a pixel at the foot of the triangle does not count
    return heights / heights.sum(axis=1, keepdims=True)


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """Return ``y = x kernel + bias``. Shapes: x (n, d), kernel (d, units), bias (units,), y (n, units)."""
    return np.asarray(x, np.float64) @ np.asarray(kernel, np.float64) + np.asarray(bias, np.float64)


def dense_backward(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return the gradients of ``sum dy * dense(x, kernel, bias)`` with respect to x, kernel and bias."""
    x, kernel, dy = (np.asarray(values, np.float64) for values in (x, kernel, dy))
    return dy @ kernel.T, x.T @ dy, dy.sum(axis=0)


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + exp(-x))`` of every value."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def below(x: Array) -> Array:
    """Return for every value the probability that a standard normal value is below it."""
    return np.vectorize(math.erfc, otypes=[np.float64])(-x / math.sqrt(2)) / 2


def activation(x: Array, function: str, parameter: float = 0.3) -> Array:
    """Return a function of every value of x, or softmax over the last axis, in the shape of x.

    `parameter` is the slope of leaky_relu below zero, or the scale of elu below zero.
    """
    x = np.asarray(x, np.float64)
    if function == "softmax":
        shifted = np.exp(x - x.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        return {
            "relu": lambda: np.maximum(x, 0),
            "leaky_relu": lambda: np.where(x < 0, parameter * x, x),
            "sigmoid": lambda: sigmoid(x),
            "tanh": lambda: np.tanh(x),
            "sqrt": lambda: np.sqrt(np.maximum(x, 0)),
            "relu6": lambda: np.clip(x, 0, 6),
            "hard_sigmoid": lambda: np.clip(x + 3, 0, 6) / 6,
            "hard_swish": lambda: x * np.clip(x + 3, 0, 6) / 6,
            "silu": lambda: x * sigmoid(x),
            "gelu": lambda: x * below(x),
            "elu": lambda: np.where(x < 0, parameter * np.expm1(np.minimum(x, 0)), x),
            "softplus": lambda: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
        }[function]()


def activation_backward(x: Array, dy: Array, function: str, parameter: float = 0.3) -> Array:
    """Return the gradient of ``sum dy * activation(x)``; at a kink, the left derivative."""
    x, dy = np.asarray(x, np.float64), np.asarray(dy, np.float64)
    y = activation(x, function, parameter)
    with np.errstate(divide="ignore", over="ignore"):
        return {
            "relu": lambda: np.where(x > 0, dy, 0),
            "leaky_relu": lambda: np.where(x > 0, dy, parameter * dy),
            "sigmoid": lambda: dy * y * (1 - y),
            "tanh": lambda: dy * (1 - y**2),
            "sqrt": lambda: np.where(x > 0, dy / (2 * y), 0),
            "softmax": lambda: y * (dy - (y * dy).sum(axis=-1, keepdims=True)),
            "relu6": lambda: np.where((x > 0) & (x <= 6), dy, 0),
            "hard_sigmoid": lambda: np.where((x > -3) & (x <= 3), dy / 6, 0),
            "hard_swish": lambda: dy * np.where(x > 3, 1, np.where(x > -3, (2 * x + 3) / 6, 0)),
            "silu": lambda: dy * sigmoid(x) * (1 + x * sigmoid(-x)),
            "gelu": lambda: dy * (below(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)),
            "elu": lambda: dy * np.where(x > 0, 1, parameter * np.exp(np.minimum(x, 0))),
            "softplus": lambda: dy * sigmoid(x),
        }[function]()


def sgd_update(
    weights: Array, gradient: Array, velocity: Array, rate: float, momentum: float, nesterov: bool
) -> tuple[Array, Array]:
    """Return new weights and velocity: ``v' = momentum v - rate g`` and ``w' = w + v'``.

    With Nesterov's momentum ``w' = w + momentum v' - rate g``. All arrays have one shape.
    """
    weights, gradient, velocity = (np.asarray(value, np.float64) for value in (weights, gradient, velocity))
    velocity = momentum * velocity - rate * gradient
    return weights + (momentum * velocity - rate * gradient if nesterov else velocity), velocity


def adam_update(
    weights: Array,
    gradient: Array,
    moments: tuple[Array, Array],
    rate: float,
    epsilon: float,
    betas: tuple[float, float],
    decay: float,
) -> tuple[Array, Array, Array]:
    """Return new weights and moments: ``m' = b1 m + (1 - b1) g``, ``v' = b2 v + (1 - b2) g^2``, with b1, b2 = betas.

    ``w' = w - decay w - rate m' / (sqrt(v') + epsilon)``. The rate already includes the correction for the bias of the
    first updates, ``sqrt(1 - b2^t) / (1 - b1^t)``. All arrays have one shape.
    """
    weights, gradient, first, second = (np.asarray(value, np.float64) for value in (weights, gradient, *moments))
    first = betas[0] * first + (1 - betas[0]) * gradient
    second = betas[1] * second + (1 - betas[1]) * gradient**2
    return weights - decay * weights - rate * first / (np.sqrt(second) + epsilon), first, second
