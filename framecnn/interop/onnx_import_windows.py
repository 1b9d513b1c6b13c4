"""Layer equivalents of ONNX operators with windows: convolutions, poolings and borders."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from framecnn import geometry
from framecnn.interop.onnx_chain import Chain, Operator
from framecnn.layers import ActivationLayer, ConvLayer, DownsamplingLayer, PaddingLayer, PoolingLayer

__all__ = ["WINDOW_OPERATORS"]

NOT_NEGATIVE = {"relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "softplus", "sqrt"}


def _convolution(chain: Chain, node: Operator) -> None:
    chain.map_shape()
    kernel, bias = node.weight, node.weight_or_none(1)
    size = kernel.shape[2], kernel.shape[3]
    if tuple(node.settings.get("kernel_shape", size)) != size:
        raise ValueError(f"expected kernel_shape equal to the kernel's, {size}, got {node.settings['kernel_shape']}")
    sliding = _sliding(chain, node, size)
    if (before := chain.last(PaddingLayer)) and before.value == 0:
        sliding["padding"] = _sum_of_borders(before.padding, sliding["padding"])
        _remove_padding(chain)
    groups = node.settings.get("group", 1)
    biases = {} if bias is None else {"bias": bias}
    layer = ConvLayer(len(kernel), kernel_size=size, groups=groups, use_bias=bias is not None, **sliding)
    chain.append(layer, kernel=kernel.transpose(2, 3, 1, 0), **biases)


def _remove_padding(chain: Chain) -> None:
    (top, bottom), (left, right) = chain.layers[-1].padding  # type: ignore[attr-defined]
    height, width, channels = chain.map_shape()
    chain.remove_last((height - top - bottom, width - left - right, channels))


def _sum_of_borders(border: geometry.Border, other: geometry.Padding) -> geometry.Border:
    more = ((0, 0), (0, 0)) if isinstance(other, str) else other
    rows, columns = ((a[0] + b[0], a[1] + b[1]) for a, b in zip(border, more, strict=True))
    return rows, columns


def _pool(mode: str) -> Callable[[Chain, Operator], None]:
    def add(chain: Chain, node: Operator) -> None:
        chain.map_shape()
        rows, columns = node.settings["kernel_shape"]
        size = rows, columns
        sliding = _sliding(chain, node, size)
        if mode == "max" and sliding["padding"] == "valid" and _has_zero_border_for_maxima(chain, size):
            sliding["padding"] = chain.last(PaddingLayer).padding
            _remove_padding(chain)
        if node.settings.get("count_include_pad", 0) and sliding["padding"] != "valid":
            _average_with_border(chain, node, size, sliding)
        else:
            chain.append(PoolingLayer(size, mode=mode, **sliding))

    return add


def _has_zero_border_for_maxima(chain: Chain, size: geometry.Pair) -> bool:
    """Return whether a border of zeros changes no maximum: it is narrower than a window, and no value is negative."""
    border, before = chain.last(PaddingLayer), chain.layers[-2:-1]
    if border is None or border.value != 0 or not before:
        return False
    narrow = all(max(sides) < length for sides, length in zip(border.padding, size, strict=True))
    return narrow and isinstance(before[0], ActivationLayer) and before[0].function in NOT_NEGATIVE


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
        listed = node.weight if node.weights else node.settings.get("axes")
        axes = [] if listed is None else sorted(int(axis) % chain.rank for axis in listed)
        if tuple(axes) != chain.pixel_axes:
            down, across = chain.pixel_axes
            raise ValueError(
                f"expected all pixels of maps reduced, axes {down} and {across}, got axes {axes or 'none'}"
            )
        chain.append(PoolingLayer(1, mode=mode))
        if not node.settings.get("keepdims", 1):
            chain.reshape((chain.shape[2],), node.becomes_maps)

    return add


def _pad(chain: Chain, node: Operator) -> None:
    mode = node.settings.get("mode", b"constant").decode()
    if mode != "constant":
        raise ValueError(f"expected a border of a constant value, got mode {mode!r}")
    value = node.weight_or_none(1) if node.weights else node.settings.get("value", 0.0)
    axes, listed = node.weight_or_none(2), node.weight if node.weights else node.settings["pads"]
    places = [axis % chain.rank for axis in (range(chain.rank) if axes is None else map(int, axes))]
    half = len(places)
    sides = {axis: (int(listed[place]), int(listed[place + half])) for place, axis in enumerate(places)}
    padded = {axis for axis, pair in sides.items() if any(pair)}
    if not padded:
        return
    down, across = chain.pixel_axes
    if not padded <= {down, across}:
        raise ValueError(f"expected a border around rows and columns, axes {down} and {across}, got {sorted(padded)}")
    border = sides.get(down, (0, 0)), sides.get(across, (0, 0))
    chain.append(PaddingLayer(border, value=0.0 if value is None else float(np.asarray(value).item())))


def _slice(chain: Chain, node: Operator) -> None:
    """Add a downsampling for a slice that takes every so many pixels."""
    height, width, _ = chain.map_shape()
    starts, ends, axes, steps = (node.weight_or_none(place) for place in range(4))
    if starts is None or ends is None or axes is None or steps is None or sorted(axes.tolist()) != [2, 3]:
        raise ValueError("expected every so many rows and columns of maps, with starts, ends, axes [2, 3] and steps")
    factor, kept = [0, 0], [0, 0]
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        length = (height, width)[axis - 2]
        factor[axis - 2] = step
        kept[axis - 2] = len(range(length)[start:end:step]) if start == 0 and step > 0 else 0
    if (kept[0], kept[1]) != (height // max(factor[0], 1), width // max(factor[1], 1)):
        raise ValueError("expected every so many rows and columns of maps, from the first on")
    chain.append(DownsamplingLayer((factor[0], factor[1]), mode="stride"))


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


WINDOW_OPERATORS: dict[str, Callable[[Chain, Operator], None]] = {
    "AveragePool": _pool("average"),
    "Conv": _convolution,
    "GlobalAveragePool": _global_pool("adaptive_average"),
    "GlobalMaxPool": _global_pool("adaptive_max"),
    "MaxPool": _pool("max"),
    "Pad": _pad,
    "ReduceMax": _reduction("adaptive_max"),
    "ReduceMean": _reduction("adaptive_average"),
    "Slice": _slice,
}
"""Functions that add the layers of an operator to a chain."""
