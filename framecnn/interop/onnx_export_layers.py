"""ONNX equivalents of layers: operators, attributes and weights, as plain data."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from framecnn import geometry
from framecnn.interop.layer_converters import LayerConverters
from framecnn.interop.onnx_layout import channel_order
from framecnn.interop.onnx_library import DOUBLE, FLOAT
from framecnn.kernels import triangle_taps
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
    PoolingLayer,
    ResizingLayer,
)
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array, Shape

__all__ = ["ONNX_CONVERTERS", "Graph", "Node", "Value", "add_network"]

POOLS = {"max": "MaxPool", "average": "AveragePool"}
ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}


class Node(NamedTuple):
    """An operator, the names of its inputs and of its output, and its attributes."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Graph:
    """Nodes and weights in the order in which they are added. Every value has a name.

    Parameters
    ----------
    opset : int
        The version of ONNX's operators.

    Attributes
    ----------
    nodes : list of Node
    weights : dict of str to array
        Equal weights are stored once.
    scope : str
        The prefix of the names of nodes and weights.

    Examples
    --------
    >>> graph = Graph(opset=17)
    >>> graph.scope = "scaling"
    >>> graph.add("Mul", "x", graph.constant(np.float32(0.5)))
    'scaling/Mul_1'
    >>> graph.weights
    {'scaling/weight_1': array(0.5, dtype=float32)}
    """

    def __init__(self, opset: int):
        self.opset = opset
        self.scope = "network"
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = {}
        self._names: dict[Any, str] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = f"{self.scope}/{operator}_{len(self.nodes) + 1}"
        self.nodes.append(Node(operator, inputs, output, attributes))
        return output

    def name_last(self, name: str) -> None:
        """Rename the output of the last node, which no other node may use yet."""
        self.nodes[-1] = self.nodes[-1]._replace(output=name)

    def constant(self, value: Any) -> str:
        """Add a weight, integers as int64, and return its name."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._names:
            name = self._names[key] = f"{self.scope}/weight_{len(self.weights) + 1}"
            self.weights[name] = array
        return self._names[key]

    def reduce(self, operator: str, value: str, axis: int, keepdims: bool = False) -> str:
        """Add ``"ReduceSum"`` or ``"ReduceMin"`` along an axis and return the name of its output."""
        if operator == "ReduceSum" or self.opset >= 18:  # since opset 18 axes are an input
            return self.add(operator, value, self.constant([axis]), keepdims=int(keepdims))
        return self.add(operator, value, axes=[axis], keepdims=int(keepdims))


class Value(NamedTuple):
    """The name of a value. `flattened` is the (h, w, c) of maps that were flattened to rows, channels first in ONNX."""

    name: str
    flattened: Shape | None = None


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
    value = Value(x)
    for name, layer in zip(model.names, model.layers, strict=True):
        graph.scope = scope + name
        value = ONNX_CONVERTERS.of(layer)(graph, layer.require_built(), value)
    if value.flattened is None:
        return value.name
    indices = np.argsort(channel_order(value.flattened))
    return graph.add("Gather", value.name, graph.constant(indices), axis=1)


@ONNX_CONVERTERS.register(DropoutLayer)
def _dropout(graph: Graph, layer: DropoutLayer, value: Value) -> Value:
    return value


@ONNX_CONVERTERS.register(FlatteningLayer)
def _flattening(graph: Graph, layer: FlatteningLayer, value: Value) -> Value:
    return Value(graph.add("Flatten", value.name), layer.input_shape if _has_maps(layer) else value.flattened)


@ONNX_CONVERTERS.register(InputLayer)
def _input(graph: Graph, layer: InputLayer, value: Value) -> Value:
    if layer.scale == 1:
        return value
    return value._replace(name=graph.add("Mul", value.name, graph.constant(np.float32(layer.scale))))


@ONNX_CONVERTERS.register(ActivationLayer)
def _activation(graph: Graph, layer: ActivationLayer, value: Value) -> Value:
    x = value.name
    match layer.function:
        case "softmax":
            y = graph.add("Softmax", x, axis=1 if _has_maps(layer) else -1)
        case "leaky_relu":
            y = graph.add("LeakyRelu", x, alpha=layer.negative_slope)
        case "sqrt":
            y = graph.add("Sqrt", graph.add("Relu", x))
        case function:
            y = graph.add(ACTIVATIONS[function], x)
    return value._replace(name=y)


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


def _weight(graph: Graph, array: Array, flattened: Shape | None, transposed: bool = False) -> str:
    """Add a parameter, with its first axis (features) in ONNX's order, and return its name."""
    array = np.asarray(array, np.float32)
    array = array if flattened is None else array[channel_order(flattened)]
    return graph.constant(array.T if transposed else array)


def _bias(graph: Graph, layer: Layer) -> Iterable[str]:
    return (_weight(graph, value, None) for name, value in layer.params.items() if name == "bias")


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
    height, width, _ = layer.input_shape
    axes, pool = layer.windows((height, width)), POOLS[layer.reduction]
    down, across = map(_even_cells, axes)
    if down and across:
        size, strides = zip(down, across, strict=True)
        return graph.add(pool, x, kernel_shape=size, strides=strides)
    if layer.reduction == "average":
        rows, columns = (_averaging(*axis).astype(np.float32) for axis in zip((height, width), axes, strict=True))
        return _product(graph, rows, x, columns)
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
    axes = zip(layer.input_shape[:2], layer.size, strict=True)
    rows, columns = (_resampling(length, size) for length, size in axes)
    return Value(_product(graph, rows, value.name, columns))


def _resampling(length: int, size: int) -> Array:
    """Return the matrix (size, length) that resamples an axis."""
    starts, _, weights = triangle_taps(length, size, np.dtype(np.float32))
    matrix = np.zeros((size, length + weights.shape[1]), np.float32)
    np.put_along_axis(matrix, starts[:, None] + np.arange(weights.shape[1]), weights, axis=1)
    return matrix[:, :length]


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
    rows, columns = (_averaging(*axis) for axis in zip((height, width), windows, strict=True))

    def window_mean(value: str) -> str:
        return _product(graph, rows / channels, graph.reduce("ReduceSum", value, 1, keepdims=True), columns)

    wide = graph.add("Cast", x, to=DOUBLE)
    mean, squares = window_mean(wide), window_mean(graph.add("Mul", wide, wide))
    variance = graph.add("Relu", graph.add("Sub", squares, graph.add("Mul", mean, mean)))
    return graph.add("Sqrt", graph.add("Add", variance, graph.constant(np.float64(layer.contrast))))


def _averaging(length: int, windows: geometry.Ranges) -> Array:
    """Return the matrix (windows, length) that averages the pixels of each window along an axis."""
    starts, stops, _ = windows
    pixels = np.arange(length)
    inside = (pixels >= starts[:, None]) & (pixels < stops[:, None])
    return inside / inside.sum(axis=1, keepdims=True)


def _product(graph: Graph, rows: Array, x: str, columns: Array) -> str:
    """Add ``rows @ x @ columns.T`` for each channel and return the name of its output."""
    return graph.add("MatMul", graph.add("MatMul", graph.constant(rows), x), graph.constant(columns.T))
