"""Samples that are read in shards, so that an algorithm over them needs memory for a few shards only.

A shard is a run of 512 samples in the order of their source, whatever the machine, its memory or the number of threads.
So what is computed of a shard depends on the shard alone, and sums over shards in a fixed order have the same bits
wherever, and in which order, the shards were computed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from framecnn.data.loader import map_ahead
from framecnn.typing import Array, Shape

__all__ = ["SHARD_ROWS", "ArrayShards", "JoinedShards", "Shards", "StackedShards", "as_shards"]

SHARD_ROWS = 512


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
    """

    ndim = 2

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

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield where the rows of a shard are, and the rows, shard by shard; the next shard is read ahead."""
        filled = np.flatnonzero(np.diff(self.edges)).tolist()
        yield from zip(map(self.rows, filled), map_ahead(self.read, filled, 1, 1), strict=True)

    def __getitem__(self, key: Any) -> Array:
        wanted = np.arange(len(self))[key]
        rows = np.atleast_1d(wanted)
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        shard_of = np.searchsorted(self.edges, rows, side="right") - 1
        for number in np.unique(shard_of).tolist():
            own = shard_of == number
            found[own] = self.read(number)[rows[own] - self.edges[number]]
        return found if wanted.ndim else found[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self[:].astype(dtype or self.dtype, copy=False)

    def held(self, rows: Array) -> "Shards":
        """Return some rows, numbers in ascending order, in memory; their shards are those of these samples."""
        return ArrayShards(self[rows], np.searchsorted(rows, self.edges))

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

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield where the rows of a shard are, and the rows, shard by shard."""
        return ((self.rows(number), self.read(number)) for number in range(self.n_shards))

    def subset(self, rows: Array) -> Shards:
        """Return a copy of some rows, in the shards in which they are."""
        return ArrayShards(self.array[rows], np.searchsorted(rows, self.edges))

    def __getitem__(self, key: Any) -> Array:
        return self.array[key]


class SubsetShards(Shards):
    """Some rows of other shards, in ascending order; a shard holds the rows that are in the same one there."""

    def __init__(self, shards: Shards, rows: Array):
        super().__init__(np.searchsorted(rows, shards.edges), shards.shape[1], shards.dtype)
        self._shards, self._wanted = shards, rows

    def read(self, number: int) -> Array:
        """Return the rows of a shard that are wanted; none is read if none is wanted."""
        own = self._wanted[self.rows(number)] - self._shards.edges[number]
        return self._shards.read(number)[own] if len(own) else np.empty((0, self.shape[1]), self.dtype)


class MappedShards(Shards):
    """A function of the rows of other shards, computed when a shard is read."""

    def __init__(self, shards: Shards, function: Callable[[Array, slice], Array], n_features: int, dtype: Any):
        super().__init__(shards.edges, n_features, dtype)
        self._shards, self._function = shards, function

    def read(self, number: int) -> Array:
        """Return the function of the rows of a shard."""
        return self._function(self._shards.read(number), self.rows(number))


class StackedShards(Shards):
    """The rows of several shards, one after another."""

    def __init__(self, parts: Sequence[Shards]):
        starts = np.cumsum([0, *map(len, parts)]).tolist()
        edges = [part.edges[:-1] + start for part, start in zip(parts, starts[:-1], strict=True)]
        super().__init__(np.append(np.concatenate(edges), starts[-1]), parts[0].shape[1], parts[0].dtype)
        self._places = [(part, number) for part in parts for number in range(part.n_shards)]

    def read(self, number: int) -> Array:
        """Return the rows of a shard of one of the parts."""
        part, own_number = self._places[number]
        return part.read(own_number)


class JoinedShards(Shards):
    """The features of several shards of the same samples, side by side."""

    def __init__(self, parts: Sequence[Shards]):
        super().__init__(parts[0].edges, sum(part.shape[1] for part in parts), parts[0].dtype)
        self._parts = parts

    def read(self, number: int) -> Array:
        """Return the features of a shard of all parts."""
        return np.hstack([part.read(number) for part in self._parts])


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
