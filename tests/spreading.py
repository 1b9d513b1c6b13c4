"""Bounds of how far a network may be from its definition: every layer propagates the error of its input, and rounds."""

import numpy as np
from agreement import convolution, expected, merged_spread, pooled_pixels, rounding

from framecnn.kernels import reference
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    PaddingLayer,
    ParallelLayer,
    PoolingLayer,
    ResizingLayer,
    ScalingLayer,
)

LIFT = 1e6  # added to responses, it keeps all of them above zero


def exact_and_spread(layers, x, error=0.0):
    """Return the output of built layers in float64, and how far any computation in their dtype may be from it.

    The input itself may be off by at most `error`.
    """
    y, error = np.asarray(x, np.float64), np.broadcast_to(error, np.shape(x))
    for layer in layers:
        if isinstance(layer, ParallelLayer):
            y, error = merged_spread(layer, y, error)
            continue
        spread = propagated(layer, y, error) + rounding(layer, *worst(layer, y, error))
        if isinstance(layer, FilterBankLayer):
            spread = np.where(responses(layer, y) < -spread, 0, spread)  # zero whatever the rounding
        y, error = expected(layer, y), spread
    return y, error


def responses(layer, x):
    """Return the responses of a filter bank before negative values become zero."""
    lifted = tuple(threshold - LIFT for threshold in layer.thresholds)
    kernel, bias = layer.params["kernel"], layer.params["bias"]
    return reference.filter_bank(x, kernel, bias, layer.strides, layer.contrast, lifted) - LIFT


def worst(layer, x, error):
    """Return the input with the largest rounding bound among those that are within `error` of `x`."""
    if isinstance(layer, ActivationLayer | FilterBankLayer):
        return (x,)  # their bounds depend little on the input
    return (np.abs(x) + error,)


def propagated(layer, x, error):
    """Return how far the exact output may move when the input moves by at most `error`."""
    match layer:
        case InputLayer():
            return abs(layer.scale) * error
        case FlatteningLayer():
            return error.reshape(len(error), -1)
        case DenseLayer():
            return reference.dense(error, np.abs(layer.params["kernel"]), 0)
        case ConvLayer():
            return convolution(layer, error, np.abs(layer.params["kernel"]), 0)
        case PoolingLayer() | DownsamplingLayer():
            return reference.pool2d(error, *pooled_pixels(layer))
        case ResizingLayer():
            return reference.resample2d(error, layer.size)
        case BatchNormLayer():
            gamma, _, _, variance = layer.params.values()
            return error * np.abs(gamma) / np.sqrt(variance + layer.epsilon)
        case ActivationLayer(function="softmax"):
            return expected(layer, x) * np.expm1(2 * error.max(axis=-1, keepdims=True))
        case ActivationLayer(function="sqrt"):
            root = np.sqrt(np.maximum(x, 0))
            return np.minimum(np.sqrt(error), error / np.where(root > 0, root, np.inf) + (root == 0) * np.sqrt(error))
        case ScalingLayer():
            return error * np.abs(layer.params["scale"])
        case PaddingLayer():
            return np.pad(error, ((0, 0), *layer.padding, (0, 0)))
        case ActivationLayer(function="relu"):
            return np.where(x < -error, 0, error)
        case ActivationLayer(function="leaky_relu" | "elu"):
            return error * max(1, abs(layer.parameter))
        case ActivationLayer():
            return error * 1.5  # the largest slope of any function: that of hard_swish at 3
        case FilterBankLayer():
            return propagated_by_bank(layer, x, error)
    return error


def propagated_by_bank(layer, x, error):
    """Return how far a filter bank may move: its deviation by at most the root mean square of the window's errors."""
    kernel = layer.params["kernel"].astype(np.float64)
    centred = np.abs(kernel - kernel.mean(axis=(0, 1, 2)))

    def windows(values, weights):
        return reference.conv2d(values, weights, 0, layer.strides, ((0, 0), (0, 0)), (1, 1), 1)

    mean = np.full((*kernel.shape[:3], 1), 1 / kernel[..., 0].size)
    deviation = np.sqrt(windows(x**2, mean) - windows(x, mean) ** 2 + layer.contrast)
    moved = np.sqrt(windows(error**2, mean))
    least = np.maximum(deviation - moved, np.sqrt(layer.contrast))
    responded = np.abs(windows(x, kernel - kernel.mean(axis=(0, 1, 2)))) / deviation
    return np.tile((windows(error, centred) + responded * moved) / least, len(layer.thresholds))
