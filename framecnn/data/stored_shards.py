"""Shards that are computed once: kept in memory as long as it lasts, else in files, and in a cache folder if wanted.

A file is written atomically, flushed to disk and sealed with a SHA-256 (:mod:`framecnn.storage.container`, which models
use too), so that it is whole or not there; one that is missing, cut or altered is computed again. A file of its own for
each shard is what the chunked formats (Zarr, Parquet) come down to here, without their packages, and with a checksum.
"""

import os
import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.data.shards import Shards
from framecnn.errors import FormatError, MachineError, remedy
from framecnn.memory import get_working_memory, resident_bytes
from framecnn.storage import container
from framecnn.storage.atomic import sweep, temporary_path
from framecnn.typing import Array

__all__ = ["KIND", "ShardStore", "StoredShards", "size_of_cache"]

KIND = "features"
"""What a file of a shard says it is."""


class ShardStore:
    """Where shards are kept: the memory and the cache folder of the current setting, and a temporary folder.

    Parameters
    ----------
    reserved : int, default 0
        Bytes that are left free for what is computed of the shards.
    """

    def __init__(self, reserved: int = 0):
        self.reserved = reserved
        self.max_memory, self.cache_dir, _ = get_working_memory()
        self._temporary: Path | None = None
        self._lock = threading.Lock()

    def has_room(self, n_bytes: int) -> bool:
        """Return whether so many bytes more can be held in memory."""
        return resident_bytes() + n_bytes + self.reserved <= self.max_memory

    @property
    def temporary_dir(self) -> Path:
        """The temporary folder, which is created; it is removed with the store, or by the next one after a kill."""
        with self._lock:
            if self._temporary is None:
                place = Path(tempfile.gettempdir()) / "framecnn-features"
                sweep(place)
                self._temporary = temporary_path(place)
                self._temporary.mkdir(mode=0o700)
                weakref.finalize(self, _remove, self._temporary, os.getpid())
        return self._temporary


def _remove(folder: Path, pid: int) -> None:
    """Remove a folder of the process `pid`; in a forked child do nothing."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


class StoredShards(Shards):
    """Shards that are computed when they are first read, and kept by a store.

    Parameters
    ----------
    store : ShardStore
    edges : (n_shards + 1,) int array
        The first row of each shard, and the number of rows.
    n_features : int
    dtype : dtype
        float32 or float64.
    compute : callable
        Takes the number of a shard; returns its rows, which are finite.
    name : str, optional
        What the content is a function of, beside the keys: the folder of the cache. Without it the shards are not in
        the cache, and lost with this object.
    keys : sequence of str, optional
        What the content of each shard is a function of: the name of its file.
    """

    def __init__(
        self,
        store: ShardStore,
        edges: Array,
        n_features: int,
        dtype: Any,
        compute: Callable[[int], Array],
        name: str | None = None,
        keys: Sequence[str] = (),
    ):
        super().__init__(edges, n_features, dtype)
        self._store, self._compute, self._keys = store, compute, keys
        self._folder = None if name is None or store.cache_dir is None else store.cache_dir / name
        self._prefix, self._pid = secrets.token_hex(4), os.getpid()  # of temporary files, which a forked child keeps
        self._held: dict[int, Array] = {}
        self._files: set[int] = set()

    def read(self, number: int) -> Array:
        """Return the rows of a shard; they are computed if they are not kept."""
        found = self._held.get(number)
        if found is None:
            found = self._read_file(number)
        if found is None:
            found = self._compute(number)
            self.keep(number, found)
        return found

    def is_kept(self, number: int) -> bool:
        """Return whether a shard is in memory or has a file."""
        in_folder = self._folder is not None and self._path(number).exists()
        return number in self._held or in_folder or number in self._files

    def keep(self, number: int, rows: Array) -> None:
        """Keep the rows of a shard, (at most 512, d).

        Raises
        ------
        MachineError
            If they fit neither the memory nor the disk.
        """
        has_room = self._store.has_room(rows.nbytes)
        if has_room:
            self._held[number] = rows
        if self._folder is not None or not has_room:
            try:
                path = self._path(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                container.write(path, {"kind": KIND}, {KIND: np.ascontiguousarray(rows)})
            except OSError as error:
                where = self._folder or tempfile.gettempdir()
                raise MachineError(
                    f"features: cannot write to {os.fspath(where)!r} ({error.strerror}); "
                    f"{remedy(error) or 'set another cache folder'}"
                ) from error
            self._files.add(number)

    def _read_file(self, number: int) -> Array | None:
        """Return the rows of a shard in a file; None if there is none, or it is damaged, or of other features."""
        if self._folder is None and number not in self._files:
            return None
        with suppress(FormatError, OSError):
            description, tensors = container.read(self._path(number))
            found = tensors.get(KIND)
            shape = (int(self.edges[number + 1] - self.edges[number]), self.shape[1])
            if description == {"kind": KIND} and found is not None and found.shape == shape:
                return found.astype(self.dtype, copy=False)
        return None

    def _path(self, number: int) -> Path:
        if self._folder is not None:
            return self._folder / f"{self._keys[number]}.safetensors"
        return self._store.temporary_dir / f"{self._prefix}-{number:06d}.safetensors"

    def __del__(self) -> None:
        if self._folder is None and self._pid == os.getpid():
            for number in self._files:
                with suppress(OSError):
                    self._path(number).unlink()


def size_of_cache(folder: str | os.PathLike[str]) -> int:
    """Return the bytes of the files in a cache folder; 0 if there is no such folder."""
    total = 0
    for path in Path(folder).rglob("*.safetensors"):
        with suppress(OSError):  # another training has replaced or removed it
            total += path.stat().st_size
    return total
