"""Keras equivalents of layers, as plain data."""

from collections.abc import Callable
from typing import Any

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
    PaddingLayer,
    PoolingLayer,
    ScalingLayer,
)

__all__ = ["KERAS_CONVERTERS", "Step"]

Step = tuple[str, dict[str, Any]]
"""A Keras layer: the name of its class, and its settings."""

KERAS_CONVERTERS: LayerConverters[Callable[[Any], list[Step]]] = LayerConverters(
    "Keras", "to_keras", "framecnn.interop.keras_layers.KERAS_CONVERTERS"
)
"""Functions that return the Keras layers equivalent to a built layer.

One of them has all the weights, in the order of the layer's parameters; a weight of another shape has the values of the
parameter in the same order.
"""

CONV = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias")
NORM = ("momentum", "epsilon")
POOL = ("pool_size", "strides", "padding")


@KERAS_CONVERTERS.register(InputLayer)
def _input(layer: InputLayer) -> list[Step]:
    return [("Rescaling", {"scale": layer.scale})] if layer.scale != 1 else []


@KERAS_CONVERTERS.register(ConvLayer)
def _convolution(layer: ConvLayer) -> list[Step]:
    if max(layer.strides) > 1 and max(layer.dilation_rate) > 1:
        raise KERAS_CONVERTERS.unsupported(layer)
    kind, settings = "Conv2D", _settings(layer, (*CONV, "kernel_initializer"))
    channels = layer.input_shape[2]
    if layer.groups == channels > 1 and layer.strides[0] == layer.strides[1]:  # TensorFlow cannot stride unequally
        kind, settings["depthwise_initializer"] = "DepthwiseConv2D", settings.pop("kernel_initializer")
        settings["depth_multiplier"] = settings.pop("filters") // settings.pop("groups")
    if isinstance(layer.padding, str):
        return [(kind, settings)]
    return [("ZeroPadding2D", {"padding": layer.padding}), (kind, settings | {"padding": "valid"})]


@KERAS_CONVERTERS.register(PaddingLayer)
def _padding(layer: PaddingLayer) -> list[Step]:
    if layer.value != 0:
        raise KERAS_CONVERTERS.unsupported(layer)
    return [("ZeroPadding2D", {"padding": layer.padding})]


@KERAS_CONVERTERS.register(ScalingLayer)
def _scaling(layer: ScalingLayer) -> list[Step]:
    axes = "abc"[: len(layer.input_shape) - 1]  # with "..." instead of them, Keras swaps rows and columns
    settings = {"equation": f"n{axes}k,k->n{axes}k", "bias_axes": "k", "kernel_initializer": "ones"}
    return [("EinsumDense", settings | {"output_shape": layer.output_shape})]


@KERAS_CONVERTERS.register(PoolingLayer)
def _pooling(layer: PoolingLayer) -> list[Step]:
    reduction = layer.reduction.capitalize()
    if layer.mode.startswith("adaptive") and layer.pool_size == (1, 1):
        return [(f"Global{reduction}Pooling2D", {"keepdims": True})]
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
    match layer.function:
        case "leaky_relu":
            return [("LeakyReLU", {"negative_slope": layer.negative_slope})]
        case "elu":
            return [("ELU", {"alpha": layer.alpha})]
        case "relu6":
            return [("ReLU", {"max_value": 6.0})]
        case "sqrt":
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
