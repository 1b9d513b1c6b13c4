"""Features of frames, computed in batches and kept in shards.

A shard is 512 frames in their order, and its features depend on these frames and the networks alone. In a cache folder,
features lie in a folder named by the SHA-256 of what computes them, in a file named by the SHA-256 of the frames of the
shard: of their pixels, or of what the frames' own method `digest` returns for them, if they have one. So a fit
computes the shards that are missing, whatever ended an earlier one, and a changed frame recomputes only its shard,
unless filters are learned from it.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from framecnn.data.shards import Shards, regular_edges
from framecnn.data.stored_shards import ShardStore, StoredShards
from framecnn.estimators.checks import check_overflow
from framecnn.estimators.reduction import needed_bytes
from framecnn.kernels.jit import current_isa
from framecnn.networks.sequential import Sequential
from framecnn.storage.container import canonical
from framecnn.typing import Array
from framecnn.version import __version__

__all__ = ["Known", "Output", "extract_shards"]

Batches = Callable[[Array], Iterator[tuple[slice, Array]]]
"""Takes rows; yields where in them a batch is, and its frames."""


class Output(NamedTuple):
    """One kind of features of a frame: how many, by which networks, and the other settings that they depend on."""

    n_features: int
    networks: Sequence[Sequential]
    settings: Sequence[Any] = ()

    def digest(self) -> str:
        """Return the SHA-256 of all that the features of a frame depend on, beside the frame."""
        software = [__version__, current_isa(), *map(version, ("pillow", "numpy", "numba", "llvmlite"))]
        total = hashlib.sha256(canonical({"settings": self.settings, "software": software}).encode())
        for network in self.networks:
            description, tensors = network.fitted_state()
            total.update(canonical(description).encode())
            for name, tensor in sorted(tensors.items()):
                total.update(f"{name!a} {tensor.dtype.str} {tensor.shape}".encode())
                total.update(tensor.tobytes())
        return total.hexdigest()


class Known(NamedTuple):
    """Features that are known already: rows in ascending order, and their features for each output."""

    rows: Array
    features: Sequence[Shards]


def extract_shards(
    who: str,
    frames: Any,
    rows: Array,
    batches: Batches,
    function: Callable[[Array], Sequence[Array]],
    outputs: Sequence[Output],
    store: ShardStore,
    known: Known | None = None,
) -> list[StoredShards]:
    """Return the features of the frames `rows`, in ascending order, for each output; missing ones are computed.

    ``function(frames)`` returns the features of a batch for each output.
    """

    def values(wanted: Array) -> Iterator[list[Array]]:
        """Yield the features of some rows, batch by batch."""
        for _, batch in batches(wanted):
            found = list(function(batch))
            for own in found:
                check_overflow(who, "features", own)
            yield found

    def again(output: int) -> Callable[[int], Array]:
        return lambda number: np.concatenate([own[output] for own in values(rows[edges[number] : edges[number + 1]])])

    edges = regular_edges(len(rows))
    store.reserved = needed_bytes(len(frames), sum(own.n_features for own in outputs))
    keys = [_digest(frames, part, batches) for part in np.split(rows, edges[1:-1])] if store.cache_dir else []
    shards = [
        StoredShards(store, edges, own.n_features, np.float32, again(number), own.digest() if keys else None, keys)
        for number, own in enumerate(outputs)
    ]
    missing = [number for number in range(len(edges) - 1) if not all(own.is_kept(number) for own in shards)]
    is_known = np.zeros(len(rows), bool) if known is None else np.isin(rows, known.rows)
    to_read = [np.flatnonzero(~is_known[edges[number] : edges[number + 1]]) + edges[number] for number in missing]
    source = _Rows(values(rows[np.concatenate([np.empty(0, np.int64), *to_read])]))
    for number, fresh in zip(missing, to_read, strict=True):
        places, first = slice(int(edges[number]), int(edges[number + 1])), int(edges[number])
        taken = source.take(len(fresh))
        old = np.flatnonzero(is_known[places]) + first
        for output, own in enumerate(shards):
            found = np.empty((places.stop - first, own.shape[1]), np.float32)
            if len(fresh):
                found[fresh - first] = taken[output]
            if known is not None and len(old):
                found[old - first] = known.features[output][np.searchsorted(known.rows, rows[old])]
            own.keep(number, found)
    return shards


class _Rows:
    """Rows that come in batches, taken in other numbers."""

    def __init__(self, batches: Iterator[list[Array]]):
        self._batches = batches
        self._left: list[list[Array]] = []

    def take(self, n: int) -> list[Array]:
        """Return the next n rows of every output; nothing if n is zero."""
        taken: list[list[Array]] = []
        while n:
            batch = self._left.pop() if self._left else next(self._batches)
            taken.append([own[:n] for own in batch])
            if len(batch[0]) > n:
                self._left.append([own[n:] for own in batch])
            n -= len(taken[-1][0])
        return [np.concatenate(parts) for parts in zip(*taken, strict=True)]


def _digest(frames: Any, rows: Array, batches: Batches) -> str:
    """Return the SHA-256 of some frames; their pixels are read unless the frames have a method `digest`."""
    own = getattr(frames, "digest", None)
    if own is not None:
        return str(own(rows))
    total = hashlib.sha256(f"{frames.dtype} {frames.shape[1:]}".encode())
    for _, batch in batches(rows):
        total.update(batch.tobytes())
    return total.hexdigest()
