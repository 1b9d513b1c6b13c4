"""Losses and their gradients: ``loss(outputs, targets) -> value, doutputs``.

Losses are computed in float64, so that they overflow only if their exact values do; gradients have the outputs' dtype.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from framecnn.errors import SettingError, ShapeError
from framecnn.typing import Array

__all__ = ["QUIET", "Loss", "mean_squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy"]

QUIET = np.errstate(over="ignore", invalid="ignore")  # the loss is then NaN or infinite, which training checks

Loss = Callable[[Array, Any], tuple[float, Array]]
"""A function from outputs and targets to the loss and its gradient with respect to the outputs."""


@QUIET
def softmax_cross_entropy(
    logits: Array, labels: Any, *, class_weights: Any = None, label_smoothing: float = 0.0
) -> tuple[float, Array]:
    r"""Return the mean cross-entropy of softmax(logits) and the true classes, and its gradient.

    .. math:: -\frac 1 n \sum_i w_{l_i} \sum_k t_{ik} \log \operatorname{softmax}(x_i)_k,
        \quad t_{ik} = (1 - s) [k = l_i] + s / c

    Parameters
    ----------
    logits : (n, c) array
        Outputs before softmax.
    labels : (n,) array of int
        The true class of each row.
    class_weights : (c,) array, optional
        Weight of the rows of each class; 1 by default.
    label_smoothing : float, default 0
        The share s of the target that is spread evenly over all classes.

    Returns
    -------
    value : float
    dlogits : (n, c) array

    Shapes
    ------
    logits (n, c), labels (n,) -> value (), dlogits (n, c)

    Raises
    ------
    ShapeError
        If there is no row, the shapes do not fit, or a label is not the number of a class.
    SettingError
        If a weight is negative or not finite, or `label_smoothing` is not in [0, 1).

    Notes
    -----
    Keras: ``SparseCategoricalCrossentropy(from_logits=True)``, its ``class_weight``, and ``label_smoothing`` of
    ``CategoricalCrossentropy``; weights are not divided by their sum.

    References
    ----------
    Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016 (label smoothing).

    Examples
    --------
    >>> value, gradient = softmax_cross_entropy(np.array([[0.0, 0.0]]), [1])
    >>> round(value, 4), gradient
    (0.6931, array([[ 0.5, -0.5]]))
    """
    who = "softmax_cross_entropy"
    x = _checked(who, "logits", logits, ndim=2)
    n, n_classes = x.shape
    labels = _check_labels(who, labels, n, n_classes)
    if not 0 <= label_smoothing < 1:
        raise SettingError(f"{who}: expected label_smoothing in [0, 1), got {label_smoothing!r}")
    weights = np.ones(n) if class_weights is None else _check_weights(who, class_weights, n_classes)[labels]
    targets = np.full(x.shape, label_smoothing / n_classes)
    targets[np.arange(n), labels] += 1 - label_smoothing
    shifted = x - x.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    totals = exponentials.sum(axis=1, keepdims=True)
    cross_entropy = np.log(totals[:, 0]) - np.sum(targets * shifted, axis=1)
    gradient = (exponentials / totals - targets) * (weights / n)[:, None]
    return float(weights @ cross_entropy / n), gradient.astype(logits.dtype)


@QUIET
def sigmoid_cross_entropy(logits: Array, targets: Any) -> tuple[float, Array]:
    r"""Return the mean binary cross-entropy of sigmoid(logits) and targets, and its gradient.

    .. math:: \operatorname{mean}(\log(1 + e^x) - t x)

    Parameters
    ----------
    logits : (n, ...) array
        Outputs before the sigmoid.
    targets : (n, ...) array
        0 for no, 1 for yes, or a probability between.

    Returns
    -------
    value : float
    dlogits : (n, ...) array

    Shapes
    ------
    logits (n, ...), targets (n, ...) -> value (), dlogits (n, ...)

    Raises
    ------
    ShapeError
        If there is no value, the shapes differ, or a target is outside [0, 1].

    Notes
    -----
    Keras: ``BinaryCrossentropy(from_logits=True)``.

    Examples
    --------
    >>> value, gradient = sigmoid_cross_entropy(np.array([[0.0], [1000.0]]), [[1], [1]])
    >>> round(value, 4), gradient.tolist()
    (0.3466, [[-0.25], [0.0]])
    """
    who = "sigmoid_cross_entropy"
    x = _checked(who, "logits", logits)
    t = _check_targets(who, targets, x.shape)
    if not ((t >= 0) & (t <= 1)).all():
        raise ShapeError(f"{who}: expected targets from 0 to 1, got {t.min()} to {t.max()}")
    shrunk = np.exp(-np.abs(x))
    value = np.mean(np.maximum(x, 0) - t * x + np.log1p(shrunk))
    sigmoid = np.where(x >= 0, 1, shrunk) / (1 + shrunk)
    return float(value), ((sigmoid - t) / x.size).astype(logits.dtype)


@QUIET
def mean_squared_error(outputs: Array, targets: Any) -> tuple[float, Array]:
    r"""Return the mean squared difference over all values, and its gradient.

    .. math:: \operatorname{mean}((y - t)^2)

    Parameters
    ----------
    outputs : (n, ...) array
    targets : (n, ...) array

    Returns
    -------
    value : float
    doutputs : (n, ...) array

    Shapes
    ------
    outputs (n, ...), targets (n, ...) -> value (), doutputs (n, ...)

    Raises
    ------
    ShapeError
        If there is no value, or the shapes differ.

    Notes
    -----
    Keras: ``MeanSquaredError()``.

    Examples
    --------
    >>> mean_squared_error(np.array([[1.0, 3.0]]), [[1, 1]])
    (2.0, array([[0., 2.]]))
    """
    who = "mean_squared_error"
    y = _checked(who, "outputs", outputs)
    difference = y - _check_targets(who, targets, y.shape)
    return float(np.mean(difference**2)), (difference * (2 / y.size)).astype(outputs.dtype)


def _checked(who: str, name: str, outputs: Array, ndim: int | None = None) -> Array:
    """Return outputs in float64; raise ShapeError if there are none, or if their rank is not `ndim`."""
    if outputs.size == 0 or outputs.ndim == 0 or ndim not in (None, outputs.ndim):
        expected = "(n, classes)" if ndim else "(n, ...)"
        raise ShapeError(f"{who}: expected {name} of shape {expected} without a zero, got {outputs.shape}")
    return outputs.astype(np.float64)


def _check_labels(who: str, labels: Any, n: int, n_classes: int) -> Array:
    """Return labels as an array (n,); raise ShapeError unless each is the number of a class."""
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ShapeError(f"{who}: expected one label per row, shape ({n},), got shape {labels.shape}")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_classes:
        received = f"{labels.min()} to {labels.max()}" if labels.dtype.kind in "iu" else f"dtype {labels.dtype}"
        raise ShapeError(f"{who}: expected labels as integers from 0 to {n_classes - 1}, got {received}")
    return labels


def _check_weights(who: str, class_weights: Any, n_classes: int) -> Array:
    """Return class weights (n_classes,); raise an error unless they are finite and not negative."""
    weights = np.asarray(class_weights, np.float64)
    if weights.shape != (n_classes,):
        raise ShapeError(f"{who}: expected one weight per class, shape ({n_classes},), got shape {weights.shape}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise SettingError(f"{who}: expected finite class_weights of at least 0, got {weights.tolist()}")
    return weights


def _check_targets(who: str, targets: Any, shape: tuple[int, ...]) -> Array:
    """Return targets in float64; raise ShapeError unless they have the outputs' shape."""
    targets = np.asarray(targets, np.float64)
    if targets.shape != shape:
        raise ShapeError(f"{who}: expected targets of the outputs' shape {shape}, got {targets.shape}")
    return targets
