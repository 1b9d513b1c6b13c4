"""Series-parallel graphs: nodes one after the other, and branches that separate at a value and meet at a node."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from framecnn.interop.onnx_graph import FileGraph, Node

__all__ = ["MERGES", "Item", "Merge", "decomposed", "with_nested_concatenations"]

MERGES = {"Add": "add", "Concat": "concatenate", "Mul": "multiply", "Sum": "add"}
"""Operators at which branches meet, and what that is called in a ParallelLayer."""

DEEPEST = 30
"""How many branches may lie inside one another."""


@dataclass(frozen=True)
class Merge:
    """Branches, and the node at which they meet; an empty branch passes the value on."""

    node: Node
    branches: tuple[tuple["Item", ...], ...]


Item = Node | Merge


def decomposed(graph: FileGraph) -> tuple[Item, ...]:
    """Return the nodes and merges from the input to the output, in order, each node once.

    A value from which branches separate dominates the node at which they meet: every path from the input leads through
    it. It is the nearest such value, so the branches are found by walking backwards from the node's inputs to it. As no
    node is walked twice, the time grows linearly with the graph, but for a logarithm to find the nearest dominator.

    Raises
    ------
    ValueError
        If the graph is not series-parallel, or nests branches too deep.
    """
    return _Decomposition(graph).chain(graph.input, graph.output, depth=0)


class _Decomposition:
    def __init__(self, graph: FileGraph):
        self._inputs = {node.outputs[0]: graph.computed(node) for node in graph.nodes}
        self._producers = {node.outputs[0]: node for node in graph.nodes}
        self._dominators = _Dominators(graph.input)
        for value, inputs in self._inputs.items():
            self._dominators.add(value, inputs)
        self._taken: set[str] = set()

    def chain(self, start: str, end: str, depth: int) -> tuple[Item, ...]:
        """Return what lies between two values, of which the first dominates the second."""
        items: list[Item] = []
        while end != start:
            node, inputs = self._producers[end], self._inputs[end]
            self._check_free(node)
            if len(inputs) == 1:
                items.append(node)
                end = inputs[0]
            else:
                merge, end = self._merge(node, inputs, depth + 1)
                items.append(merge)
        return tuple(reversed(items))

    def _merge(self, node: Node, inputs: list[str], depth: int) -> tuple[Merge, str]:
        """Return the branches that meet at a node in some of its inputs, and the value from which they separate."""
        if depth > DEEPEST:
            raise ValueError(f"cannot take {node.called}: expected at most {DEEPEST} branches inside one another")
        start = reduce(self._dominators.nearest, inputs)
        branches: list[tuple[Item, ...]] = []
        for group in self._groups(node, inputs, start):
            if len(group) == 1:
                branches.append(self.chain(start, group[0], depth))
            else:
                inner, separated = self._merge(node, group, depth + 1)
                branches.append((*self.chain(start, separated, depth), inner))
        return Merge(node, _joined(node, branches)), start

    def _groups(self, node: Node, inputs: list[str], start: str) -> list[list[str]]:
        """Return which inputs depend on the same value after `start`."""
        groups: dict[object, list[str]] = {}
        last: object = None
        for place, value in enumerate(inputs):
            key = place if value == start else self._dominators.first_after(start, value)
            if key in groups and key != last and MERGES[node.operator] == "concatenate":
                raise ValueError(
                    f"cannot take {node.called}: expected inputs computed from {key!r} one after the other, "
                    "got others between them"
                )
            groups.setdefault(key, []).append(value)
            last = key
        return list(groups.values())

    def _check_free(self, node: Node) -> None:
        value = node.outputs[0]
        if value in self._taken:
            users = [other.called for other in self._producers.values() if value in other.inputs]
            raise ValueError(
                f"cannot take {node.called}: expected branches that separate at one value and meet at one node (a "
                f"series-parallel graph), got {value!r}, which goes to {', '.join(users)}, in branches that meet apart"
            )
        self._taken.add(value)


def _joined(node: Node, branches: list[tuple[Item, ...]]) -> tuple[tuple[Item, ...], ...]:
    """Return branches as those of one merge where the first only is a merge of the same kind: (a + b) + c."""
    first = branches[0]
    if len(first) == 1 and isinstance(first[0], Merge):
        inner = first[0].node
        same = MERGES[inner.operator] == MERGES[node.operator] and inner.settings == node.settings
        if same and inner is not node:
            return (*first[0].branches, *branches[1:])
    return tuple(branches)


class _Dominators:
    """The tree of immediate dominators of values that are added after those from which they are computed.

    Every value holds a link to an ancestor that lets a walk to the root take a logarithm of its depth in steps (Myers,
    "An applicative random-access stack", 1983).
    """

    def __init__(self, root: str):
        self._depth, self._parent, self._link = {root: 0}, {root: root}, {root: root}

    def add(self, value: str, inputs: Iterable[str]) -> None:
        """Add a value, which is computed from others."""
        parent = reduce(self.nearest, inputs)
        link = self._link[parent]
        even = self._depth[parent] - self._depth[link] == self._depth[link] - self._depth[self._link[link]]
        self._depth[value], self._parent[value] = self._depth[parent] + 1, parent
        self._link[value] = self._link[link] if even else parent

    def nearest(self, a: str, b: str) -> str:
        """Return the nearest value that dominates, or is, each of two values."""
        a, b = self._above(a, self._depth[b]), self._above(b, self._depth[a])
        while a != b:
            tree = self._link if self._link[a] != self._link[b] else self._parent
            a, b = tree[a], tree[b]
        return a

    def first_after(self, start: str, value: str) -> str:
        """Return the value next to `start` on the way down to another one, which it dominates."""
        return self._above(value, self._depth[start] + 1)

    def _above(self, value: str, depth: int) -> str:
        """Return the dominator of a value, or the value itself, that is at most so deep."""
        while self._depth[value] > depth:
            linked = self._link[value]
            value = linked if self._depth[linked] >= depth else self._parent[value]
        return value


def with_nested_concatenations(graph: FileGraph) -> FileGraph:
    """Return a graph in which concat(a, b, c) is concat(concat(a, b), c) wherever concat(a, b) is a value already.

    Densely connected networks are written with all earlier values in every concatenation.
    """
    prefixes: dict[tuple[object, str], object] = {}
    values: dict[object, str] = {}
    nodes = []
    for node in graph.nodes:
        if node.operator == "Concat":
            # a prefix is known by a pair: the prefix before its last value, and that value
            state: object = node.settings.get("axis")
            inputs, known = node.inputs, 0
            for place, name in enumerate(inputs, start=1):
                state = prefixes.setdefault((state, name), object())
                if state in values:
                    shared, known = values[state], place
            values.setdefault(state, node.outputs[0])
            if known:
                node = replace(node, inputs=(shared, *inputs[known:]))
        nodes.append(node)
    return replace(graph, nodes=nodes)
