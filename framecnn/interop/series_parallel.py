"""Decomposition of a graph of operations into chains and merges: blocks in series and in parallel."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Union

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
        The operations whose inputs have an order. All join along the same axis: one whose inputs begin with all those
        of another takes the output of the other instead.

    Returns
    -------
    Chain
        Every operation that leads to the target occurs once. The time is linear in the number of inputs, apart from
        the inputs that concatenations have in common.

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
    order = _sorted(inputs, source)
    joined = set(concatenations)
    _share_beginnings(inputs, [node for node in order if node in joined])
    needed = _needed(inputs, source, target)
    inputs = {node: inputs[node] for node in nodes if node in needed}
    return _Decomposition(inputs, source, order, joined).chain(source, target)


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


def _share_beginnings(inputs: dict[Value, tuple[Value, ...]], concatenations: list[Value]) -> None:
    """Replace the first inputs of every concatenation by an earlier concatenation of just these values."""
    known: dict[tuple[Value, ...], Value] = {}
    for node in concatenations:
        values = inputs[node]
        for length in range(len(values) - 1, 1, -1):
            if values[:length] in known:
                inputs[node] = (known[values[:length]], *values[length:])
                break
        known.setdefault(values, node)


class _Decomposition:
    """A graph, and the immediate dominator of each of its operations."""

    def __init__(
        self, inputs: Mapping[Value, tuple[Value, ...]], source: Value, order: list[Value], joined: set[Value]
    ):
        self._inputs, self._joined = inputs, joined
        self._seen: set[Value] = set()
        self._dominators: dict[Value, Value] = {source: source}
        self._depths = {source: 0}
        for node in order:
            if node in inputs:
                self._dominators[node] = dominator = self._common_dominator(inputs[node])
                self._depths[node] = self._depths[dominator] + 1

    def _common_dominator(self, values: Sequence[Value]) -> Value:
        """Return the last value that every path to any of the values goes through; a value dominates itself."""
        common, *others = values
        for value in others:
            while common != value:
                if self._depths[common] < self._depths[value]:
                    value = self._dominators[value]
                else:
                    common = self._dominators[common]
        return common

    def chain(self, start: Value, end: Value, level: int = 0) -> Chain:
        """Return the operations from a value to one that it dominates."""
        steps: list[Value | Merge] = []
        while end != start:
            if end in self._seen:
                raise self._shared(end)
            self._seen.add(end)
            steps.append(self._step(end, self._inputs[end], level))
            end = self._dominators[end]
        return tuple(reversed(steps))

    def _step(self, node: Value, values: tuple[Value, ...], level: int) -> Value | Merge:
        """Return an operation, or the merge that it is if it takes several values."""
        if len(values) == 1:
            return node
        if level == DEEPEST:
            raise NotSeriesParallelError(f"expected at most {DEEPEST} levels of branches, got more at {node!r}")
        start = self._common_dominator(values)
        branches = []
        for places in self._groups(start, values):
            if node in self._joined and places[-1] - places[0] >= len(places):
                raise self._shared(self._first(start, values[places[0]]))  # joining them first would change the order
            branches.append(self._branch(start, node, tuple(values[place] for place in places), level + 1))
        return Merge(node, tuple(branches))

    def _branch(self, start: Value, node: Value, group: tuple[Value, ...], level: int) -> Chain:
        """Return the branch of one input, or of several that have operations in common."""
        if len(group) == 1:
            return self.chain(start, group[0], level)
        return (*self.chain(start, self._common_dominator(group), level), self._step(node, group, level))

    def _groups(self, start: Value, values: tuple[Value, ...]) -> list[list[int]]:
        """Return the places of the inputs of a merge, together those that go through a common operation."""
        groups: dict[tuple[Value, int], list[int]] = defaultdict(list)
        for place, value in enumerate(values):
            groups[self._first(start, value), place if value == start else -1].append(place)
        return list(groups.values())

    def _first(self, start: Value, value: Value) -> Value:
        """Return the first dominator of a value after `start`, or `start` if it is the value itself."""
        first = start
        while value != start:
            first, value = value, self._dominators[value]
        return first

    def _shared(self, value: Value) -> NotSeriesParallelError:
        """Return the error for a value that two branches take."""
        consumers = [node for node, values in self._inputs.items() if value in values]
        return NotSeriesParallelError(
            f"expected blocks in series and in parallel, got {value!r}, which goes to "
            f"{', '.join(map(repr, consumers))}, whose branches do not end at one merge"
        )
