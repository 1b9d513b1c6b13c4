"""Samples that are read in shards, so that an algorithm over them needs memory for a few shards only.

A shard is a run of 512 samples in the order of their source, whatever the machine, its memory or the number of threads.
So what is computed of a shard depends on the shard alone, and sums over shards in a fixed order have the same bits
wherever, and in which order, the shards were computed. What is done with shards whose samples are in files is done
where :mod:`framecnn.execution` runs tasks, if they are more than one task.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from framecnn.data.loader import map_ahead
from framecnn.execution import Executor, get_executor
from framecnn.typing import Array, Shape

__all__ = [
    "SHARD_ROWS",
    "TASK_SHARDS",
    "ArrayShards",
    "ComputedShards",
    "JoinedShards",
    "Shards",
    "StackedShards",
    "as_shards",
]

SHARD_ROWS = 512
TASK_SHARDS = 64  # that a task reads, if reading is all that they take


class Shards:
    """Samples (n, d) that are read in shards; a subclass implements :meth:`read`.

    It is indexed as an array, and ``np.asarray`` reads all of it.

    Parameters
    ----------
    edges : (n_shards + 1,) int array
        The first row of each shard, and the number of rows.
    n_features : int
    dtype : dtype

    Attributes
    ----------
    shape : (int, int)
    dtype : dtype
    sources : sequence of Shards
        The shards that these are made of.
    per_task : int
        The number of shards that are worth a task.
    """

    ndim = 2
    sources: "Sequence[Shards]" = ()

    def __init__(self, edges: Array, n_features: int, dtype: Any):
        self.edges = edges
        self.shape: Shape = (int(edges[-1]), n_features)
        self.dtype = np.dtype(dtype)

    def read(self, number: int) -> Array:
        """Return the rows of a shard, (at most 512, d)."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method read, got none; define it")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"

    @property
    def n_shards(self) -> int:
        """The number of shards."""
        return len(self.edges) - 1

    def rows(self, number: int) -> slice:
        """Return where the rows of a shard are."""
        return slice(int(self.edges[number]), int(self.edges[number + 1]))

    @property
    def is_remote(self) -> bool:
        """Whether workers can read the shards: all that they need is in files, or sent with them."""
        return bool(self.sources) and all(source.is_remote for source in self.sources)

    @property
    def per_task(self) -> int:
        """The number of shards that are worth a task."""
        return min((source.per_task for source in self.sources), default=TASK_SHARDS)

    def prepare(self) -> None:
        """Compute by tasks what other tasks are going to read."""
        for source in self.sources:
            source.prepare()

    def executor(self, n_tasks: int) -> Executor:
        """Return what runs so many tasks on these shards: this process if there is only one task."""
        if n_tasks < 2 or not self.is_remote:
            return Executor()
        self.prepare()
        return get_executor()

    def read_ahead(self, numbers: Iterable[int]) -> Iterator[Array]:
        """Yield the rows of some shards, of which the next one is read ahead."""
        return map_ahead(self.read, numbers, 1, 1)

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield where the rows of a shard are, and the rows, shard by shard, in this process."""
        filled = self._filled()
        yield from zip(map(self.rows, filled), self.read_ahead(filled), strict=True)

    def each(self, function: Callable[..., Any], *by_row: Array) -> Iterator[Any]:
        """Yield ``function(rows of a shard, *the same rows of other arrays)`` shard by shard, of those with rows."""
        filled = self._filled()
        return self._over([(number, [array[self.rows(number)] for array in by_row]) for number in filled], function)

    def _filled(self) -> list[int]:
        return np.flatnonzero(np.diff(self.edges)).tolist()

    def _over(self, shards: Sequence[tuple[int, list[Array]]], function: Callable[..., Any]) -> Iterator[Any]:
        """Yield ``function(rows, *arrays)`` of some shards: of each its number, and its arrays."""
        executor = self.executor(-(-len(shards) // self.per_task))
        tasks = ((portion,) for portion in executor.portions(shards, self.per_task))
        return chain.from_iterable(executor.map(_over, (self, function), tasks))

    def __getitem__(self, key: Any) -> Array:
        wanted = np.arange(len(self))[key]
        rows = np.atleast_1d(wanted)
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        shard_of = np.searchsorted(self.edges, rows, side="right") - 1
        order = np.argsort(shard_of, kind="stable")
        numbers, starts = np.unique(shard_of[order], return_index=True)
        places = np.split(order, starts[1:])
        own_rows = zip(numbers.tolist(), places, strict=False)
        shards = [(number, [rows[own] - self.edges[number]]) for number, own in own_rows]
        for own, taken in zip(places, self._over(shards, np.ndarray.__getitem__), strict=False):
            found[own] = taken
        return found if wanted.ndim else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self[:].astype(dtype or self.dtype, copy=False)

    def held(self, rows: Array) -> "Shards":
        """Return some rows, numbers in ascending order, in memory, in shards of 512."""
        return ArrayShards(self[rows])

    def subset(self, rows: Array) -> "Shards":
        """Return some rows, numbers in ascending order, read when they are needed, in the shards of these samples."""
        return SubsetShards(self, rows)

    def map(
        self, function: Callable[[Array, slice], Array], n_features: int | None = None, dtype: Any = None
    ) -> "Shards":
        """Return ``function(rows of a shard, where they are)`` shard by shard, computed when a shard is read."""
        n_features = self.shape[1] if n_features is None else n_features
        return MappedShards(self, function, n_features, self.dtype if dtype is None else dtype)

    def centred(self, mean: Array, weights: Array | None = None) -> "Shards":
        """Return the samples minus their mean (d,), in their dtype; `weights` (n,) are those of the mean, if any."""
        mean = mean.astype(self.dtype)
        return self.map(lambda block, _: block - mean)

    def scaled(self, factors: Array) -> "Shards":
        """Return the samples times factors (n, 1), in their dtype."""
        factors = factors.astype(self.dtype)
        return self.map(lambda block, rows: block * factors[rows])


class ArrayShards(Shards):
    """The rows of an array (n, d), in shards of 512 unless edges are given."""

    def __init__(self, array: Array, edges: Array | None = None):
        super().__init__(regular_edges(len(array)) if edges is None else edges, array.shape[1], array.dtype)
        self.array = array

    def read(self, number: int) -> Array:
        """Return the rows of a shard, without a copy."""
        return self.array[self.rows(number)]

    def read_ahead(self, numbers: Iterable[int]) -> Iterator[Array]:
        """Yield the rows of some shards."""
        return map(self.read, numbers)

    def subset(self, rows: Array) -> Shards:
        """Return a copy of some rows, in the shards in which they are."""
        return ArrayShards(self.array[rows], np.searchsorted(rows, self.edges))

    def __getitem__(self, key: Any) -> Array:
        return self.array[key]


class SubsetShards(Shards):
    """Some rows of other shards, in ascending order; a shard holds the rows that are in the same one there."""

    def __init__(self, shards: Shards, rows: Array):
        super().__init__(np.searchsorted(rows, shards.edges), shards.shape[1], shards.dtype)
        self.sources, self._wanted = [shards], rows

    def read(self, number: int) -> Array:
        """Return the rows of a shard that are wanted; none is read if none is wanted."""
        (shards,) = self.sources
        own = self._wanted[self.rows(number)] - shards.edges[number]
        return shards.read(number)[own] if len(own) else np.empty((0, self.shape[1]), self.dtype)


class MappedShards(Shards):
    """A function of the rows of other shards, computed when a shard is read."""

    def __init__(self, shards: Shards, function: Callable[[Array, slice], Array], n_features: int, dtype: Any):
        super().__init__(shards.edges, n_features, dtype)
        self.sources, self._function = [shards], function

    def read(self, number: int) -> Array:
        """Return the function of the rows of a shard."""
        return self._function(self.sources[0].read(number), self.rows(number))


class ComputedShards(Shards):
    """Rows that are computed each time a shard of 512 is read, by ``compute(where its rows are)``.

    `is_remote` says whether workers can compute them: what `compute` holds is sent to each.
    """

    per_task = 1

    def __init__(
        self, n_rows: int, n_features: int, dtype: Any, compute: Callable[[slice], Array], is_remote: bool = False
    ):
        super().__init__(regular_edges(n_rows), n_features, dtype)
        self._compute, self._is_remote = compute, is_remote

    @property
    def is_remote(self) -> bool:
        """Whether workers can compute the shards."""
        return self._is_remote

    def read(self, number: int) -> Array:
        """Return the rows of a shard."""
        return self._compute(self.rows(number))


class StackedShards(Shards):
    """The rows of several shards, one after another."""

    def __init__(self, parts: Sequence[Shards]):
        starts = np.cumsum([0, *map(len, parts)]).tolist()
        edges = [part.edges[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
        super().__init__(np.append(np.concatenate(edges), starts[-1]), parts[0].shape[1], parts[0].dtype)
        self.sources, self._places = parts, [(part, number) for part in parts for number in range(part.n_shards)]

    def read(self, number: int) -> Array:
        """Return the rows of a shard of one of the parts."""
        part, own_number = self._places[number]
        return part.read(own_number)


class JoinedShards(Shards):
    """The features of several shards of the same samples, side by side."""

    def __init__(self, parts: Sequence[Shards]):
        super().__init__(parts[0].edges, sum(part.shape[1] for part in parts), parts[0].dtype)
        self.sources = parts

    def read(self, number: int) -> Array:
        """Return the features of a shard of all parts."""
        return np.hstack([part.read(number) for part in self.sources])


def _over(shared: tuple[Shards, Callable[..., Any]], portion: Sequence[tuple[int, list[Array]]]) -> Iterator[Any]:
    """Yield a function of the rows of some shards, and of arrays; see :meth:`Shards.each`."""
    shards, function = shared
    for rows, (_, arrays) in zip(shards.read_ahead([number for number, _ in portion]), portion, strict=True):
        yield function(rows, *arrays)


def regular_edges(n_rows: int) -> Array:
    """Return the first row of each shard of 512, and the number of rows.

    Examples
    --------
    >>> regular_edges(1100)
    array([   0,  512, 1024, 1100])
    """
    return np.append(np.arange(0, n_rows, SHARD_ROWS), n_rows)


def as_shards(samples: Any) -> Shards:
    """Return samples (n, d) as shards: themselves, or the shards of an array."""
    return samples if isinstance(samples, Shards) else ArrayShards(np.asarray(samples))
