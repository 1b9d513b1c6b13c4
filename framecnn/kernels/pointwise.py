"""Activation functions of single values, and softmax over the last axis."""

from collections.abc import Callable

import numpy as np

from framecnn.kernels.buffers import empty
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array, Shape

__all__ = ["FUNCTIONS", "activate", "activate_backward"]


@kernel
def relu_forward(y, x, negative_slope, start, stop):
    """y (size,) = max(x, 0) of x (size,); items are values. NaN stays NaN."""
    for i in range(start, stop):
        y[i] = 0 if x[i] < 0 else x[i]


@kernel
def leaky_relu_forward(y, x, negative_slope, start, stop):
    """y (size,) = x, or negative_slope x where x < 0, of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = negative_slope * x[i] if x[i] < 0 else x[i]


@kernel
def sigmoid_forward(y, x, negative_slope, start, stop):
    """y (size,) = 1 / (1 + exp(-x)) of x (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        y[i] = one / (one + np.exp(-x[i]))


@kernel
def tanh_forward(y, x, negative_slope, start, stop):
    """y (size,) = tanh(x) of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = np.tanh(x[i])


@kernel
def sqrt_forward(y, x, negative_slope, start, stop):
    """y (size,) = sqrt(max(x, 0)) of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = np.sqrt(x.dtype.type(0) if x[i] < 0 else x[i])


@kernel
def softmax_forward(y, x, negative_slope, start, stop):
    """y (rows, c) = exp(x - max x) / sum of x (rows, c); items are rows."""
    for i in range(start, stop):
        highest = x[i, 0]
        for k in range(x.shape[1]):
            highest = x[i, k] if x[i, k] > highest else highest
        total = x.dtype.type(0)
        for k in range(x.shape[1]):
            y[i, k] = np.exp(x[i, k] - highest)
            total += y[i, k]
        for k in range(x.shape[1]):
            y[i, k] /= total


@kernel
def relu_backward(dx, dy, x, y, negative_slope, start, stop):
    """dx (size,) = dy where x > 0, else 0, of dy, x, y (size,); items are values."""
    for i in range(start, stop):
        dx[i] = dy[i] if x[i] > 0 else 0


@kernel
def leaky_relu_backward(dx, dy, x, y, negative_slope, start, stop):
    """dx (size,) = dy where x > 0, else negative_slope dy, of dy, x, y (size,); items are values."""
    for i in range(start, stop):
        dx[i] = dy[i] if x[i] > 0 else negative_slope * dy[i]


@kernel
def sigmoid_backward(dx, dy, x, y, negative_slope, start, stop):
    """dx (size,) = dy y (1 - y) of dy, x, y (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        dx[i] = dy[i] * y[i] * (one - y[i])


@kernel
def tanh_backward(dx, dy, x, y, negative_slope, start, stop):
    """dx (size,) = dy (1 - y^2) of dy, x, y (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        dx[i] = dy[i] * (one - y[i] * y[i])


@kernel
def sqrt_backward(dx, dy, x, y, negative_slope, start, stop):
    """dx (size,) = dy / (2 y) where x > 0, else 0, of dy, x, y (size,); items are values."""
    half = x.dtype.type(0.5)
    for i in range(start, stop):
        dx[i] = half * dy[i] / y[i] if x[i] > 0 else 0


@kernel
def softmax_backward(dx, dy, x, y, negative_slope, start, stop):
    """dx (rows, c) = y (dy - sum y dy) of dy, x, y (rows, c); items are rows."""
    for i in range(start, stop):
        total = x.dtype.type(0)
        for k in range(x.shape[1]):
            total += y[i, k] * dy[i, k]
        for k in range(x.shape[1]):
            dx[i, k] = y[i, k] * (dy[i, k] - total)


FUNCTIONS = {
    "relu": (relu_forward, relu_backward),
    "sigmoid": (sigmoid_forward, sigmoid_backward),
    "softmax": (softmax_forward, softmax_backward),
    "tanh": (tanh_forward, tanh_backward),
    "leaky_relu": (leaky_relu_forward, leaky_relu_backward),
    "sqrt": (sqrt_forward, sqrt_backward),
}


def activate(x: Array, function: str, negative_slope: float) -> Array:
    """Return an activation, computed with all threads; :func:`framecnn.kernels.reference.activation` defines it.

    Shapes: x of any shape, result the same; softmax works along the last axis.
    """
    return _pointwise(FUNCTIONS[function][0], function, negative_slope, x)


def activate_backward(dy: Array, x: Array, y: Array, function: str, negative_slope: float) -> Array:
    """Return the gradient with respect to x; :func:`framecnn.kernels.reference.activation_backward` defines it.

    Shapes: x, y = activate(x), dy and the result of the same shape.
    """
    return _pointwise(FUNCTIONS[function][1], function, negative_slope, dy, x, y)


def _pointwise(function: Callable[..., None], name: str, negative_slope: float, *inputs: Array) -> Array:
    """Return the result of a kernel that runs over values or, for softmax, over rows."""
    result = empty(inputs[0].shape, inputs[0].dtype)
    row = inputs[0].shape[-1] if name == "softmax" else 1
    shape: Shape = (-1, row) if name == "softmax" else (-1,)
    flat = [np.ascontiguousarray(values).reshape(shape) for values in inputs]
    run(function, result.size // row, 4 * row, result.reshape(shape), *flat, result.dtype.type(negative_slope))
    return result
