"""How far a whole network may be from its definition: every layer hands on the error it gets, and rounds."""

import numpy as np
from agreement import convolution, expected, pooled_pixels, rounding

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
    PoolingLayer,
)

LIFT = 1e6  # added to responses, nothing of them is cut off


def exact_and_spread(layers, x):
    """The output of built layers in float64, and how far any computation of it in their dtype may be from it."""
    y, error = np.asarray(x, np.float64), np.zeros(np.shape(x))
    for layer in layers:
        spread = handed_on(layer, y, error) + rounding(layer, *worst(layer, y, error))
        if isinstance(layer, FilterBankLayer):
            spread = np.where(responses(layer, y) < -spread, 0, spread)  # zero in any case
        y, error = expected(layer, y), spread
    return y, error


def responses(layer, x):
    """What a filter bank gives before negative values become zero."""
    lifted = tuple(threshold - LIFT for threshold in layer.thresholds)
    kernel, bias = layer.params["kernel"], layer.params["bias"]
    return reference.filter_bank(x, kernel, bias, layer.strides, layer.contrast, lifted) - LIFT


def worst(layer, x, error):
    """Where a layer rounds most, of all inputs that are no farther from `x` than `error`."""
    if isinstance(layer, ActivationLayer | FilterBankLayer):
        return (x,)  # their outputs move little
    return (np.abs(x) + error,)


def handed_on(layer, x, error):
    """How far the exact output may move where the input moves by at most `error`."""
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
        case BatchNormLayer():
            gamma, _, _, variance = layer.params.values()
            return error * np.abs(gamma) / np.sqrt(variance + layer.epsilon)
        case ActivationLayer(function="softmax"):
            return expected(layer, x) * np.expm1(2 * error.max(axis=-1, keepdims=True))
        case ActivationLayer(function="sqrt"):
            root = np.sqrt(np.maximum(x, 0))
            return np.minimum(np.sqrt(error), error / np.where(root > 0, root, np.inf) + (root == 0) * np.sqrt(error))
        case ActivationLayer(function="relu"):
            return np.where(x < -error, 0, error)
        case ActivationLayer():
            return error * max(1, abs(layer.negative_slope))
        case FilterBankLayer():
            return handed_on_by_bank(layer, x, error)
    return error


def handed_on_by_bank(layer, x, error):
    """The filters hand on their part; the deviation moves by at most the root mean square of the window's errors."""
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
