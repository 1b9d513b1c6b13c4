"""Frames that are decoded when they are indexed, and batches, of which the next one is decoded in advance."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from framecnn.data.decode import FileState, SkippedFrame, decode_with_state
from framecnn.errors import DataError, ShapeError
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array, Shape

__all__ = ["BatchLoader", "FrameLost", "LazyFrames"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class FrameLost(DataError):
    """Frames have vanished or changed since the folder was scanned.

    Parameters
    ----------
    paths : sequence of str
        Their paths, as in ``FrameFolder.samples`` and for ``FrameFolder.without``.
    reason : str
        ``vanished`` if all of them have vanished, else ``changed``.
    """

    def __init__(self, paths: Sequence[str], reason: str):
        super().__init__(tuple(paths), reason)
        self.paths = tuple(paths)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"LazyFrames: frames {self.reason} since the folder was scanned: {len(self.paths)} "
            f"(first: {self.paths[0]!r}); scan the folder again, and do not change it during the run"
        )


class LazyFrames:
    """The frames of a folder as an array that is decoded when it is indexed, in threads.

    ``frames[i]`` is one frame, ``frames[2:5]`` and ``frames[[0, 7]]`` are arrays of frames, ``np.asarray(frames)`` is
    all of them. Decoded frames are not cached.

    Parameters
    ----------
    root : Path or str
        The folder to which the paths are relative.
    paths : sequence of str, length n
        The files, relative to `root`.
    file_states : sequence of (int, int), length n
        Size in bytes and time of modification in nanoseconds of each file when it was scanned.
    size : (int, int)
        Height and width in pixels.

    Attributes
    ----------
    shape : tuple of int
        ``(n, height, width, 3)``.
    dtype : dtype
        uint8.

    Raises
    ------
    FrameLost
        While indexing, if a file vanished or changed since it was scanned.
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(self, root: Path | str, paths: Sequence[str], file_states: Sequence[FileState], size: tuple[int, int]):
        self._root = Path(root)
        self._paths = paths
        self._file_states = [(n_bytes, changed) for n_bytes, changed in file_states]
        self._size = (size[0], size[1])

    def config(self, size: tuple[int, int] | None = None) -> dict[str, Any]:
        """Return the arguments of the same frames, ready for JSON: ``LazyFrames(**config)`` makes them in any process.

        Parameters
        ----------
        size : (int, int), optional
            Height and width in pixels, instead of those of these frames.

        Returns
        -------
        dict
        """
        return {
            "root": str(self._root),
            "paths": list(self._paths),
            "file_states": [list(state) for state in self._file_states],
            "size": list(size or self._size),
        }

    def digest(self, rows: Array) -> str:
        """Return a SHA-256 of what some frames are, without decoding them: files, their sizes and times, and the size.

        Parameters
        ----------
        rows : (n,) int array

        Returns
        -------
        str

        Raises
        ------
        FrameLost
            If a file vanished or changed since it was scanned.
        """
        files = [(os.fspath(self._paths[row]), *self._file_states[row]) for row in rows.tolist()]
        lost = [(path, reason) for path, *state in files if (reason := self._lost(path, state))]
        if lost:
            raise _frames_lost(lost)
        text = json.dumps([str(self._root), self._size, files])
        return hashlib.sha256(text.encode()).hexdigest()

    def part(self, rows: Array) -> "LazyFrames":
        """Return some of the frames, (n,) rows, decoded when they are indexed."""
        chosen = rows.tolist()
        paths, states = ([of_all[row] for row in chosen] for of_all in (self._paths, self._file_states))
        return LazyFrames(self._root, paths, states, self._size)

    def files_of(self, rows: Array) -> list[Path]:
        """Return the files of some frames, (n,) rows."""
        return [self._root / self._paths[row] for row in rows.tolist()]

    @property
    def shape(self) -> Shape:
        return (len(self._paths), *self._size, 3)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"LazyFrames(shape={self.shape})"

    def __getitem__(self, key: Any) -> Array:
        rows = np.arange(len(self))[key]
        if rows.ndim > 1 or isinstance(key, tuple):
            raise ShapeError(f"LazyFrames: expected a row, a slice or a list of rows as index, got {key!r}")
        wanted = np.atleast_1d(rows)
        frames = np.empty((len(wanted), *self.shape[1:]), np.uint8)

        def fill(place: int) -> tuple[str, str] | None:
            path = self._paths[wanted[place]]
            try:
                decoded, _ = decode_with_state(self._root / path, self._size, self._file_states[wanted[place]])
            except SkippedFrame as skipped:
                return path, skipped.reason
            frames[place] = decoded.pixels
            return None

        filled = map_ahead(fill, range(len(wanted)), get_num_threads(), len(wanted))
        lost = [loss for loss in filled if loss is not None]
        if lost:
            raise _frames_lost(lost)
        return frames if rows.ndim else frames[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("LazyFrames: expected copy=None or True, got copy=False: decoding makes a new array")
        return self[:].astype(dtype or self.dtype, copy=False)

    def _lost(self, path: str, state: Sequence[int]) -> str | None:
        """Return why a file is not the one that was scanned; None if it is."""
        try:
            status = os.stat(self._root / path)
        except OSError:
            return "vanished"
        return None if [status.st_size, status.st_mtime_ns] == list(state) else "changed"


def _frames_lost(lost: Sequence[tuple[str, str]]) -> FrameLost:
    """Return the error about lost frames, for each of which there are a path and a reason."""
    reason = "vanished" if all(reason == "vanished" for _, reason in lost) else "changed"
    return FrameLost([path for path, _ in lost], reason)


class BatchLoader:
    """Batches of frames and their targets; while one is in use, the next is decoded.

    Parameters
    ----------
    frames : LazyFrames or array, shape (n, ...)
        An array, or any object that can be indexed by an array of rows.
    targets : array, shape (n,)
        The target of each row.
    batch_size : int, default 32
        Rows in a batch; the last batch may be smaller. At most three batches are in memory.
    shuffle : bool, default False
        Whether to draw a new order in every pass.
    seed : int, default 0
        Seed of the orders: loaders with the same seed have the same first order, second order, and so on.

    Raises
    ------
    ShapeError
        If `frames` and `targets` have different lengths.
    ValueError
        If `batch_size` is not positive.

    Examples
    --------
    >>> loader = BatchLoader(np.zeros((5, 8, 8, 3), np.uint8), np.arange(5), batch_size=2)
    >>> len(loader), [(x.shape, y.tolist()) for x, y in loader][-1]
    (3, ((1, 8, 8, 3), [4]))
    """

    def __init__(self, frames: Any, targets: Any, batch_size: int = 32, shuffle: bool = False, seed: int = 0):
        self._frames = frames
        self._targets = np.asarray(targets)
        if len(frames) != len(self._targets):
            raise ShapeError(
                f"BatchLoader: expected a target for each of {len(frames)} frames, got {len(self._targets)}"
            )
        if batch_size < 1:
            raise ValueError(f"BatchLoader: expected batch_size of at least 1, got {batch_size!r}")
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._rng = np.random.default_rng(seed)

    def __repr__(self) -> str:
        return f"BatchLoader({len(self._targets)} frames in batches of {self._batch_size}, shuffle={self._shuffle})"

    def __len__(self) -> int:
        return -(-len(self._targets) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        n = len(self._targets)
        order = self._rng.permutation(n) if self._shuffle else np.arange(n)
        rows = [order[start : start + self._batch_size] for start in range(0, n, self._batch_size)]
        return map_ahead(lambda batch: (self._frames[batch], self._targets[batch]), rows, 1, 1)


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int) -> Generator[Result]:
    """Yield ``function(item)`` in the order of the items, computed in threads, at most `ahead` of them in advance.

    The threads end with the last item, or when the generator is closed: close it if the loop over it may fail. They are
    not the threads of :mod:`framecnn.kernels.threads`: computations must not wait for disks or for the consumer of the
    results.
    """
    pending: deque[Any] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
