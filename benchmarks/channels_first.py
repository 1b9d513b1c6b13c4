"""A framecnn network in the form that other libraries need: channels first, borders in pixels, weights transposed.

Other libraries flatten maps channel by channel, framecnn pixel by pixel, so the rows of a dense layer behind a
flattening are reordered.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    ParallelLayer,
    PoolingLayer,
)
from framecnn.geometry import sliding_window

__all__ = [
    *("AdaptiveAverage", "Bank", "Conv", "Dense", "Flatten", "MaxPool", "Relu", "Relu6", "Scale", "Scaling", "Sum"),
    *("Unsupported", "steps"),
]

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
    groups: int = 1


@dataclass(frozen=True)
class Scaling:
    """Every channel times `scale` (c,) plus `shift` (c,)."""

    scale: Any
    shift: Any


@dataclass(frozen=True)
class Sum:
    """The sum of branches, each a tuple of steps; an empty one passes its input on."""

    branches: tuple[Any, ...]


@dataclass(frozen=True)
class Relu6:
    """Values below 0 become 0, above 6 become 6."""


@dataclass(frozen=True)
class Relu:
    """Negative values become 0."""


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window; `border` is ((top, bottom), (left, right)) in pixels."""

    size: Pair
    strides: Pair
    border: tuple[Pair, Pair] = ((0, 0), (0, 0))


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
    return layer_steps(model.layers)


def layer_steps(layers):
    """Yield the steps of built layers."""
    flattened = None
    for layer in layers:
        weight, bias = (layer.params.get(name) for name in ("kernel", "bias"))
        match layer:
            case InputLayer():
                if layer.scale != 1:
                    yield Scale(layer.scale)
            case ConvLayer():
                frame, size = layer.input_shape[:2], layer.kernel_size
                window = sliding_window(frame, size, layer.strides, layer.dilation_rate, layer.padding, "ConvLayer")
                bias = np.zeros(layer.filters, layer.dtype) if bias is None else bias
                border, dilation = window.border, layer.dilation_rate
                yield Conv(_filters_first(weight), bias, layer.strides, border, dilation, layer.groups)
            case BatchNormLayer():
                yield Scaling(*layer.scale_and_shift())
            case ParallelLayer(merge="add"):
                yield Sum(tuple(tuple(layer_steps(branch)) for branch in layer.built_branches()))
            case ActivationLayer(function="relu6"):
                yield Relu6()
            case FilterBankLayer():
                yield Bank(_filters_first(weight), bias, layer.strides, layer.contrast, layer.thresholds)
            case ActivationLayer(function="relu"):
                yield Relu()
            case PoolingLayer(mode="max", dilation_rate=(1, 1)) if layer.padding != "same":
                border = ((0, 0), (0, 0)) if layer.padding == "valid" else layer.padding
                yield MaxPool(layer.pool_size, layer.strides, border)
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
