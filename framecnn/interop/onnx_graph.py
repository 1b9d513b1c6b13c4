"""ONNX graphs as plain data: the nodes on which the output depends, and constants, folded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from framecnn.interop.onnx_constants import Folding, constant_value, stored_array
from framecnn.interop.onnx_library import FLOATS
from framecnn.typing import Array, Shape

__all__ = ["FileGraph", "Node", "needed_nodes", "read_graph"]

DOMAINS = ("", "ai.onnx")  # two names of ONNX's own operators
OLDEST_OPSET = 6  # the first with broadcasting and shapes much like today's
ANY_BATCH = 1_000_003  # the size that stands for any batch: a prime number, which no other axis has by chance


@dataclass(frozen=True, eq=False, repr=False)
class Node:
    """An operator, the names of its inputs (empty where one is left out) and outputs, and its attributes.

    Each is equal to itself only, and is printed as errors name it.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]
    name: str = ""

    def __repr__(self) -> str:
        return f"{self.operator} {self.name!r}" if self.name else self.operator


@dataclass(frozen=True)
class FileGraph:
    """A graph with one input and one output.

    Attributes
    ----------
    nodes : list of Node
        In an order in which inputs come before what is computed from them; without constants and identities.
    constants : dict of str to array
    input, output : str
        Names of values.
    sizes : tuple of int
        The sizes of the input without the batch, as the file orders them; empty for a list of numbers.
    dtype : numpy.dtype
        Of the input.
    batch : int
        The size of the batch, or the number that stands for any size.
    opset : int
    """

    nodes: list[Node]
    constants: dict[str, Array]
    input: str
    output: str
    sizes: Shape
    dtype: np.dtype[Any]
    batch: int
    opset: int

    def computed(self, node: Node) -> list[str]:
        """Return the inputs of a node that are no constants."""
        return [name for name in node.inputs if name and name not in self.constants]


def read_graph(onnx: Any, model: Any) -> FileGraph:
    """Return the graph of a checked onnx.ModelProto.

    Parameters
    ----------
    onnx : module
    model : onnx.ModelProto

    Raises
    ------
    ValueError
        If it has several inputs or outputs, its opset is too old, or a constant cannot be read.
    """
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    ports = [port for port in graph.input if port.name not in stored]
    if (len(ports), len(graph.output)) != (1, 1):
        raise ValueError(f"expected one input and one output, got {len(ports)} and {len(graph.output)}")
    opset = max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=0)
    if opset < OLDEST_OPSET:
        raise ValueError(f"expected opset {OLDEST_OPSET} or newer, got {opset}; use onnx.version_converter")
    dtype, sizes, batch = _port(ports[0])
    constants = {tensor.name: stored_array(onnx, tensor) for tensor in graph.initializer}
    shapes = _known_shapes(onnx, model, ports[0], batch)
    nodes, renamed = _folded(list(_nodes(onnx, graph)), constants, shapes)
    output = renamed.get(graph.output[0].name, graph.output[0].name)
    kept = needed_nodes(nodes, output)
    return FileGraph(kept, constants, ports[0].name, output, sizes, dtype, batch, opset)


def needed_nodes(nodes: Sequence[Node], output: str) -> list[Node]:
    """Return the nodes on which the output depends, in order.

    Examples
    --------
    >>> nodes = [Node("Relu", ("x",), ("y",), {}), Node("Elu", ("x",), ("z",), {})]
    >>> [node.operator for node in needed_nodes(nodes, "y")]
    ['Relu']
    """
    needed, kept = {output}, []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _port(value: Any) -> tuple[np.dtype[Any], Shape, int]:
    """Return dtype, sizes without the batch (empty for a list of numbers), and batch size of the input."""
    kind = value.type.tensor_type
    if kind.elem_type not in FLOATS:
        raise ValueError(f"expected float32 or float64 as input {value.name!r}, got numbers of type {kind.elem_type}")
    batch, *sizes = [dimension.dim_value for dimension in kind.shape.dim] or [0]
    if not all(size > 0 for size in sizes) or not kind.shape.dim:
        raise ValueError(f"expected input {value.name!r} of fixed sizes after the batch, got {sizes}")
    return FLOATS[kind.elem_type], tuple(sizes), batch if batch > 0 else ANY_BATCH


def _nodes(onnx: Any, graph: Any) -> Iterator[Node]:
    for node in graph.node:
        operator = node.op_type if node.domain in DOMAINS else f"{node.domain}.{node.op_type}"
        plain = Node(operator, tuple(node.input), tuple(node.output), {}, node.name)
        with _naming(plain):
            settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            arrays = {
                name: stored_array(onnx, value)
                for name, value in settings.items()
                if isinstance(value, onnx.TensorProto)
            }
        yield Node(operator, plain.inputs, plain.outputs, settings | arrays, node.name)


class _naming:
    """A context in which a ValueError begins with the node that is read."""

    def __init__(self, node: Node):
        self._node = node

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ValueError):
            raise ValueError(f"cannot take {self._node}: {error}") from error


def _known_shapes(onnx: Any, model: Any, port: Any, batch: int) -> dict[str, list[int]]:
    """Return the shapes of values, if the graph asks for shapes of values; `batch` stands for any size of the batch."""
    if not any(node.op_type in ("Expand", "Shape") for node in model.graph.node):
        return {}
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    for value in fixed.graph.input:
        if value.name == port.name:
            value.type.tensor_type.shape.dim[0].dim_value = batch
    fixed.graph.output[0].type.tensor_type.ClearField("shape")
    values = [*onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph.value_info, *fixed.graph.input]
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in values}
    return {name: sizes for name, sizes in shapes.items() if all(sizes)}


def _folded(
    nodes: Sequence[Node], constants: dict[str, Array], shapes: Mapping[str, list[int]]
) -> tuple[list[Node], dict[str, str]]:
    """Return the nodes that depend on the input, and the names of what identities pass on; add to the constants."""
    folding, kept, renamed, expanded = Folding(), list[Node](), dict[str, str](), dict[str, tuple[str, list[int]]]()
    for node in nodes:
        node = replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))
        value = None
        with _naming(node):
            if node.operator == "Constant":
                value = constant_value(node.settings)
            elif node.operator == "Identity":
                renamed[node.outputs[0]] = node.inputs[0]
                continue
            elif node.operator == "Shape" and node.inputs[0] in shapes:
                value = np.array(shapes[node.inputs[0]][slice(node.settings.get("start", 0), node.settings.get("end"))])
            elif node.operator == "Expand" and node.inputs[1] in constants:
                expanded[node.outputs[0]] = node.inputs[0], constants[node.inputs[1]].tolist()
            elif node.operator == "Mul":
                node = _without_expansion(node, expanded, shapes)
            if (
                value is None
                and node.inputs
                and all(name in constants or not name for name in node.inputs)
                and folding.can_fold(node.operator)
            ):
                inputs = [constants.get(name) for name in node.inputs]
                value = folding.folded(node.operator, node.settings, inputs)
        if value is None:
            kept.append(node)
        else:
            constants[node.outputs[0]] = value
    return kept, renamed


def _without_expansion(
    node: Node, expanded: Mapping[str, tuple[str, list[int]]], shapes: Mapping[str, list[int]]
) -> Node:
    """Return a product in which one factor need not be expanded to the shape of the other, as products broadcast."""
    for name, other in (node.inputs, node.inputs[::-1]):
        source, sizes = expanded.get(name, ("", []))
        if sizes and sizes == shapes.get(other):
            return replace(node, inputs=(source, other) if name == node.inputs[0] else (other, source))
    return node
