"""Keras equivalents of layers (export), and layer equivalents of Keras layers (import), as plain data."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from framecnn.errors import FormatError
from framecnn.interop.layer_converters import LayerConverters
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    PoolingLayer,
    initializers,
)

__all__ = ["KERAS_CONVERTERS", "Step", "layers_of", "no_layer_like"]

Step = tuple[str, dict[str, Any]]
"""A Keras layer: the name of its class, and its settings."""

KERAS_CONVERTERS: LayerConverters[Callable[[Any], list[Step]]] = LayerConverters(
    "Keras", "to_keras", "framecnn.interop.keras_layers.KERAS_CONVERTERS"
)
"""Functions that return the Keras layers equivalent to a built layer, with weights in the same order and shape."""

CONV = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias")
NORM = ("momentum", "epsilon")
POOL = ("pool_size", "strides", "padding")
FUNCTIONS = ("relu", "sigmoid", "softmax", "tanh")
KERAS_SLOPE = 0.2  # of keras.activations.leaky_relu; the layer LeakyReLU has a setting instead


@KERAS_CONVERTERS.register(InputLayer)
def _input(layer: InputLayer) -> list[Step]:
    return [("Rescaling", {"scale": layer.scale})] if layer.scale != 1 else []


@KERAS_CONVERTERS.register(ConvLayer)
def _convolution(layer: ConvLayer) -> list[Step]:
    if max(layer.strides) > 1 and max(layer.dilation_rate) > 1:
        raise KERAS_CONVERTERS.unsupported(layer)
    settings = _settings(layer, (*CONV, "kernel_initializer"))
    if isinstance(layer.padding, str):
        return [("Conv2D", settings)]
    return [("ZeroPadding2D", {"padding": layer.padding}), ("Conv2D", settings | {"padding": "valid"})]


@KERAS_CONVERTERS.register(PoolingLayer)
def _pooling(layer: PoolingLayer) -> list[Step]:
    reduction = layer.reduction.capitalize()
    if layer.mode.startswith("adaptive"):
        return [(f"Adaptive{reduction}Pooling2D", {"output_size": layer.pool_size})]
    if not isinstance(layer.padding, str) or max(layer.dilation_rate) > 1:
        raise KERAS_CONVERTERS.unsupported(layer)
    return [(f"{reduction}Pooling2D", _settings(layer, POOL))]


@KERAS_CONVERTERS.register(DownsamplingLayer)
def _downsampling(layer: DownsamplingLayer) -> list[Step]:
    if layer.mode != "mean":
        raise KERAS_CONVERTERS.unsupported(layer)
    return [("AveragePooling2D", {"pool_size": layer.factor})]


@KERAS_CONVERTERS.register(FlatteningLayer)
def _flattening(layer: FlatteningLayer) -> list[Step]:
    return [("Flatten", {})]


@KERAS_CONVERTERS.register(DenseLayer)
def _dense(layer: DenseLayer) -> list[Step]:
    return [("Dense", _settings(layer, ("units", "use_bias", "kernel_initializer")))]


@KERAS_CONVERTERS.register(ActivationLayer)
def _function(layer: ActivationLayer) -> list[Step]:
    if layer.function == "leaky_relu":
        return [("LeakyReLU", {"negative_slope": layer.negative_slope})]
    if layer.function not in FUNCTIONS:
        raise KERAS_CONVERTERS.unsupported(layer)
    return [("Activation", {"activation": layer.function})]


@KERAS_CONVERTERS.register(BatchNormLayer)
def _batch_norm(layer: BatchNormLayer) -> list[Step]:
    return [("BatchNormalization", _settings(layer, NORM))]


@KERAS_CONVERTERS.register(DropoutLayer)
def _dropout(layer: DropoutLayer) -> list[Step]:
    return [("Dropout", {"rate": layer.rate})]


def _settings(layer: Layer, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in names}


def layers_of(steps: list[Step]) -> Iterator[Layer]:
    """Yield the layers equivalent to a chain of Keras layers.

    Raises
    ------
    FormatError
        If framecnn has no equivalent of a layer.

    Examples
    --------
    >>> list(layers_of([("Flatten", {}), ("Dropout", {"rate": 0.5})]))
    [FlatteningLayer(), DropoutLayer(rate=0.5)]
    """
    while steps:
        match steps:
            case [("ZeroPadding2D", border), ("Conv2D", {"padding": "valid"} as conv), *steps]:
                yield from _one("Conv2D", conv | {"padding": border["padding"]})
            case [(kind, config), *steps]:
                yield from _one(kind, config)


def _one(kind: str, config: Mapping[str, Any]) -> Iterator[Layer]:
    """Yield the layers equivalent to one Keras layer."""
    reduction = "max" if "Max" in kind else "average"
    match kind:
        case "Conv2D":
            yield ConvLayer(**{name: config[name] for name in CONV}, kernel_initializer=_initializer(config))
            yield from _activation(config, KERAS_SLOPE)
        case "Dense":
            yield DenseLayer(config["units"], use_bias=config["use_bias"], kernel_initializer=_initializer(config))
            yield from _activation(config, KERAS_SLOPE)
        case "Activation":
            yield from _activation(config, KERAS_SLOPE)
        case "ReLU":
            yield from _activation({**config, "activation": "leaky_relu" if config["negative_slope"] else "relu"})
        case "LeakyReLU":
            yield from _activation({**config, "activation": "leaky_relu"})
        case "Softmax":
            yield ActivationLayer("softmax")
        case "MaxPooling2D" | "AveragePooling2D":
            yield PoolingLayer(**{name: config[name] for name in POOL}, mode=reduction)
        case "AdaptiveMaxPooling2D" | "AdaptiveAveragePooling2D":
            yield PoolingLayer(config["output_size"], mode=f"adaptive_{reduction}")
        case "GlobalMaxPooling2D" | "GlobalAveragePooling2D":
            yield PoolingLayer(1, mode=f"adaptive_{reduction}")
            yield from () if config["keepdims"] else (FlatteningLayer(),)
        case "Flatten":
            yield FlatteningLayer()
        case "BatchNormalization":
            yield BatchNormLayer(**{name: config[name] for name in NORM})
        case "Dropout":
            yield DropoutLayer(config["rate"])
        case _:
            raise no_layer_like(kind, config["name"])


def _activation(config: Mapping[str, Any], slope: float | None = None) -> Iterator[Layer]:
    """Yield the layer of an activation; nothing for the linear one."""
    function = config["activation"]
    if function == "leaky_relu":
        yield ActivationLayer(function, negative_slope=config["negative_slope"] if slope is None else slope)
    elif function in FUNCTIONS:
        yield ActivationLayer(function)
    elif function != "linear":
        raise no_layer_like(f"the activation {function!r} of", config["name"])


def _initializer(config: Mapping[str, Any]) -> str:
    """Return the name of the kernel's initializer; framecnn's default if there is no equivalent."""
    names = {name.replace("_", ""): name for name in initializers.NAMES}
    kind = (config["kernel_initializer"] or {}).get("class_name", "").lower()
    return names.get(kind, "glorot_uniform")


def no_layer_like(kind: str, name: str) -> FormatError:
    """Return the error for a Keras layer without an equivalent."""
    return FormatError(f"from_keras: expected layers that framecnn has, got {kind} {name!r}; remove it")
