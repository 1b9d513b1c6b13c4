"""Activation functions of single values, and softmax over the last axis."""

import math
from collections.abc import Callable

import numpy as np

from framecnn.kernels.buffers import empty
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import contiguous, run
from framecnn.typing import Array, Shape

__all__ = ["FUNCTIONS", "activate", "activate_backward"]

HALF_ROOT = math.sqrt(0.5)
NORMAL_DENSITY = 1 / math.sqrt(2 * math.pi)  # of the standard normal distribution at 0


@kernel
def relu_forward(y, x, parameter, start, stop):
    """y (size,) = max(x, 0) of x (size,); items are values. NaN stays NaN."""
    for i in range(start, stop):
        y[i] = 0 if x[i] < 0 else x[i]


@kernel
def leaky_relu_forward(y, x, parameter, start, stop):
    """y (size,) = x, or parameter x where x < 0, of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = parameter * x[i] if x[i] < 0 else x[i]


@kernel
def sigmoid_forward(y, x, parameter, start, stop):
    """y (size,) = 1 / (1 + exp(-x)) of x (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        y[i] = one / (one + np.exp(-x[i]))


@kernel
def tanh_forward(y, x, parameter, start, stop):
    """y (size,) = tanh(x) of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = np.tanh(x[i])


@kernel
def sqrt_forward(y, x, parameter, start, stop):
    """y (size,) = sqrt(max(x, 0)) of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = np.sqrt(x.dtype.type(0) if x[i] < 0 else x[i])


@kernel
def relu6_forward(y, x, parameter, start, stop):
    """y (size,) = min(max(x, 0), 6) of x (size,); items are values. NaN stays NaN."""
    for i in range(start, stop):
        y[i] = 0 if x[i] < 0 else 6 if x[i] > 6 else x[i]


@kernel
def hard_sigmoid_forward(y, x, parameter, start, stop):
    """y (size,) = min(max(x + 3, 0), 6) / 6 of x (size,); items are values."""
    three, six = x.dtype.type(3), x.dtype.type(6)
    for i in range(start, stop):
        y[i] = 0 if x[i] < -three else 1 if x[i] > three else (x[i] + three) / six


@kernel
def hard_swish_forward(y, x, parameter, start, stop):
    """y (size,) = x min(max(x + 3, 0), 6) / 6 of x (size,); items are values."""
    three, six = x.dtype.type(3), x.dtype.type(6)
    for i in range(start, stop):
        y[i] = 0 if x[i] < -three else x[i] if x[i] > three else x[i] * ((x[i] + three) / six)


@kernel
def silu_forward(y, x, parameter, start, stop):
    """y (size,) = x / (1 + exp(-x)) of x (size,); items are values. exp never overflows."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        small = np.exp(-abs(x[i]))
        y[i] = x[i] * (small if x[i] < 0 else one) / (one + small)


@kernel
def gelu_forward(y, x, parameter, start, stop):
    """y (size,) = x erfc(-x / sqrt(2)) / 2 of x (size,); items are values."""
    half, root = x.dtype.type(0.5), x.dtype.type(HALF_ROOT)
    for i in range(start, stop):
        y[i] = half * x[i] * math.erfc(-root * x[i])


@kernel
def elu_forward(y, x, parameter, start, stop):
    """y (size,) = x, or parameter (exp(x) - 1) where x < 0, of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = parameter * np.expm1(x[i]) if x[i] < 0 else x[i]


@kernel
def softplus_forward(y, x, parameter, start, stop):
    """y (size,) = log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)) of x (size,); items are values."""
    for i in range(start, stop):
        y[i] = (x[i] if x[i] > 0 else x.dtype.type(0)) + np.log1p(np.exp(-abs(x[i])))


@kernel
def softmax_forward(y, x, parameter, start, stop):
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
def relu_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy where x > 0, else 0, of dy, x, y (size,); items are values."""
    dx, dy, x = dx[start:stop], dy[start:stop], x[start:stop]
    for i in range(len(dx)):  # from 0, so that LLVM knows that no index is negative, and computes vectors
        gradient = dy[i]  # read before the comparison: a conditional read is a branch, and no vector
        dx[i] = gradient if x[i] > 0 else x.dtype.type(0)


@kernel
def leaky_relu_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy where x > 0, else parameter dy, of dy, x, y (size,); items are values."""
    for i in range(start, stop):
        dx[i] = dy[i] if x[i] > 0 else parameter * dy[i]


@kernel
def sigmoid_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy y (1 - y) of dy, x, y (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        dx[i] = dy[i] * y[i] * (one - y[i])


@kernel
def tanh_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy (1 - y^2) of dy, x, y (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        dx[i] = dy[i] * (one - y[i] * y[i])


@kernel
def sqrt_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy / (2 y) where x > 0, else 0, of dy, x, y (size,); items are values."""
    half = x.dtype.type(0.5)
    for i in range(start, stop):
        dx[i] = half * dy[i] / y[i] if x[i] > 0 else 0


@kernel
def relu6_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy where 0 < x <= 6, else 0, of dy, x, y (size,); items are values."""
    for i in range(start, stop):
        dx[i] = dy[i] if (x[i] > 0) & (x[i] <= 6) else 0


@kernel
def hard_sigmoid_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy / 6 where -3 < x <= 3, else 0, of dy, x, y (size,); items are values."""
    six = x.dtype.type(6)
    for i in range(start, stop):
        dx[i] = dy[i] / six if (x[i] > -3) & (x[i] <= 3) else 0


@kernel
def hard_swish_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy (2 x + 3) / 6 where -3 < x <= 3, 0 below, dy above, of dy, x, y (size,); items are values."""
    two, three, six = x.dtype.type(2), x.dtype.type(3), x.dtype.type(6)
    for i in range(start, stop):
        dx[i] = 0 if x[i] <= -three else dy[i] if x[i] > three else dy[i] * ((two * x[i] + three) / six)


@kernel
def silu_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy s (1 + x (1 - s)), s = 1 / (1 + exp(-x)), of dy, x, y (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        below = one / (one + np.exp(x[i]))  # 1 - s without its rounding error
        dx[i] = dy[i] / (one + np.exp(-x[i])) * (one + x[i] * below)


@kernel
def gelu_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy (erfc(-x / sqrt(2)) / 2 + x exp(-x^2 / 2) / sqrt(2 pi)) of dy, x, y (size,); items are values."""
    half, root, density = x.dtype.type(0.5), x.dtype.type(HALF_ROOT), x.dtype.type(NORMAL_DENSITY)
    for i in range(start, stop):
        slope = half * math.erfc(-root * x[i]) + x[i] * density * np.exp(-half * x[i] * x[i])
        dx[i] = dy[i] * slope


@kernel
def elu_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy where x > 0, else dy parameter exp(x), of dy, x, y (size,); items are values."""
    for i in range(start, stop):
        dx[i] = dy[i] if x[i] > 0 else dy[i] * (parameter * np.exp(x[i]))


@kernel
def softplus_backward(dx, dy, x, y, parameter, start, stop):
    """dx (size,) = dy / (1 + exp(-x)) of dy, x, y (size,); items are values."""
    one = x.dtype.type(1)
    for i in range(start, stop):
        dx[i] = dy[i] / (one + np.exp(-x[i]))


@kernel
def softmax_backward(dx, dy, x, y, parameter, start, stop):
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
    "relu6": (relu6_forward, relu6_backward),
    "hard_sigmoid": (hard_sigmoid_forward, hard_sigmoid_backward),
    "hard_swish": (hard_swish_forward, hard_swish_backward),
    "silu": (silu_forward, silu_backward),
    "gelu": (gelu_forward, gelu_backward),
    "elu": (elu_forward, elu_backward),
    "softplus": (softplus_forward, softplus_backward),
}


def activate(x: Array, function: str, parameter: float) -> Array:
    """Return an activation, computed with all threads; :func:`framecnn.kernels.reference.activation` defines it.

    `parameter` is the slope of leaky_relu below zero, or the scale of elu below zero.

    Shapes: x of any shape, result the same; softmax works along the last axis.
    """
    return _pointwise(FUNCTIONS[function][0], function, parameter, x)


def activate_backward(dy: Array, x: Array, y: Array, function: str, parameter: float) -> Array:
    """Return the gradient with respect to x; :func:`framecnn.kernels.reference.activation_backward` defines it.

    Shapes: x, y = activate(x), dy and the result of the same shape.
    """
    return _pointwise(FUNCTIONS[function][1], function, parameter, dy, x, y)


def _pointwise(function: Callable[..., None], name: str, parameter: float, *inputs: Array) -> Array:
    """Return the result of a kernel that runs over values or, for softmax, over rows."""
    result = empty(inputs[0].shape, inputs[0].dtype)
    row = inputs[0].shape[-1] if name == "softmax" else 1
    shape: Shape = (-1, row) if name == "softmax" else (-1,)
    flat = [contiguous(values).reshape(shape) for values in inputs]
    run(function, result.size // row, 4 * row, result.reshape(shape), *flat, result.dtype.type(parameter))
    return result
