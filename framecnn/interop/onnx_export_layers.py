"""ONNX equivalents of layers: operators, attributes and weights."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from framecnn import geometry
from framecnn.interop.layer_converters import LayerConverters
from framecnn.interop.onnx_export_activations import add_activation
from framecnn.interop.onnx_export_graph import Graph, Value
from framecnn.interop.onnx_layout import Flattened, flattened_from, flattened_order, joined
from framecnn.interop.onnx_library import DOUBLE, FLOAT
from framecnn.interop.onnx_resampling import averaging_matrix, resampling_matrices
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    PaddingLayer,
    ParallelLayer,
    PoolingLayer,
    ResizingLayer,
    ScalingLayer,
)
from framecnn.layers.chain import layer_names
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array

__all__ = ["ONNX_CONVERTERS", "add_network"]

POOLS = {"max": "MaxPool", "average": "AveragePool"}


ONNX_CONVERTERS: LayerConverters[Callable[[Graph, Any, Value], Value]] = LayerConverters(
    "ONNX", "to_onnx", "framecnn.interop.onnx_export_layers.ONNX_CONVERTERS"
)
"""Functions ``(graph, layer, input) -> output`` that add the nodes of a built layer to a graph."""


def add_network(graph: Graph, model: Sequential, x: str, scope: str = "") -> str:
    """Add the nodes of a built network, in float32, and return the name of its output.

    Parameters
    ----------
    graph : Graph
    model : Sequential
    x : str
        The name of its input: frames (n, c, h, w), or rows (n, d).
    scope : str, default ""
        The prefix of the names of its layers.

    Returns
    -------
    str
        The name of its output: maps (n, c, h, w), or rows in framecnn's order.

    Raises
    ------
    FormatError
        If the class of a layer is not in :data:`ONNX_CONVERTERS`.
    """
    return _in_our_order(graph, _add_layers(graph, model.layers, Value(x), scope)).name


def _add_layers(graph: Graph, layers: Sequence[Layer], value: Value, scope: str) -> Value:
    for name, layer in zip(layer_names(layers), layers, strict=True):
        graph.scope = scope + name
        value = ONNX_CONVERTERS.of(layer)(graph, layer.require_built(), value)
    return value


def _in_our_order(graph: Graph, value: Value) -> Value:
    if not value.flattened:
        return value
    indices = np.argsort(flattened_order(value.flattened))
    return Value(graph.add("Gather", value.name, graph.constant(indices), axis=1))


@ONNX_CONVERTERS.register(DropoutLayer)
def _dropout(graph: Graph, layer: DropoutLayer, value: Value) -> Value:
    return value


@ONNX_CONVERTERS.register(FlatteningLayer)
def _flattening(graph: Graph, layer: FlatteningLayer, value: Value) -> Value:
    flattened = flattened_from(layer.input_shape) if _has_maps(layer) else value.flattened
    return Value(graph.add("Flatten", value.name), flattened)


@ONNX_CONVERTERS.register(InputLayer)
def _input(graph: Graph, layer: InputLayer, value: Value) -> Value:
    if layer.scale == 1:
        return value
    return value._replace(name=graph.add("Mul", value.name, graph.constant(np.float32(layer.scale))))


@ONNX_CONVERTERS.register(ActivationLayer)
def _activation(graph: Graph, layer: ActivationLayer, value: Value) -> Value:
    return value._replace(name=add_activation(graph, layer, value.name))


@ONNX_CONVERTERS.register(ParallelLayer)
def _parallel(graph: Graph, layer: ParallelLayer, value: Value) -> Value:
    scope, branches = graph.scope, layer.built_branches()
    values = [
        _add_layers(graph, branch, value, f"{scope}/branch_{number}/")
        for number, branch in enumerate(branches, start=1)
    ]
    graph.scope = scope
    if layer.merge == "concatenate":
        lengths = [(branch[-1].output_shape if branch else layer.input_shape)[-1] for branch in branches]
        flattened = joined(zip(lengths, (value.flattened for value in values), strict=True))
        y = graph.add("Concat", *(value.name for value in values), axis=1 if _has_maps(layer) else -1)
        return Value(y, flattened)
    if len({value.flattened for value in values}) > 1:
        values = [_in_our_order(graph, value) for value in values]
    names = [value.name for value in values]
    if layer.merge == "multiply":
        return values[0]._replace(name=reduce(partial(graph.add, "Mul"), names))
    return values[0]._replace(name=graph.add("Add" if len(names) == 2 else "Sum", *names))


@ONNX_CONVERTERS.register(ScalingLayer)
def _scaling(graph: Graph, layer: ScalingLayer, value: Value) -> Value:
    scale, offset = (_per_channel(graph, layer, parameter, value) for parameter in layer.params.values())
    return value._replace(name=graph.add("Add", graph.add("Mul", value.name, scale), offset))


@ONNX_CONVERTERS.register(PaddingLayer)
def _padding(graph: Graph, layer: PaddingLayer, value: Value) -> Value:
    (top, bottom), (left, right) = layer.padding
    pads = graph.constant([0, 0, top, left, 0, 0, bottom, right])
    return Value(graph.add("Pad", value.name, pads, graph.constant(np.float32(layer.value))))


@ONNX_CONVERTERS.register(BatchNormLayer)
def _batch_norm(graph: Graph, layer: BatchNormLayer, value: Value) -> Value:
    weights = (_weight(graph, parameter, value.flattened) for parameter in layer.params.values())
    return value._replace(name=graph.add("BatchNormalization", value.name, *weights, epsilon=layer.epsilon))


@ONNX_CONVERTERS.register(DenseLayer)
def _dense(graph: Graph, layer: DenseLayer, value: Value) -> Value:
    kernel = _weight(graph, layer.params["kernel"], value.flattened, transposed=True)
    return Value(graph.add("Gemm", value.name, kernel, *_bias(graph, layer), transB=1))


def _has_maps(layer: Layer) -> bool:
    return len(layer.input_shape) == 3


def _weight(graph: Graph, array: Array, flattened: Flattened, transposed: bool = False) -> str:
    """Add a parameter, with its first axis (features) in ONNX's order, and return its name."""
    array = np.asarray(array, np.float32)
    array = array[flattened_order(flattened)] if flattened else array
    return graph.constant(array.T if transposed else array)


def _per_channel(graph: Graph, layer: Layer, array: Array, value: Value) -> str:
    """Add one number per channel, or per feature of rows, and return its name."""
    if _has_maps(layer):
        return graph.constant(np.asarray(array, np.float32)[:, None, None])
    return _weight(graph, array, value.flattened)


def _bias(graph: Graph, layer: Layer) -> Iterable[str]:
    return (_weight(graph, value, ()) for name, value in layer.params.items() if name == "bias")


def _filters_first(graph: Graph, kernel: Array) -> str:
    """Add a kernel (kh, kw, c, filters) as (filters, c, kh, kw) and return its name."""
    return graph.constant(np.asarray(kernel, np.float32).transpose(3, 2, 0, 1))


@ONNX_CONVERTERS.register(ConvLayer)
def _convolution(graph: Graph, layer: ConvLayer, value: Value) -> Value:
    y = graph.add(
        "Conv",
        value.name,
        _filters_first(graph, layer.params["kernel"]),
        *_bias(graph, layer),
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        pads=_pads(layer, layer.kernel_size),
        dilations=layer.dilation_rate,
        group=layer.groups,
    )
    return Value(y)


def _pads(layer: ConvLayer | PoolingLayer, size: geometry.Pair) -> tuple[int, int, int, int]:
    frame = layer.input_shape[0], layer.input_shape[1]
    sliding = size, layer.strides, layer.dilation_rate, layer.padding
    (top, bottom), (left, right) = geometry.sliding_window(frame, *sliding, type(layer).__name__).border
    return top, left, bottom, right


@ONNX_CONVERTERS.register(PoolingLayer)
def _pooling(graph: Graph, layer: PoolingLayer, value: Value) -> Value:
    if layer.mode.startswith("adaptive"):
        return Value(_adaptive_pooling(graph, layer, value.name))
    dilations = {} if layer.dilation_rate == (1, 1) else {"dilations": layer.dilation_rate}
    size, pads = layer.pool_size, _pads(layer, layer.pool_size)
    return Value(
        graph.add(POOLS[layer.mode], value.name, kernel_shape=size, strides=layer.strides, pads=pads, **dilations)
    )


def _adaptive_pooling(graph: Graph, layer: PoolingLayer, x: str) -> str:
    """Add one pooling if cells have equal sizes and steps, else matrix products for means or slices for maxima."""
    if layer.pool_size == (1, 1):
        return graph.add(f"Global{POOLS[layer.reduction]}", x)
    height, width, _ = layer.input_shape
    axes, pool = layer.windows((height, width)), POOLS[layer.reduction]
    down, across = map(_even_cells, axes)
    if down and across:
        size, strides = zip(down, across, strict=True)
        return graph.add(pool, x, kernel_shape=size, strides=strides)
    if layer.reduction == "average":
        return _product(graph, *resampling_matrices(layer, (height, width)), x)
    for axis, (starts, stops, _) in enumerate(axes):
        cells = []
        for start, stop in zip(starts, stops, strict=True):
            part = graph.add("Slice", x, *(graph.constant([n]) for n in (start, stop, axis + 2)))
            size = (stop - start, 1) if axis == 0 else (1, stop - start)
            cells.append(graph.add(pool, part, kernel_shape=size))
        x = graph.add("Concat", *cells, axis=axis + 2)
    return x


def _even_cells(cells: geometry.Ranges) -> geometry.Pair | None:
    """Return size and step of cells, or None if they differ; a single cell has step 1."""
    starts, stops, _ = cells
    sizes, steps = set((stops - starts).tolist()), set(np.diff(starts).tolist()) or {1}
    return (sizes.pop(), steps.pop()) if len(sizes) == len(steps) == 1 and 0 not in steps else None


@ONNX_CONVERTERS.register(DownsamplingLayer)
def _downsampling(graph: Graph, layer: DownsamplingLayer, value: Value) -> Value:
    if layer.mode == "mean":
        return Value(graph.add("AveragePool", value.name, kernel_shape=layer.factor, strides=layer.factor))
    stops = [length * step for length, step in zip(layer.output_shape[:2], layer.factor, strict=True)]
    limits = (graph.constant(pair) for pair in ([0, 0], stops, [2, 3], layer.factor))
    return Value(graph.add("Slice", value.name, *limits))


@ONNX_CONVERTERS.register(ResizingLayer)
def _resizing(graph: Graph, layer: ResizingLayer, value: Value) -> Value:
    height, width, _ = layer.input_shape
    return Value(_product(graph, *resampling_matrices(layer, (height, width)), value.name))


@ONNX_CONVERTERS.register(FilterBankLayer)
def _filter_bank(graph: Graph, layer: FilterBankLayer, value: Value) -> Value:
    """Add a convolution by centred filters, divided by the standard deviation of each window."""
    x, kernel = value.name, layer.params["kernel"].astype(np.float64)
    centred = _filters_first(graph, kernel - kernel.mean(axis=(0, 1, 2)))
    response = graph.add("Conv", x, centred, strides=layer.strides)
    response = graph.add("Div", response, graph.add("Cast", _deviation(graph, layer, x), to=FLOAT))
    bias = layer.params["bias"].astype(np.float32)[:, None, None]
    response = graph.add("Add", response, graph.constant(bias))
    maps = [
        graph.add("Relu", graph.add("Sub", response, graph.constant(np.float32(threshold))))
        for threshold in layer.thresholds
    ]
    return Value(graph.add("Concat", *maps, axis=1))


def _deviation(graph: Graph, layer: FilterBankLayer, x: str) -> str:
    """Add sqrt(variance + contrast) of the windows, (n, 1, oh, ow).

    It is computed in float64, as the variance is a difference of squares. Means are matrix products, since few engines
    pool float64.
    """
    height, width, channels = layer.input_shape
    axes = zip((height, width), layer.output_shape[:2], layer.kernel_size, layer.strides, strict=True)
    windows = [geometry.window_pixels(*axis, dilation=1, before=0) for axis in axes]
    rows, columns = (averaging_matrix(*axis) for axis in zip((height, width), windows, strict=True))

    def window_mean(value: str) -> str:
        return _product(graph, rows / channels, columns, graph.reduce("ReduceSum", value, 1, keepdims=True))

    wide = graph.add("Cast", x, to=DOUBLE)
    mean, squares = window_mean(wide), window_mean(graph.add("Mul", wide, wide))
    variance = graph.add("Relu", graph.add("Sub", squares, graph.add("Mul", mean, mean)))
    return graph.add("Sqrt", graph.add("Add", variance, graph.constant(np.float64(layer.contrast))))


def _product(graph: Graph, rows: Array, columns: Array, x: str) -> str:
    """Add ``rows @ x @ columns.T`` for each channel and return the name of its output."""
    return graph.add("MatMul", graph.add("MatMul", graph.constant(rows), x), graph.constant(columns.T))
