"""A framecnn network in the form that other libraries need: channels first, borders in pixels, weights transposed.

Other libraries flatten maps channel by channel, framecnn pixel by pixel, so the rows of a dense layer behind a
flattening are reordered.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    PoolingLayer,
)
from framecnn.geometry import sliding_window

__all__ = ["AdaptiveAverage", "Bank", "Conv", "Dense", "Flatten", "MaxPool", "Relu", "Scale", "Unsupported", "steps"]

Pair = tuple[int, int]


class Unsupported(Exception):
    """A layer without an equivalent in a peer."""


@dataclass(frozen=True)
class Scale:
    """Every value times `factor`."""

    factor: float


@dataclass(frozen=True)
class Conv:
    """weight (filters, c, kh, kw), bias (filters,), border ((top, bottom), (left, right)) in pixels."""

    weight: Any
    bias: Any
    strides: Pair
    border: tuple[Pair, Pair]
    dilation: Pair


@dataclass(frozen=True)
class Relu:
    """Negative values become 0."""


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each whole window."""

    size: Pair
    strides: Pair


@dataclass(frozen=True)
class Flatten:
    """Map (c, h, w) to a row of c h w values."""


@dataclass(frozen=True)
class Dense:
    """weight (units, d), bias (units,)."""

    weight: Any
    bias: Any


@dataclass(frozen=True)
class Bank:
    """A filter bank: weight (filters, c, kh, kw), bias (filters,)."""

    weight: Any
    bias: Any
    strides: Pair
    contrast: float
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class AdaptiveAverage:
    """The mean over the cells of a grid."""

    grid: Pair


def steps(model):
    """Yield the steps of a built Sequential; raise Unsupported for any other layer."""
    flattened = None
    for layer in model.layers:
        weight, bias = (layer.params.get(name) for name in ("kernel", "bias"))
        match layer:
            case InputLayer():
                if layer.scale != 1:
                    yield Scale(layer.scale)
            case ConvLayer(groups=1) if bias is not None:
                frame, size = layer.input_shape[:2], layer.kernel_size
                window = sliding_window(frame, size, layer.strides, layer.dilation_rate, layer.padding, "ConvLayer")
                yield Conv(_filters_first(weight), bias, layer.strides, window.border, layer.dilation_rate)
            case FilterBankLayer():
                yield Bank(_filters_first(weight), bias, layer.strides, layer.contrast, layer.thresholds)
            case ActivationLayer(function="relu"):
                yield Relu()
            case PoolingLayer(mode="max", padding="valid", dilation_rate=(1, 1)):
                yield MaxPool(layer.pool_size, layer.strides)
            case PoolingLayer(mode="adaptive_average"):
                yield AdaptiveAverage(layer.pool_size)
            case FlatteningLayer():
                flattened = layer.input_shape
                yield Flatten()
            case DenseLayer() if bias is not None:
                yield Dense(np.ascontiguousarray(_rows_by_channel(weight, flattened).T), bias)
                flattened = None
            case _:
                raise Unsupported(f"no equivalent of {layer}")


def _filters_first(kernel):
    """Return a kernel (kh, kw, c, filters) as (filters, c, kh, kw)."""
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def _rows_by_channel(kernel, flattened):
    """Return a dense kernel (h w c, units) with its rows channel by channel instead of pixel by pixel."""
    if flattened is None:
        return kernel
    order = np.arange(kernel.shape[0]).reshape(flattened).transpose(2, 0, 1)
    return kernel[order.ravel()]
