"""Layer equivalents of ONNX operators, with their parameters."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from framecnn.interop.onnx_chain import Chain, Operator
from framecnn.interop.onnx_import_windows import WINDOW_OPERATORS
from framecnn.interop.onnx_patterns import clip_limits
from framecnn.interop.onnx_resampling import resampling_matrices
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    InputLayer,
    PoolingLayer,
    ResizingLayer,
)
from framecnn.typing import Array

__all__ = ["EITHER_SIDE", "OPERATORS", "VALUE_BY_VALUE", "reshaped_rank"]

VALUE_BY_VALUE = {
    *("Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Relu", "Sigmoid"),
    *("Softplus", "Swish", "Tanh"),
}
"""Operators on single values, for which the order of the axes does not matter."""

EITHER_SIDE = {"Add", "Div", "Max", "Min", "Mul", "Sub", "Sum"}
"""Operators whose computed input need not be the first."""


def reshaped_rank(operator: str, weights: Sequence[Array | None], keepdims: bool) -> int | None:
    """Return 2 if an operator gives rows (n, d), 4 if it gives maps, None if it changes no number of axes."""
    match operator:
        case "Flatten" | "Squeeze":
            return 2
        case "Unsqueeze":
            return 4
        case "Reshape" if weights and weights[0] is not None and weights[0].size in (2, 4):
            return weights[0].size
        case "ReduceMean" | "ReduceMax" if not keepdims:
            return 2
    return None


def _activation(function: str) -> Callable[[Chain, Operator], None]:
    def add(chain: Chain, node: Operator) -> None:
        chain.append(ActivationLayer(function))

    return add


def _leaky_relu(chain: Chain, node: Operator) -> None:
    chain.append(ActivationLayer("leaky_relu", negative_slope=node.settings.get("alpha", 0.01)))


def _elu(chain: Chain, node: Operator) -> None:
    chain.append(ActivationLayer("elu", alpha=node.settings.get("alpha", 1.0)))


def _hard_sigmoid(chain: Chain, node: Operator) -> None:
    """Add relu6(x + 3) / 6 after the line that makes it max(0, min(1, alpha x + beta))."""
    alpha, beta = node.settings.get("alpha", 0.2), node.settings.get("beta", 0.5)
    factor, offset = 6 * alpha, 6 * beta - 3
    if max(abs(factor - 1), abs(offset)) > np.finfo(np.float32).eps:  # 1/6 is rounded in the file
        chain.scale(factor, offset)
    chain.append(ActivationLayer("hard_sigmoid"))


def _gelu(chain: Chain, node: Operator) -> None:
    if node.settings.get("approximate", b"none") != b"none":
        raise ValueError("expected the exact gelu, got an approximate one")
    chain.append(ActivationLayer("gelu"))


def _swish(chain: Chain, node: Operator) -> None:
    if node.settings.get("alpha", 1.0) != 1:
        raise ValueError(f"expected alpha 1, got {node.settings['alpha']}")
    chain.append(ActivationLayer("silu"))


def _clip(chain: Chain, node: Operator) -> None:
    lowest, largest = clip_limits(node.settings, node.weights)
    if (lowest, largest) == (-math.inf, math.inf):
        return
    if lowest != 0 or largest not in (6, math.inf):
        raise ValueError(f"expected limits 0 and 6, or 0 alone, got {lowest:g} and {largest:g}")
    chain.append(ActivationLayer("relu6" if largest == 6 else "relu"))


def _maximum(chain: Chain, node: Operator) -> None:
    if not _is_number(node, 0):
        raise ValueError("expected the maximum of a value and 0")
    chain.append(ActivationLayer("relu"))


def _minimum(chain: Chain, node: Operator) -> None:
    if chain.last(ActivationLayer) != ActivationLayer("relu") or not _is_number(node, 6):
        raise ValueError("expected the minimum of 6 and a value right after Relu")
    chain.change(ActivationLayer("relu6"))


def _is_number(node: Operator, number: float) -> bool:
    """Return whether the only weight of a node is one number, the given one."""
    return len(node.weights) == 1 and node.weight.size == 1 and bool(node.weight.item() == number)


def _softmax(chain: Chain, node: Operator) -> None:
    modern = node.opset >= 13
    axis = node.settings.get("axis", -1 if modern else 1) % chain.rank
    # before opset 13, softmax is over all axes from this one on
    over_others = not modern and math.prod(chain.sizes[axis - 1 :]) != chain.shape[-1]
    if axis != chain.channel_axis or over_others:
        raise ValueError(f"expected softmax along the channels of maps or along rows, got axis {axis} of {chain.rank}")
    chain.append(ActivationLayer("softmax"))


def _square_root(chain: Chain, node: Operator) -> None:
    if chain.last(ActivationLayer) != ActivationLayer("relu"):
        raise ValueError("expected Relu before it, as negative values have no root")
    chain.change(ActivationLayer("sqrt"))


def _dropout(chain: Chain, node: Operator) -> None:
    training = node.weight_or_none(1)
    if (training is not None and training.any()) or (node.opset < 7 and not node.settings.get("is_test", 0)):
        raise ValueError("expected dropout at inference, got training mode")


def _flatten(chain: Chain, node: Operator) -> None:
    axis = node.settings.get("axis", 1)
    if axis not in (1, 1 - chain.rank):
        raise ValueError(f"expected all axes after the batch flattened, axis 1, got {axis} of {chain.rank} axes")
    chain.reshape((math.prod(chain.shape),), node.becomes_maps)


def _reshape(chain: Chain, node: Operator) -> None:
    sizes, length = node.weight.tolist(), math.prod(chain.shape)
    ours = (node.batch, *chain.sizes)
    copies = not node.settings.get("allowzero", 0)
    resolved = [ours[axis] if size == 0 and copies and axis < len(ours) else size for axis, size in enumerate(sizes)]
    if resolved.count(-1) == 1:
        rest = math.prod(size for size in resolved if size != -1)
        resolved[resolved.index(-1)] = node.batch * length // rest if rest > 0 else 0
    if len(resolved) < 2 or resolved[0] != node.batch or math.prod(resolved[1:]) != length or min(resolved) < 1:
        raise ValueError(f"expected a reshape to rows, (n, {length}), got {sizes}")
    chain.reshape(tuple(resolved[1:]), node.becomes_maps)


def _squeeze(chain: Chain, node: Operator) -> None:
    axes = _axes(node, chain.rank)
    if axes is None:
        axes = [axis for axis, size in enumerate(chain.sizes, start=1) if size == 1]
    if any(axis == 0 or chain.sizes[axis - 1] != 1 for axis in axes):
        raise ValueError(f"expected axes of size 1 after the batch removed, got axes {axes}")
    chain.reshape(tuple(size for axis, size in enumerate(chain.sizes, start=1) if axis not in axes), node.becomes_maps)


def _unsqueeze(chain: Chain, node: Operator) -> None:
    listed = node.weight if node.weights else node.settings["axes"]
    rank = chain.rank + len(listed)
    axes, rest = {int(axis) % rank for axis in listed}, list(chain.sizes)
    if 0 in axes:
        raise ValueError("expected axes added after the batch, got one before it")
    sizes = tuple(1 if axis in axes else rest.pop(0) for axis in range(1, rank))
    chain.reshape(sizes, node.becomes_maps)


def _axes(node: Operator, rank: int) -> list[int] | None:
    listed = node.weight if node.weights else node.settings.get("axes")
    return None if listed is None else [int(axis) % rank for axis in listed]


def _transpose(chain: Chain, node: Operator) -> None:
    order = tuple(node.settings.get("perm", range(chain.rank)[::-1]))
    if order == tuple(range(chain.rank)):
        return
    if chain.has_maps and (order, chain.layout) == ((0, 2, 3, 1), "channels_first"):
        chain.layout = "channels_last"
    elif chain.has_maps and (order, chain.layout) == ((0, 3, 1, 2), "channels_last"):
        chain.layout = "channels_first"
    else:
        raise ValueError(f"expected (n, c, h, w) turned into (n, h, w, c) or back, got perm {list(order)}")


def _reorder(chain: Chain, node: Operator) -> None:
    length, indices = chain.row_length(), node.weight
    fits = node.settings.get("axis", 0) == 1 and indices.shape == (length,)
    if not fits or not np.array_equal(indices, chain.in_our_order(np.arange(length))):
        raise ValueError("expected indices that reorder flattened maps, as to_onnx writes them")
    chain.flattened = ()


def _general_product(chain: Chain, node: Operator) -> None:
    if node.settings.get("transA", 0):
        raise ValueError("expected rows times weights, got transA")
    kernel, bias = node.weight.T if node.settings.get("transB", 0) else node.weight, node.weight_or_none(1)
    _add_dense(chain, _times(node.settings.get("alpha", 1.0), kernel))
    if bias is not None:
        _add_offset(chain, _times(node.settings.get("beta", 1.0), bias))


def _times(factor: float, weights: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        product = factor * weights
    if not np.isfinite(product).all():
        raise ValueError(f"expected finite weights, got {factor} times weights up to {abs(weights).max()}")
    return product


def _product(chain: Chain, node: Operator) -> None:
    if len(node.weights) == 2:
        _resample(chain, *node.weights)
    else:
        _add_dense(chain, node.weight)


def _resample(chain: Chain, rows: Array, columns: Array) -> None:
    """Add the layer that computes ``rows @ x @ columns`` for each channel."""
    height, width, _ = chain.map_shape()
    if (rows.ndim, columns.ndim) == (2, 2) and (rows.shape[1], len(columns)) == (height, width):
        size = len(rows), columns.shape[1]
        for layer in (PoolingLayer(size, mode="adaptive_average"), ResizingLayer(size)):
            ours = resampling_matrices(layer, (height, width))
            if np.array_equal(ours[0], rows) and np.array_equal(ours[1], columns.T):
                chain.append(layer)
                return
    raise ValueError("expected matrices that average cells or resize frames, as to_onnx writes them")


def _add_dense(chain: Chain, kernel: Array) -> None:
    """Add a dense layer, or a convolution of single pixels where the file has channels in the last axis of maps."""
    last = chain.has_maps and chain.layout in ("channels_last", "squeezed")
    length = chain.shape[-1] if last else chain.row_length()
    if kernel.ndim != 2 or len(kernel) != length:
        raise ValueError(f"expected weights ({length}, units), got {kernel.shape}")
    if last:
        chain.append(ConvLayer(kernel.shape[1], kernel_size=1, use_bias=False), kernel=kernel[None, None])
    else:
        kernel, chain.flattened = chain.in_our_order(kernel), ()
        chain.append(DenseLayer(kernel.shape[1], use_bias=False), kernel=kernel)


def _concatenation(chain: Chain, node: Operator) -> None:
    if node.weights:
        raise ValueError("expected computed values only, got one that the file holds")


def _sum(chain: Chain, node: Operator) -> None:
    for offset in node.weights:
        _add_offset(chain, offset)


def _difference(chain: Chain, node: Operator) -> None:
    if node.is_first:
        _add_offset(chain, -node.weight)
    else:
        chain.scale(-1.0, chain.per_channel(node.weight))


def _add_offset(chain: Chain, offset: Array) -> None:
    values = chain.per_channel(offset)
    layer = chain.last(ConvLayer) or chain.last(DenseLayer)
    if layer and not layer.use_bias:
        chain.change(replace(layer, use_bias=True), bias=values)
    else:
        chain.scale(1.0, values)


def _scale(chain: Chain, node: Operator) -> None:
    _multiply(chain, node.weight)


def _divide(chain: Chain, node: Operator) -> None:
    if not node.is_first:
        raise ValueError("expected a value divided by stored numbers, got stored numbers divided by it")
    if not node.weight.all():
        raise ValueError("expected a divisor other than 0")
    _multiply(chain, 1 / node.weight.astype(np.float64))


def _multiply(chain: Chain, factors: Array) -> None:
    if chain.layers == [InputLayer(chain.shape)] and factors.size == 1:
        chain.change(InputLayer(chain.shape, scale=factors.item()))
    else:
        chain.scale(chain.per_channel(factors), 0.0)


def _batch_norm(chain: Chain, node: Operator) -> None:
    training = node.settings.get("training_mode", 0) or (node.opset < 7 and not node.settings.get("is_test", 0))
    maps_or_rows = len(chain.shape) in (1, 3) and chain.channel_axis == 1
    if training or not node.settings.get("spatial", 1) or not maps_or_rows:
        raise ValueError("expected normalisation at inference, channel by channel, of maps or rows")
    if any(weight.shape != chain.shape[-1:] for weight in node.weights):
        raise ValueError(f"expected {chain.shape[-1]} numbers each of scale, bias, mean and variance")
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    params = {name: chain.in_our_order(value) for name, value in zip(names, node.weights, strict=True)}
    chain.append(BatchNormLayer(epsilon=node.settings.get("epsilon", 1e-5)), **params)


OPERATORS: dict[str, Callable[[Chain, Operator], None]] = {
    "Add": _sum,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concatenation,
    "Div": _divide,
    "Dropout": _dropout,
    "Elu": _elu,
    "Flatten": _flatten,
    "Gather": _reorder,
    "Gelu": _gelu,
    "Gemm": _general_product,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation("hard_swish"),
    "LeakyRelu": _leaky_relu,
    "MatMul": _product,
    "Max": _maximum,
    "Min": _minimum,
    "Mul": _scale,
    "Relu": _activation("relu"),
    "Reshape": _reshape,
    "Sigmoid": _activation("sigmoid"),
    "Softmax": _softmax,
    "Softplus": _activation("softplus"),
    "Sqrt": _square_root,
    "Squeeze": _squeeze,
    "Sub": _difference,
    "Sum": _sum,
    "Swish": _swish,
    "Tanh": _activation("tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    **WINDOW_OPERATORS,
}
"""Functions that add the layers of an operator with one computed input to a chain."""
