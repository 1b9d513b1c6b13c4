"""Layer equivalents of ONNX operators, with their parameters."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from framecnn import geometry
from framecnn.interop.onnx_layout import channel_order
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    PoolingLayer,
)
from framecnn.networks.limits import check_map_size
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array, Shape

__all__ = ["OPERATORS", "VALUE_BY_VALUE", "Chain", "Operator"]

VALUE_BY_VALUE = {"Dropout", "Identity", "LeakyRelu", "Relu", "Sigmoid", "Tanh"}
"""Operators on single values, for which the order of the axes does not matter."""


@dataclass(frozen=True)
class Operator:
    """A checked node: its settings, the weights among its inputs, the version of the operators, and the batch size.

    `batch` is None if the file accepts any batch size.
    """

    settings: Mapping[str, Any]
    weights: Sequence[Any]
    opset: int
    batch: int | None

    @property
    def weight(self) -> Array:
        """The first weight of an operator that must have one."""
        return self.weights[0]

    @property
    def second_weight(self) -> Array | None:
        """The second weight, if there is one."""
        return self.weights[1] if len(self.weights) > 1 else None


class Chain:
    """The layers read so far, and their parameters.

    Parameters
    ----------
    shape : tuple of int
        Input shape, (h, w, c) of frames.

    Attributes
    ----------
    shape : tuple of int
        Output shape of the last layer.
    flattened : (int, int, int) or None
        The (h, w, c) of the maps if the output is rows flattened from maps, whose values ONNX orders differently.
    """

    def __init__(self, shape: Shape):
        self.layers: list[Layer] = []
        self.params: list[dict[str, Array]] = []
        self.shape = shape
        self.flattened: Shape | None = None
        self.append(InputLayer(shape))

    def append(self, layer: Layer, flattened: Shape | None = None, **params: Array) -> None:
        """Add a layer; `flattened` is the (h, w, c) of the maps from which its output was flattened, if any."""
        self.shape, self.flattened = check_map_size(layer, self.shape), flattened
        self.layers.append(layer)
        self.params.append(params)

    def change(self, layer: Layer, **params: Array) -> None:
        """Replace the last layer, keeping its parameters and adding others."""
        self.layers[-1] = layer
        self.params[-1] |= params

    def map_shape(self) -> tuple[int, int, int]:
        """Return (h, w, c); raise ValueError unless the value is maps."""
        if len(self.shape) != 3:
            raise ValueError(f"expected maps (n, c, h, w), got {len(self.shape) + 1} axes")
        return self.shape[0], self.shape[1], self.shape[2]

    def row_length(self) -> int:
        """Return d; raise ValueError unless the value is rows."""
        if len(self.shape) != 1:
            raise ValueError(f"expected rows (n, d), got {len(self.shape) + 1} axes; flatten them first")
        return self.shape[0]

    def in_our_order(self, weights: Array) -> Array:
        """Return weights whose first axis follows ONNX's order of features in framecnn's order."""
        return weights if self.flattened is None else weights[np.argsort(channel_order(self.flattened))]

    def model(self, dtype: np.dtype) -> Sequential:
        """Return the built network."""
        network = Sequential(self.layers)
        parameters = zip(network.names, self.params, strict=True)
        return network.load_state_dict(
            {f"{name}/{key}": value for name, params in parameters for key, value in params.items()}, dtype
        )


def _activation(function: str) -> Callable[[Chain, Operator], None]:
    def add(chain: Chain, node: Operator) -> None:
        chain.append(ActivationLayer(function), chain.flattened)

    return add


def _leaky_relu(chain: Chain, node: Operator) -> None:
    chain.append(ActivationLayer("leaky_relu", negative_slope=node.settings.get("alpha", 0.01)), chain.flattened)


def _softmax(chain: Chain, node: Operator) -> None:
    rank, modern = len(chain.shape) + 1, node.opset >= 13
    axis = node.settings.get("axis", -1 if modern else 1) % rank
    # before opset 13, softmax is over all axes from this one on
    over_pixels = rank == 4 and not modern and chain.shape[:2] != (1, 1)
    if axis != (1 if rank == 4 else rank - 1) or over_pixels:
        raise ValueError(f"expected softmax along the channels of maps or along rows, got axis {axis} of {rank}")
    chain.append(ActivationLayer("softmax"), chain.flattened)


def _square_root(chain: Chain, node: Operator) -> None:
    if chain.layers[-1] != ActivationLayer("relu"):
        raise ValueError("expected Relu before it, as negative values have no root")
    chain.change(ActivationLayer("sqrt"))


def _scale(chain: Chain, node: Operator) -> None:
    if chain.layers != [InputLayer(chain.shape)] or node.weight.size != 1:
        raise ValueError("expected a multiplication by one number, right after the input")
    chain.change(InputLayer(chain.shape, scale=node.weight.item()))


def _divide(chain: Chain, node: Operator) -> None:
    if node.weight.size == 1 and not node.weight.all():
        raise ValueError("expected a divisor other than 0")
    _scale(chain, replace(node, weights=[1 / node.weight.astype(np.float64)]))


def _nothing(chain: Chain, node: Operator) -> None:
    pass


def _dropout(chain: Chain, node: Operator) -> None:
    training = node.second_weight
    if (training is not None and training.any()) or (node.opset < 7 and not node.settings.get("is_test", 0)):
        raise ValueError("expected dropout at inference, got training mode")


def _flatten(chain: Chain, node: Operator) -> None:
    axis, rank = node.settings.get("axis", 1), len(chain.shape) + 1
    if axis not in (1, 1 - rank):
        raise ValueError(f"expected all axes after the batch flattened, axis 1, got {axis} of {rank} axes")
    _flatten_maps(chain)


def _reshape(chain: Chain, node: Operator) -> None:
    sizes, length = node.weight.tolist(), math.prod(chain.shape)
    to_rows = len(sizes) == 2 and sizes[0] in (0, -1, node.batch) and sizes[1] in (-1, length)
    if not to_rows or sizes == [-1, -1] or (node.settings.get("allowzero", 0) and 0 in sizes):
        raise ValueError(f"expected a reshape to rows, (n, {length}), got {sizes}")
    _flatten_maps(chain)


def _flatten_maps(chain: Chain) -> None:
    chain.append(FlatteningLayer(), chain.shape if len(chain.shape) == 3 else chain.flattened)


def _reorder(chain: Chain, node: Operator) -> None:
    length, indices = chain.row_length(), node.weight
    fits = chain.flattened is not None and node.settings.get("axis", 0) == 1 and indices.shape == (length,)
    if not fits or not np.array_equal(indices, chain.in_our_order(np.arange(length))):
        raise ValueError("expected indices that reorder flattened maps, as to_onnx writes them")
    chain.flattened = None


def _general_product(chain: Chain, node: Operator) -> None:
    if node.settings.get("transA", 0):
        raise ValueError("expected rows times weights, got transA")
    kernel, bias = node.weight.T if node.settings.get("transB", 0) else node.weight, node.second_weight
    _add_dense(chain, _times(node.settings.get("alpha", 1.0), kernel))
    if bias is not None:
        _add_bias(chain, _times(node.settings.get("beta", 1.0), bias))


def _times(factor: float, weights: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        product = factor * weights
    if not np.isfinite(product).all():
        raise ValueError(f"expected finite weights, got {factor} times weights up to {abs(weights).max()}")
    return product


def _product(chain: Chain, node: Operator) -> None:
    _add_dense(chain, node.weight)


def _add_dense(chain: Chain, kernel: Array) -> None:
    length = chain.row_length()
    if kernel.ndim != 2 or len(kernel) != length:
        raise ValueError(f"expected weights ({length}, units), got {kernel.shape}")
    chain.append(DenseLayer(kernel.shape[1], use_bias=False), kernel=chain.in_our_order(kernel))


def _sum(chain: Chain, node: Operator) -> None:
    _add_bias(chain, node.weight)


def _add_bias(chain: Chain, bias: Array) -> None:
    layer, channels = chain.layers[-1], chain.shape[-1]
    if not isinstance(layer, ConvLayer | DenseLayer) or layer.use_bias:
        raise ValueError("expected a bias right after a convolution or a matrix product")
    single = (1, channels) if len(chain.shape) == 1 else (1, channels, 1, 1)
    if np.broadcast_shapes(bias.shape, single) != single:
        raise ValueError(f"expected a bias of one number per channel, {single}, got {bias.shape}")
    chain.change(replace(layer, use_bias=True), bias=np.broadcast_to(bias, single).reshape(channels))


def _batch_norm(chain: Chain, node: Operator) -> None:
    training = node.settings.get("training_mode", 0) or (node.opset < 7 and not node.settings.get("is_test", 0))
    if training or not node.settings.get("spatial", 1) or len(chain.shape) not in (1, 3):
        raise ValueError("expected normalisation at inference, channel by channel, of maps or rows")
    if any(weight.shape != chain.shape[-1:] for weight in node.weights):
        raise ValueError(f"expected {chain.shape[-1]} numbers each of scale, bias, mean and variance")
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    params = {name: chain.in_our_order(value) for name, value in zip(names, node.weights, strict=True)}
    chain.append(BatchNormLayer(epsilon=node.settings.get("epsilon", 1e-5)), chain.flattened, **params)


def _convolution(chain: Chain, node: Operator) -> None:
    chain.map_shape()
    kernel, bias = node.weight, node.second_weight
    size = kernel.shape[2], kernel.shape[3]
    if tuple(node.settings.get("kernel_shape", size)) != size:
        raise ValueError(f"expected kernel_shape equal to the kernel's, {size}, got {node.settings['kernel_shape']}")
    sliding = _sliding(chain, node, size)
    groups = node.settings.get("group", 1)
    layer = ConvLayer(len(kernel), kernel_size=size, groups=groups, use_bias=False, **sliding)
    chain.append(layer, kernel=kernel.transpose(2, 3, 1, 0))
    if bias is not None:
        _add_bias(chain, bias.reshape(-1, 1, 1))


def _pool(mode: str) -> Callable[[Chain, Operator], None]:
    def add(chain: Chain, node: Operator) -> None:
        chain.map_shape()
        rows, columns = node.settings["kernel_shape"]
        size = rows, columns
        sliding = _sliding(chain, node, size)
        if node.settings.get("count_include_pad", 0) and sliding["padding"] != "valid":
            _average_with_border(chain, node, size, sliding)
        else:
            chain.append(PoolingLayer(size, mode=mode, **sliding))

    return add


def _average_with_border(chain: Chain, node: Operator, size: geometry.Pair, sliding: Mapping[str, Any]) -> None:
    """Add a convolution of each channel by equal weights: a mean that counts the zeros of the border."""
    if sliding != _sliding(chain, replace(node, settings={**node.settings, "ceil_mode": 0}), size):
        raise ValueError("expected count_include_pad without ceil_mode, which counts fewer values in the last windows")
    channels = chain.map_shape()[2]
    layer = ConvLayer(channels, kernel_size=size, groups=channels, use_bias=False, **sliding)
    chain.append(layer, kernel=np.broadcast_to(1 / math.prod(size), (*size, 1, channels)))


def _global_pool(mode: str) -> Callable[[Chain, Operator], None]:
    def add(chain: Chain, node: Operator) -> None:
        chain.map_shape()
        chain.append(PoolingLayer(1, mode=mode))

    return add


def _reduction(mode: str) -> Callable[[Chain, Operator], None]:
    def add(chain: Chain, node: Operator) -> None:
        chain.map_shape()
        listed = node.weight if node.weights else node.settings.get("axes")
        axes = [] if listed is None else sorted(int(axis) % 4 for axis in listed)
        if axes != [2, 3]:
            raise ValueError(f"expected all pixels of maps reduced, axes 2 and 3, got axes {axes or 'none'}")
        chain.append(PoolingLayer(1, mode=mode))
        if not node.settings.get("keepdims", 1):
            _flatten_maps(chain)

    return add


def _sliding(chain: Chain, node: Operator, size: geometry.Pair) -> dict[str, Any]:
    """Return strides, dilation and padding; explicit padding replaces ceil_mode and SAME_LOWER."""
    frame = chain.map_shape()[:2]
    strides, dilation = (tuple(node.settings.get(name, (1, 1))) for name in ("strides", "dilations"))
    top, left, bottom, right = node.settings.get("pads", (0, 0, 0, 0))
    border = (top, bottom), (left, right)
    automatic = node.settings.get("auto_pad", b"NOTSET").decode()
    if automatic not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"expected auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {automatic!r}")
    if automatic == "VALID":
        border = (0, 0), (0, 0)
    elif automatic.startswith("SAME"):
        border = geometry.sliding_window(frame, size, strides, dilation, "same", "window").border
        if automatic == "SAME_LOWER":
            border = border[0][::-1], border[1][::-1]
    elif node.settings.get("ceil_mode", 0):
        rows, columns = zip(frame, size, strides, dilation, border, strict=True)
        border = _border_for_all(*rows), _border_for_all(*columns)
    return {"strides": strides, "dilation_rate": dilation, "padding": border if any(map(any, border)) else "valid"}


def _border_for_all(length: int, size: int, stride: int, dilation: int, border: geometry.Pair) -> geometry.Pair:
    """Return the padding along an axis for ceil_mode; every window begins in the frame or its leading padding."""
    before, after = border
    extent = dilation * (size - 1) + 1
    windows = -(-(length + before + after - extent) // stride) + 1
    if (windows - 1) * stride >= length + before:
        windows -= 1
    return before, max(after, (windows - 1) * stride + extent - length - before)


OPERATORS: dict[str, Callable[[Chain, Operator], None]] = {
    "Add": _sum,
    "AveragePool": _pool("average"),
    "BatchNormalization": _batch_norm,
    "Conv": _convolution,
    "Div": _divide,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gather": _reorder,
    "Gemm": _general_product,
    "GlobalAveragePool": _global_pool("adaptive_average"),
    "GlobalMaxPool": _global_pool("adaptive_max"),
    "Identity": _nothing,
    "LeakyRelu": _leaky_relu,
    "MatMul": _product,
    "MaxPool": _pool("max"),
    "Mul": _scale,
    "ReduceMax": _reduction("adaptive_max"),
    "ReduceMean": _reduction("adaptive_average"),
    "Relu": _activation("relu"),
    "Reshape": _reshape,
    "Sigmoid": _activation("sigmoid"),
    "Softmax": _softmax,
    "Sqrt": _square_root,
    "Tanh": _activation("tanh"),
}
