"""Functions of one value, and softmax over the last axis."""

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["FUNCTIONS", "activate"]


@kernel
def relu_forward(y, x, slope, start, stop):
    """y (size,) = max(x, 0) of x (size,); items are values. NaN passes."""
    for i in range(start, stop):
        y[i] = 0 if x[i] < 0 else x[i]


@kernel
def leaky_relu_forward(y, x, slope, start, stop):
    """y (size,) = x, or slope x where x < 0, of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = slope * x[i] if x[i] < 0 else x[i]


@kernel
def sigmoid_forward(y, x, slope, start, stop):
    """y (size,) = 1 / (1 + exp(-x)) of x (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        y[i] = one / (one + np.exp(-x[i]))


@kernel
def tanh_forward(y, x, slope, start, stop):
    """y (size,) = tanh(x) of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = np.tanh(x[i])


@kernel
def sqrt_forward(y, x, slope, start, stop):
    """y (size,) = sqrt(max(x, 0)) of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = np.sqrt(x.dtype.type(0) if x[i] < 0 else x[i])


@kernel
def softmax_forward(y, x, slope, start, stop):
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


FUNCTIONS = {
    "relu": relu_forward,
    "sigmoid": sigmoid_forward,
    "softmax": softmax_forward,
    "tanh": tanh_forward,
    "leaky_relu": leaky_relu_forward,
    "sqrt": sqrt_forward,
}


def activate(x: Array, function: str, slope: float) -> Array:
    """Apply a function with all threads; :func:`framecnn.kernels.reference.activation` is the definition.

    Shapes: x of any shape, result the same; softmax works along the last axis.
    """
    y = np.empty(x.shape, x.dtype)
    values = x.reshape(-1, x.shape[-1]) if function == "softmax" else x.reshape(-1)
    work = 4 * (x.shape[-1] if function == "softmax" else 1)
    run(FUNCTIONS[function], len(values), work, y.reshape(values.shape), values, x.dtype.type(slope))
    return y
