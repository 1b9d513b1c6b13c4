"""Features of frames, computed in batches and kept in shards.

A shard is 512 frames in their order, and its features depend on these frames and the networks alone. In a cache folder,
features lie in a folder named by the SHA-256 of what computes them, in a file named by the SHA-256 of the frames of the
shard: of their pixels, or of what the frames' own method `digest` returns for them, if they have one. So a fit
computes the shards that are missing, whatever ended an earlier one, and a changed frame recomputes only its shard,
unless filters are learned from it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from framecnn.data.shards import Shards, regular_edges
from framecnn.data.stored_shards import ShardStore, StoredShards
from framecnn.estimators.checks import check_overflow
from framecnn.estimators.reduction import needed_bytes
from framecnn.execution import Executor, check_cancelled, get_executor
from framecnn.kernels.jit import current_isa
from framecnn.networks.sequential import Sequential
from framecnn.storage.container import canonical
from framecnn.typing import Array
from framecnn.version import __version__

__all__ = ["Extraction", "Known", "Output", "extract_shards", "is_array"]

SAMPLE = 8  # files that all workers must see
DIGESTS = 16  # shards of a task

Batches = Callable[[Any, Array], Iterator[tuple[slice, Array]]]
"""Takes frames and rows; yields where in the rows a batch is, and its frames."""


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


class Extraction(NamedTuple):
    """How features are computed: ``function(batch)`` returns those of each output.

    `frames` are all frames, or None if each task gets its own.
    """

    who: str
    batches: Batches
    function: Callable[[Array], Sequence[Array]]
    beside: Any = None
    frames: Any = None

    def computed(self, frames: Any, rows: Array) -> Iterator[list[Array]]:
        """Yield the features of some rows, batch by batch."""
        for _, batch in self.batches(frames, rows):
            check_cancelled()
            found = list(self.function(batch))
            for own in found:
                check_overflow(self.who, "features", own)
            yield found

    @property
    def seconds(self) -> float:
        """The seconds that features beside the others took in this process, so far."""
        return 0.0 if self.beside is None else self.beside.seconds


class Piece(NamedTuple):
    """What is missing of a shard: its number, where its rows are that are read, and those that are known already."""

    number: int
    fresh: Array
    old: Array
    known: Sequence[Array]


def extract_shards(
    extraction: Extraction,
    frames: Any,
    rows: Array,
    outputs: Sequence[Output],
    store: ShardStore,
    known: Known | None = None,
) -> list[StoredShards]:
    """Return the features of the frames `rows`, in ascending order, for each output; missing ones are computed.

    Tasks on a cluster get their own frames only if the frames are an array, or have a method ``part(rows)``, else all
    of them. ``frames.taken(n)``, if there is such a method, is called when a task has read n frames.
    """
    executor, edges = get_executor(), regular_edges(len(rows))
    own_rows = np.split(rows, edges[1:-1])
    divide = _divider(frames) if executor.is_remote else None
    if executor.is_remote and hasattr(frames, "files_of"):
        executor.check_files(frames.files_of(rows[:: 1 + len(rows) // SAMPLE]))
    extraction = extraction._replace(frames=frames if divide is None else None)

    def task(parts: Sequence[Array], *others: Any) -> tuple[Any, ...]:
        wanted = np.concatenate([np.empty(0, np.int64), *parts])
        return (None, wanted, *others) if divide is None else (divide(wanted), np.arange(len(wanted)), *others)

    def again(output: int) -> Callable[[int], Array]:
        computed = extraction.computed
        return lambda number: np.concatenate([own[output] for own in computed(frames, own_rows[number])])

    store.reserved = needed_bytes(len(frames), sum(own.n_features for own in outputs))
    keys: list[str] = []
    if store.cache_dir is not None:
        by = Executor() if is_array(frames) else executor
        tasks = (task(parts, list(map(len, parts))) for parts in by.portions(own_rows, DIGESTS))
        keys = list(chain.from_iterable(by.map(_digests, extraction, tasks)))
    shards = [
        StoredShards(store, edges, own.n_features, np.float32, again(number), own.digest() if keys else None, keys)
        for number, own in enumerate(outputs)
    ]
    is_known = np.zeros(len(rows), bool) if known is None else np.isin(rows, known.rows)
    values = [] if known is None else [np.asarray(features) for features in known.features]

    def piece(number: int) -> Piece:
        own, is_old = own_rows[number], is_known[edges[number] : edges[number + 1]]
        fresh, old = np.flatnonzero(~is_old), np.flatnonzero(is_old)
        places = old if known is None else np.searchsorted(known.rows, own[old])
        return Piece(number, fresh, old, [found[places] for found in values])

    missing = [number for number in range(len(edges) - 1) if not all(own.is_kept(number) for own in shards)]
    tasks = (
        task(
            [own_rows[number][~is_known[edges[number] : edges[number + 1]]] for number in numbers], map(piece, numbers)
        )
        for numbers in executor.portions(missing)
    )
    shared = extraction, [own.files if executor.is_remote else own for own in shards]
    for n_rows, seconds in executor.map(_extract, shared, tasks):
        if executor.is_remote:
            getattr(frames, "taken", int)(n_rows)
            if extraction.beside is not None:
                extraction.beside.seconds += seconds / executor.n_tasks
    return shards


def _divider(frames: Any) -> Callable[[Array], Any] | None:
    """Return what returns some rows of the frames for a task on a cluster; None if it gets all of them."""
    if is_array(frames):
        return lambda rows: np.asarray(frames[rows])
    return getattr(frames, "part", None)


def is_array(frames: Any) -> bool:
    """Return whether frames are an array of NumPy, or of Dask, which a task must not compute: their rows are sent."""
    return isinstance(frames, np.ndarray) or hasattr(frames, "dask")


def _extract(
    shared: tuple[Extraction, Sequence[Any]], frames: Any, rows: Array, pieces: Iterable[Piece]
) -> tuple[int, float]:
    """Compute what is missing of some shards and keep it; return the number of frames, and seconds.

    `rows` are those of the frames of all pieces.
    """
    extraction, shards = shared
    if isinstance(pieces, list) and all(own.is_kept(piece.number) for piece in pieces for own in shards):
        return len(rows), 0.0  # a worker did this, and was killed before its client knew
    before = extraction.seconds
    source = _Rows(extraction.computed(extraction.frames if frames is None else frames, rows))
    for piece in pieces:
        taken, n_rows = source.take(len(piece.fresh)), len(piece.fresh) + len(piece.old)
        for output, own in enumerate(shards):
            found = np.empty((n_rows, own.shape[1]), np.float32)
            if len(piece.fresh):
                found[piece.fresh] = taken[output]
            if len(piece.old):
                found[piece.old] = piece.known[output]
            own.keep(piece.number, found)
    return len(rows), extraction.seconds - before


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


def _digests(extraction: Extraction, frames: Any, rows: Array, sizes: Sequence[int]) -> list[str]:
    """Return the SHA-256 of the frames of some shards, of these sizes; `rows` are those of all of them."""
    own = extraction.frames if frames is None else frames
    return [_digest(own, part, extraction.batches) for part in np.split(rows, np.cumsum(sizes)[:-1])]


def _digest(frames: Any, rows: Array, batches: Batches) -> str:
    """Return the SHA-256 of some frames; their pixels are read unless the frames have a method `digest`."""
    own = getattr(frames, "digest", None)
    if own is not None:
        return str(own(rows))
    total = hashlib.sha256(f"{frames.dtype} {frames.shape[1:]}".encode())
    for _, batch in batches(frames, rows):
        total.update(batch.tobytes())
    return total.hexdigest()
