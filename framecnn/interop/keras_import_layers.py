"""Layer equivalents of Keras layers and of functions of ``keras.ops``, with their weights."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from framecnn.interop.keras_graph import ARITHMETIC, Operation
from framecnn.interop.network_parts import Parts
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FlatteningLayer,
    PaddingLayer,
    PoolingLayer,
    ScalingLayer,
    initializers,
)
from framecnn.typing import Array

__all__ = ["read_operation"]

Reader = Callable[[Operation, Parts], None]

FIXED_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "BatchNormalization": {"axis": -1, "renorm": False},
    "ops.Gelu": {"approximate": False},
    "ops.Max": {"initial": None},
    "ops.Softmax": {"axis": -1},
}
"""Settings without an equivalent in framecnn, by Keras class, and the only value that is accepted."""

EVERYWHERE: Mapping[str, Any] = {"data_format": "channels_last", "lora_rank": None}

PASSED_ON = {
    *("Add", "Average", "Concatenate", "Multiply", "ops.Concatenate"),  # of one value
    *("Identity", "ops.Identity", "ActivityRegularization", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    *("RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom"),
}
"""Operations that pass their input on at inference."""

ACTIVATIONS = {
    **{name: name for name in ("elu", "gelu", "hard_sigmoid", "relu", "relu6", "sigmoid", "silu", "softmax")},
    **{name: name for name in ("softplus", "tanh", "leaky_relu")},
    **{"hard_silu": "hard_swish", "hard_swish": "hard_swish", "swish": "silu"},
}
"""Names of activations in Keras, and here."""

CONV = ("kernel_size", "strides", "padding", "dilation_rate", "use_bias")
NORM = ("momentum", "epsilon")
POOL = ("pool_size", "strides", "padding")
KERAS_SLOPE = 0.2  # of keras.activations.leaky_relu; the layer LeakyReLU has a setting instead
SMALLEST_DEVIATION = 1e-7  # Normalization divides by no less

READERS: dict[str, Reader] = {}


def read_operation(operation: Operation, parts: Parts) -> None:
    """Append the layers equivalent to an operation on one value.

    Raises
    ------
    FormatError
        If framecnn has no equivalent of the operation, or of one of its settings.
    """
    if operation.kind in PASSED_ON:
        return
    reader = READERS.get(operation.kind)
    if reader is None:
        raise operation.unsupported("framecnn has no equivalent layer; remove it")
    config = operation.config
    for name, value in {**EVERYWHERE, **FIXED_SETTINGS.get(operation.kind, {})}.items():
        given = config.get(name, value)
        if given != value and not (name == "axis" and given in (len(operation.output_shape), [-1])):
            raise operation.unsupported(f"expected {name}={value!r}, got {given!r}; change the setting")
    reader(operation, parts)


def _reads(*kinds: str) -> Callable[[Reader], Reader]:
    """Return a decorator that registers a function as the reader of some kinds of operations."""

    def registered(reader: Reader) -> Reader:
        READERS.update(dict.fromkeys(kinds, reader))
        return reader

    return registered


@_reads("Conv2D", "DepthwiseConv2D")
def _convolution(operation: Operation, parts: Parts) -> None:
    config, weights = operation.config, operation.weights()
    settings = {name: config[name] for name in CONV}
    if operation.kind == "Conv2D":
        settings |= {"filters": config["filters"], "groups": config["groups"]}
        settings["kernel_initializer"] = _initializer(config["kernel_initializer"])
    else:
        kernel = weights["kernel"]
        settings |= _depthwise(kernel) | {"kernel_initializer": _initializer(config["depthwise_initializer"])}
        weights["kernel"] = _depthwise_kernel(kernel)
    parts.append(ConvLayer(**settings), **weights)
    _activate(operation, config["activation"], parts)


@_reads("SeparableConv2D")
def _separable_convolution(operation: Operation, parts: Parts) -> None:
    config, weights = operation.config, operation.weights()
    kernel = weights.pop("depthwise_kernel")
    settings = {name: config[name] for name in CONV} | _depthwise(kernel) | {"use_bias": False}
    parts.append(
        ConvLayer(**settings, kernel_initializer=_initializer(config["depthwise_initializer"])),
        kernel=_depthwise_kernel(kernel),
    )
    pointwise = ConvLayer(
        config["filters"],
        kernel_size=1,
        use_bias=config["use_bias"],
        kernel_initializer=_initializer(config["pointwise_initializer"]),
    )
    parts.append(pointwise, kernel=weights.pop("pointwise_kernel"), **weights)
    _activate(operation, config["activation"], parts)


def _depthwise(kernel: Array) -> dict[str, int]:
    """Return filters and groups of a depthwise convolution with a kernel (kh, kw, c, multiplier)."""
    return {"filters": kernel.shape[2] * kernel.shape[3], "groups": kernel.shape[2]}


def _depthwise_kernel(kernel: Array) -> Array:
    """Return a kernel (kh, kw, c, multiplier) as (kh, kw, 1, c multiplier)."""
    return kernel.reshape(*kernel.shape[:2], 1, -1)


@_reads("Dense")
def _dense(operation: Operation, parts: Parts) -> None:
    config, weights = operation.config, operation.weights()
    settings = {"use_bias": config["use_bias"], "kernel_initializer": _initializer(config["kernel_initializer"])}
    if len(parts.shape) == 3:  # Keras computes it at every pixel
        weights["kernel"] = weights["kernel"][None, None]
        parts.append(ConvLayer(config["units"], kernel_size=1, **settings), **weights)
    elif len(parts.shape) == 1:
        parts.append(DenseLayer(config["units"], **settings), **weights)
    else:
        raise operation.unsupported(f"expected rows or maps, got values of shape {parts.shape}")
    _activate(operation, config["activation"], parts)


@_reads("BatchNormalization")
def _batch_norm(operation: Operation, parts: Parts) -> None:
    channels = parts.shape[-1]
    values = {"gamma": np.ones(channels), "beta": np.zeros(channels)} | operation.weights()
    parts.append(BatchNormLayer(**{name: operation.config[name] for name in NORM}), **values)


@_reads("EinsumDense")
def _scaling(operation: Operation, parts: Parts) -> None:
    config, weights = operation.config, operation.weights()
    found = re.fullmatch(r"(.*)(\w),\2->\1\2", config["equation"])
    if not found or config["bias_axes"] not in (None, found[2]):
        raise operation.unsupported(
            f"expected a multiplication of every channel by a weight, got equation={config['equation']!r} "
            f"and bias_axes={config['bias_axes']!r}"
        )
    parts.append(ScalingLayer(), scale=weights["kernel"], offset=weights.get("bias", np.zeros(parts.shape[-1])))
    _activate(operation, config["activation"], parts)


@_reads("Rescaling")
def _rescaling(operation: Operation, parts: Parts) -> None:
    scale, offset = operation.layer.scale, operation.layer.offset
    parts.append_scaling(_per_channel(operation, scale, parts), _per_channel(operation, offset, parts))


@_reads("Normalization")
def _normalization(operation: Operation, parts: Parts) -> None:
    layer = operation.layer
    mean, variance = (_per_channel(operation, value, parts) for value in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), SMALLEST_DEVIATION)
    if layer.invert:
        parts.append_scaling(deviation, mean)
    else:
        parts.append_scaling(1 / deviation, -mean / deviation)


@_reads(*ARITHMETIC)
def _arithmetic(operation: Operation, parts: Parts) -> None:
    first = operation.operands[-1] is ...  # number - value, number / value
    if len(operation.output_shape) != len(parts.shape):
        raise operation.unsupported(f"expected an output like the input {parts.shape}, got {operation.output_shape}")
    number, kind = _per_channel(operation, operation.operands[0 if first else -1], parts), operation.kind
    zeros, ones = np.zeros_like(number), np.ones_like(number)
    if kind == "ops.Multiply":
        parts.append_scaling(number, zeros)
    elif kind == "ops.Add":
        parts.append_scaling(ones, number)
    elif kind == "ops.Subtract":
        parts.append_scaling(-ones if first else ones, number if first else -number)
    elif not first:
        parts.append_scaling(1 / number, zeros)
    else:
        raise operation.unsupported("framecnn has no division by a computed value; remove it")


@_reads("ops.Negative")
def _negative(operation: Operation, parts: Parts) -> None:
    ones = np.ones(parts.shape[-1])
    parts.append_scaling(-ones, 0 * ones)


def _per_channel(operation: Operation, value: Any, parts: Parts) -> Array:
    """Return one number, or one for each channel, as (c,) float64."""
    numbers = np.asarray(value, np.float64)
    channels = parts.shape[-1]
    if numbers.size not in (1, channels) or numbers.shape[-1:] not in ((), (numbers.size,)):
        raise operation.unsupported(
            f"expected one number, or one for each of {channels} channels, got numbers of shape {numbers.shape}"
        )
    return np.broadcast_to(numbers.ravel(), (channels,)).copy()


@_reads("ZeroPadding2D")
def _padding(operation: Operation, parts: Parts) -> None:
    parts.append(PaddingLayer(operation.config["padding"]))


@_reads("MaxPooling2D", "AveragePooling2D")
def _pooling(operation: Operation, parts: Parts) -> None:
    settings = {name: operation.config[name] for name in POOL}
    parts.append(PoolingLayer(**settings, mode="max" if "Max" in operation.kind else "average"))


@_reads("AdaptiveMaxPooling2D", "AdaptiveAveragePooling2D")
def _adaptive_pooling(operation: Operation, parts: Parts) -> None:
    mode = "adaptive_max" if "Max" in operation.kind else "adaptive_average"
    parts.append(PoolingLayer(operation.config["output_size"], mode=mode))


@_reads("GlobalMaxPooling2D", "GlobalAveragePooling2D", "ops.Max", "ops.Mean")
def _global_pooling(operation: Operation, parts: Parts) -> None:
    config = operation.config
    if operation.kind.startswith("ops.") and (len(parts.shape) != 3 or [*_axes(config["axis"], 4)] != [1, 2]):
        raise operation.unsupported(f"expected it over rows and columns of maps, got axis={config['axis']!r}")
    parts.append(PoolingLayer(1, mode="adaptive_max" if "Max" in operation.kind else "adaptive_average"))
    if not config["keepdims"]:
        parts.append(FlatteningLayer())


def _axes(axis: Any, rank: int) -> list[int]:
    """Return axes from 0 on, sorted."""
    return sorted(int(number) % rank for number in np.atleast_1d(-1 if axis is None else axis))


@_reads("Flatten", "Reshape", "ops.Reshape", "ops.Squeeze", "ops.ExpandDims")
def _reshaping(operation: Operation, parts: Parts) -> None:
    before = parts.shape
    known = math.prod(size for size in operation.output_shape if size)
    after = tuple(math.prod(before) // known if size is None else size for size in operation.output_shape)
    if len(after) == 1:
        if len(before) > 1:
            parts.append(FlatteningLayer())
    elif after != before and not (after[:-1] == (1, 1) and before == after[-1:] and parts.unflatten()):
        raise operation.unsupported(
            f"expected rows as output, or maps of one pixel that were flattened before, got {after} from {before}"
        )


@_reads("Dropout")
def _dropout(operation: Operation, parts: Parts) -> None:
    if operation.config["noise_shape"] is None:  # else it drops whole branches or channels, in training only
        parts.append(DropoutLayer(operation.config["rate"]))


@_reads("Activation", "ReLU", "LeakyReLU", "ELU", "Softmax")
def _activation_layer(operation: Operation, parts: Parts) -> None:
    if operation.kind == "Activation":
        _activate(operation, operation.config["activation"], parts)
    else:
        _activate(operation, {"class_name": operation.kind, "config": operation.config}, parts)


@_reads("ops.Relu", "ops.Relu6", "ops.Sigmoid", "ops.Tanh", "ops.Silu", "ops.HardSigmoid", "ops.HardSilu", "ops.Gelu")
def _function(operation: Operation, parts: Parts) -> None:
    names = {"ops.HardSigmoid": "hard_sigmoid", "ops.HardSilu": "hard_silu"}
    _activate(operation, names.get(operation.kind, operation.kind.removeprefix("ops.").lower()), parts)


@_reads("ops.Softplus", "ops.Softmax", "ops.LeakyRelu", "ops.Elu")
def _function_with_setting(operation: Operation, parts: Parts) -> None:
    kind = operation.kind.removeprefix("ops.")
    kinds = {"LeakyRelu": "LeakyReLU", "Elu": "ELU"}
    activation = {"class_name": kinds[kind], "config": operation.config} if kind in kinds else kind.lower()
    _activate(operation, activation, parts)


def _activate(operation: Operation, activation: Any, parts: Parts) -> None:
    """Append an activation: its name, or the class and settings of its layer; nothing for the linear one."""
    settings: dict[str, float] = {}
    name = activation
    if isinstance(activation, Mapping):
        name, config = activation.get("class_name"), activation.get("config", {})
        match name, config:
            case "ReLU", {"negative_slope": 0, "threshold": 0, "max_value": None | 6 as largest}:
                name = "relu6" if largest else "relu"
            case ("ReLU", {"threshold": 0, "max_value": None}) | ("LeakyReLU", _):
                name, settings = "leaky_relu", {"negative_slope": config["negative_slope"]}
            case "ELU", _:
                name, settings = "elu", {"alpha": config["alpha"]}
            case "Softmax", {"axis": axis} if axis in (-1, [-1], len(operation.output_shape)):
                name = "softmax"
    elif name == "leaky_relu":
        settings = {"negative_slope": KERAS_SLOPE}
    if name == "linear":
        return
    if name not in ACTIVATIONS:
        raise operation.unsupported(f"framecnn has no activation {_described(activation)}; use another")
    parts.append(ActivationLayer(ACTIVATIONS[name], **settings))


def _described(activation: Any) -> str:
    """Return an activation for a message."""
    if not isinstance(activation, Mapping):
        return repr(activation)
    config = activation.get("config", {})
    shown = ("max_value", "negative_slope", "threshold", "axis")
    settings = ", ".join(f"{name}={config[name]!r}" for name in shown if isinstance(config, Mapping) and name in config)
    return f"{activation.get('class_name')}({settings})"


def _initializer(config: Mapping[str, Any] | None) -> str:
    """Return the name of the kernel's initializer; framecnn's default if there is no equivalent."""
    names = {name.replace("_", ""): name for name in initializers.NAMES}
    return names.get((config or {}).get("class_name", "").lower(), "glorot_uniform")
