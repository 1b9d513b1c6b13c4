"""Functions that a graph holds as several operators, found and written as one: activations and resampling."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from framecnn.interop.onnx_graph import FileGraph, Node, needed_nodes
from framecnn.typing import Array

__all__ = ["clip_limits", "with_whole_functions"]

SIXTH = {"alpha": 1 / 6, "beta": 0.5}


class _Product(NamedTuple):
    """A number times one or two values."""

    factor: float
    values: tuple[str, ...]


def with_whole_functions(graph: FileGraph) -> FileGraph:
    """Return a graph in which each activation function is one node, and each product from both sides.

    ======================================================  =============
    operators                                               one node
    ======================================================  =============
    x sigmoid(x)                                            Swish
    clip(x + 3, 0, 6) / 6, clip(x / 6 + 0.5, 0, 1)          HardSigmoid
    x hard_sigmoid(x), x clip(x + 3, 0, 6) / 6              HardSwish
    x (1 + erf(x / sqrt(2))) / 2                            Gelu
    matrix @ x @ matrix                                     MatMul
    ======================================================  =============

    Factors may stand in any order, and numbers may divide instead of multiply.
    """
    nodes = _Search(graph).nodes()
    return replace(graph, nodes=needed_nodes(nodes, graph.output))


class _Search:
    def __init__(self, graph: FileGraph):
        self._graph = graph
        self._producers: dict[str, Node] = {}
        self._products: dict[str, _Product] = {}

    def nodes(self) -> list[Node]:
        """Return the nodes, of which some are no longer needed."""
        nodes = []
        for node in self._graph.nodes:
            value = node.outputs[0]
            if node.operator in ("Mul", "Div") and (product := self._product(node)):
                self._products[value] = product
                node = self._activation(node, product) or node
            elif node.operator == "Clip":
                node = self._clipped_line(node) or node
            elif node.operator == "MatMul":
                node = self._resampling(node) or node
            self._producers[value] = node
            nodes.append(node)
        return nodes

    def _product(self, node: Node) -> _Product | None:
        factor, values = 1.0, tuple[str, ...]()
        for place, name in enumerate(node.inputs):
            number = self._number(name)
            if number is not None and node.operator == "Div" and place == 1 and number != 0:
                factor /= number
            elif number is not None and node.operator == "Mul":
                factor *= number
            elif name in self._graph.constants or (node.operator == "Div" and place == 1):
                return None
            else:
                inner = self._products.get(name, _Product(1.0, (name,)))
                factor, values = factor * inner.factor, values + inner.values
        return _Product(factor, values) if len(values) in (1, 2) else None

    def _activation(self, node: Node, product: _Product) -> Node | None:
        """Return the one node that a product is, if any."""
        if len(product.values) == 1:
            (value,) = product.values
            x = self._above_minus_3(value)
            if x and _close(product.factor, 1 / 6):
                return _one_node(node, "HardSigmoid", x, SIXTH)
            return None
        for x, gate in (product.values, product.values[::-1]):
            other = self._producers.get(gate)
            if other is None:
                continue
            plain = _close(product.factor, 1)
            if plain and other.operator == "Sigmoid" and other.inputs[0] == x:
                return _one_node(node, "Swish", x, {})
            if plain and _is_hard_sigmoid(other) and other.inputs[0] == x:
                return _one_node(node, "HardSwish", x, {})
            if _close(product.factor, 1 / 6) and self._above_minus_3(gate) == x:
                return _one_node(node, "HardSwish", x, {})
            if _close(product.factor, 0.5) and self._normal_probability(gate) == x:
                return _one_node(node, "Gelu", x, {})
        return None

    def _above_minus_3(self, value: str) -> str | None:
        """Return x if a value is clip(x + 3, 0, 6)."""
        node = self._producers.get(value)
        if node is None or node.operator != "Clip" or self._limits(node) != (0, 6):
            return None
        return self._plus(node.inputs[0], 3)

    def _normal_probability(self, value: str) -> str | None:
        """Return x if a value is 1 + erf(x / sqrt(2))."""
        node = self._producers.get(self._plus(value, 1) or "")
        if node is None or node.operator != "Erf":
            return None
        product = self._products.get(node.inputs[0])
        if product is None or len(product.values) != 1 or not _close(product.factor, math.sqrt(0.5)):
            return None
        return product.values[0]

    def _clipped_line(self, node: Node) -> Node | None:
        """Return the one node for clip(x / 6 + 0.5, 0, 1)."""
        product = self._products.get(self._plus(node.inputs[0], 0.5) or "")
        if self._limits(node) != (0, 1) or product is None or len(product.values) != 1:
            return None
        return _one_node(node, "HardSigmoid", product.values[0], SIXTH) if _close(product.factor, 1 / 6) else None

    def _resampling(self, node: Node) -> Node | None:
        """Return the one product of maps with a stored matrix on either side."""
        inner, constants = self._producers.get(node.inputs[0]), self._graph.constants
        if inner is None or inner.operator != "MatMul" or len(inner.inputs) != 2 or node.inputs[1] not in constants:
            return None
        rows, x = inner.inputs
        if rows not in constants or x in constants:
            return None
        return replace(node, inputs=(x, rows, node.inputs[1]))

    def _plus(self, value: str, number: float) -> str | None:
        """Return x if a value is x + number."""
        node = self._producers.get(value)
        if node is None or node.operator != "Add":
            return None
        for x, other in (node.inputs, node.inputs[::-1]):
            if self._number(other) == number and x not in self._graph.constants:
                return x
        return None

    def _limits(self, node: Node) -> tuple[float, float]:
        return clip_limits(node.settings, [self._graph.constants.get(name) for name in node.inputs[1:]])

    def _number(self, name: str) -> float | None:
        """Return the value of a constant that is a single number."""
        constant = self._graph.constants.get(name)
        return None if constant is None or constant.size != 1 else float(constant.item())


def clip_limits(settings: Mapping[str, Any], given: Sequence[Array | None]) -> tuple[float, float]:
    """Return the limits of a Clip node, infinite where one is left out.

    Parameters
    ----------
    settings : mapping of str to value
        The attributes, which hold the limits before opset 11.
    given : sequence of array or None
        The inputs after the first, which hold them since.

    Examples
    --------
    >>> clip_limits({}, [np.array(0.0), None])
    (0.0, inf)
    """
    limits = {"min": -math.inf, "max": math.inf} | {name: settings[name] for name in ("min", "max") if name in settings}
    limits |= {name: value.item() for name, value in zip(("min", "max"), given, strict=False) if value is not None}
    return float(limits["min"]), float(limits["max"])


def _one_node(node: Node, operator: str, x: str, settings: dict[str, float]) -> Node:
    return Node(operator, (x,), node.outputs, settings, node.name)


def _is_hard_sigmoid(node: Node) -> bool:
    settings = node.settings
    return node.operator == "HardSigmoid" and all(
        _close(settings.get(name, default), SIXTH[name]) for name, default in (("alpha", 0.2), ("beta", 0.5))
    )


def _close(a: float, b: float) -> bool:
    """Return whether two numbers are the same but for the rounding of a few float32 operations."""
    return abs(a - b) <= 4 * float(np.finfo(np.float32).eps) * abs(b)
