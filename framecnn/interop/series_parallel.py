"""Decomposition of a graph of operations into chains and merges: blocks in series and in parallel."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Union

from framecnn.interop.dominators import Dominators

__all__ = ["Chain", "Merge", "NotSeriesParallelError", "decompose"]

DEEPEST = 32  # levels of branches within branches; the layers are nested as deep, and Python's stack is limited
Value = Hashable
Nodes = Mapping[Any, Sequence[Any]]
Chain = tuple[Union[Value, "Merge"], ...]
"""Operations in the order in which they are applied, each to the output of the one before it."""


@dataclass(frozen=True)
class Merge:
    """An operation on the outputs of several branches, which all begin with the same value.

    Parameters
    ----------
    node : hashable
        The operation. One with more than two inputs may be split into several merges with the same node.
    branches : tuple of Chain
        One for each input, in the order of the inputs; an empty one passes the value on.
    """

    node: Value
    branches: tuple[Chain, ...]


class NotSeriesParallelError(ValueError):
    """A graph does not consist of blocks in series and in parallel."""


def decompose(nodes: Nodes, source: Value, target: Value, concatenations: Collection[Value] = ()) -> Chain:
    """Return the operations that lead from one value of a graph to another, as nested chains and merges.

    An operation and its output value have one name. Operations that do not lead to the target are ignored.

    Parameters
    ----------
    nodes : mapping of hashable to sequence of hashable
        For each operation the values that it takes, without constants. An operation with more than two inputs must be
        associative, like a sum of three values.
    source, target : hashable
        The value that all operations take in the end, and the value to compute.
    concatenations : collection of hashable
        The operations whose inputs have an order. All join along the same axis: where the graph is not series-parallel
        as it stands, one whose inputs begin with all those of another takes the output of the other instead.

    Returns
    -------
    Chain
        Every operation that leads to the target occurs once. The time is linear in the number of inputs, apart from a
        logarithm of the length of the graph.

    Raises
    ------
    NotSeriesParallelError
        If a value has several consumers whose branches do not end at one merge, if an operation is nested in more than
        32 merges, takes no value or takes one that nothing computes, or if operations form a circle.

    Notes
    -----
    The branches of a merge begin at its immediate dominator: the last value that every path from the source to the
    merge goes through.

    References
    ----------
    Cooper, Harvey & Kennedy, "A Simple, Fast Dominance Algorithm", 2001; Valdes, Tarjan & Lawler, "The Recognition of
    Series Parallel Digraphs", SIAM Journal on Computing 11, 1982.

    Examples
    --------
    >>> decompose({"a": ["x"], "b": ["a"], "sum": ["b", "x"], "y": ["sum"]}, "x", "y")
    (Merge(node='sum', branches=(('a', 'b'), ())), 'y')
    """
    inputs = _needed(nodes, source, target)
    order, joined = _sorted(inputs, source), set(concatenations)
    inputs = {node: inputs[node] for node in nodes if node in inputs}
    try:
        return _Decomposition(inputs, source, order, joined).chain(source, target)
    except NotSeriesParallelError:
        sharing = _sharing_beginnings(inputs, [node for node in order if node in joined])
        if sharing == inputs:
            raise
    needed = _needed(sharing, source, target)
    sharing = {node: values for node, values in sharing.items() if node in needed}
    return _Decomposition(sharing, source, order, joined).chain(source, target)


def _needed(nodes: Nodes, source: Value, target: Value) -> dict[Value, tuple[Value, ...]]:
    """Return the inputs of the operations that lead to the target."""
    found: dict[Value, tuple[Value, ...]] = {source: ()}
    waiting = [target]
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        if not nodes.get(node):
            raise NotSeriesParallelError(
                f"expected operations that all depend on {source!r}, got {node!r}, which does not"
            )
        found[node] = tuple(nodes[node])
        waiting.extend(found[node])
    return found


def _sorted(inputs: Nodes, source: Value) -> list[Value]:
    """Return all operations, each after its inputs."""
    try:
        return [node for node in TopologicalSorter(inputs).static_order() if node != source]
    except CycleError as error:
        names = ", ".join(map(repr, error.args[1]))
        raise NotSeriesParallelError(f"expected operations without a circle, got {names}") from error


def _sharing_beginnings(
    inputs: Mapping[Value, tuple[Value, ...]], concatenations: list[Value]
) -> dict[Value, tuple[Value, ...]]:
    """Return the inputs, the first of every concatenation replaced by an earlier concatenation of just these values."""
    replaced = dict(inputs)
    beginnings: dict[tuple[Any, Value], object] = {}  # a beginning by the one before it and its last value
    known: dict[Any, Value] = {}
    for node in concatenations:
        values, beginning, shared = inputs[node], None, (0, node)
        for length, value in enumerate(values, start=1):
            beginning = beginnings.setdefault((beginning, value), object())
            if beginning in known and 1 < length < len(values):
                shared = length, known[beginning]
        if shared[0]:
            replaced[node] = (shared[1], *values[shared[0] :])
        known.setdefault(beginning, node)
    return replaced


class _Decomposition:
    """A graph, and the immediate dominator of each of its operations."""

    def __init__(
        self, inputs: Mapping[Value, tuple[Value, ...]], source: Value, order: list[Value], joined: set[Value]
    ):
        self._inputs, self._joined = inputs, joined
        self._seen: set[Value] = set()
        self._dominators = Dominators(source)
        for node in order:
            if node in inputs:
                self._dominators.add(node, inputs[node])

    def chain(self, start: Value, end: Value, level: int = 0) -> Chain:
        """Return the operations from a value to one that it dominates."""
        steps: list[Value | Merge] = []
        while end != start:
            if end in self._seen:
                raise self._shared(end)
            self._seen.add(end)
            steps.append(self._step(end, self._inputs[end], level))
            end = self._dominators.of(end)
        return tuple(reversed(steps))

    def _step(self, node: Value, values: tuple[Value, ...], level: int) -> Value | Merge:
        """Return an operation, or the merge that it is if it takes several values."""
        if len(values) == 1:
            return node
        if level == DEEPEST:
            raise NotSeriesParallelError(f"expected at most {DEEPEST} levels of branches, got more at {node!r}")
        start = self._dominators.nearest(values)
        branches = []
        for places in self._groups(start, values):
            if node in self._joined and places[-1] - places[0] >= len(places):
                # joining these first would change the order
                raise self._shared(self._dominators.first_after(start, values[places[0]]))
            branches.append(self._branch(start, node, tuple(values[place] for place in places), level + 1))
        return Merge(node, tuple(branches))

    def _branch(self, start: Value, node: Value, group: tuple[Value, ...], level: int) -> Chain:
        """Return the branch of one input, or of several that have operations in common."""
        if len(group) == 1:
            return self.chain(start, group[0], level)
        return (*self.chain(start, self._dominators.nearest(group), level), self._step(node, group, level))

    def _groups(self, start: Value, values: tuple[Value, ...]) -> list[list[int]]:
        """Return the places of the inputs of a merge, together those that go through a common operation."""
        groups: dict[tuple[Value, int], list[int]] = defaultdict(list)
        for place, value in enumerate(values):
            groups[self._dominators.first_after(start, value), place if value == start else -1].append(place)
        return list(groups.values())

    def _shared(self, value: Value) -> NotSeriesParallelError:
        """Return the error for a value that two branches take."""
        consumers = [node for node, values in self._inputs.items() if value in values]
        return NotSeriesParallelError(
            f"expected blocks in series and in parallel, got {value!r}, which goes to "
            f"{', '.join(map(repr, consumers))}, whose branches do not end at one merge"
        )
