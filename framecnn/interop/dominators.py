"""Dominators: the values of a graph through which every path to another value leads."""

from collections.abc import Hashable, Iterable
from functools import reduce
from typing import Any

__all__ = ["Dominators"]


class Dominators:
    """The tree of immediate dominators of values that are added after those from which they are computed.

    Every value holds a link to one of its dominators with which a walk towards the root takes a logarithm of its depth
    in steps, so that a long chain with many merges takes no quadratic time.

    Parameters
    ----------
    root : hashable
        The value on which all others depend.

    References
    ----------
    Myers, "An applicative random-access stack", Information Processing Letters 17, 1983.

    Examples
    --------
    >>> tree = Dominators("x")
    >>> tree.add("a", ["x"]); tree.add("b", ["a"]); tree.add("c", ["a", "b"])
    >>> tree.nearest(["b", "c"]), tree.first_after("x", "c"), tree.of("c")
    ('a', 'a', 'a')
    """

    def __init__(self, root: Hashable):
        self._depth: dict[Any, int] = {root: 0}
        self._parent: dict[Any, Any] = {root: root}
        self._link: dict[Any, Any] = {root: root}

    def add(self, value: Hashable, inputs: Iterable[Hashable]) -> None:
        """Add a value that is computed from others."""
        parent = self.nearest(inputs)
        link = self._link[parent]
        even = self._depth[parent] - self._depth[link] == self._depth[link] - self._depth[self._link[link]]
        self._depth[value], self._parent[value] = self._depth[parent] + 1, parent
        self._link[value] = self._link[link] if even else parent

    def of(self, value: Hashable) -> Any:
        """Return the immediate dominator of a value: the last other value that every path to it goes through."""
        return self._parent[value]

    def nearest(self, values: Iterable[Hashable]) -> Any:
        """Return the last value that every path to any of the values goes through; a value dominates itself."""
        return reduce(self._common, values)

    def first_after(self, start: Hashable, value: Hashable) -> Any:
        """Return the first dominator of a value after `start`, which dominates it, or `start` if it is the value."""
        return self._above(value, self._depth[start] + 1)

    def _common(self, a: Any, b: Any) -> Any:
        a, b = self._above(a, self._depth[b]), self._above(b, self._depth[a])
        while a != b:
            tree = self._link if self._link[a] != self._link[b] else self._parent
            a, b = tree[a], tree[b]
        return a

    def _above(self, value: Any, depth: int) -> Any:
        """Return the dominator of a value, or the value itself, that is at most so deep."""
        while self._depth[value] > depth:
            linked = self._link[value]
            value = linked if self._depth[linked] >= depth else self._parent[value]
        return value
