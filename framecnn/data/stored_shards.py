"""Shards that are computed once: kept in memory as long as it lasts, else in files, and in a cache folder if wanted.

A file is written atomically, flushed to disk and sealed with a SHA-256 (:mod:`framecnn.storage.container`, which models
use too), so that it is whole or not there; one that is missing, cut or altered is computed again, on a cluster by the
next run. A file of its own for each shard is what the chunked formats (Zarr, Parquet) come down to here, without their
packages, and with a checksum.
"""

import os
import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.data.shards import Shards
from framecnn.errors import FormatError, MachineError, remedy
from framecnn.execution import get_executor
from framecnn.memory import get_working_memory, resident_bytes
from framecnn.storage import container
from framecnn.storage.atomic import sweep, temporary_path
from framecnn.typing import Array

__all__ = ["KIND", "FileShards", "ShardStore", "StoredShards", "size_of_cache"]

KIND = "features"
"""What a file of a shard says it is."""


class ShardStore:
    """Where shards are kept: the memory and the cache folder of the current setting, and a temporary folder.

    If tasks run on a cluster, all shards are kept in files: of the cache folder, or of a temporary one.

    Parameters
    ----------
    reserved : int, default 0
        Bytes that are left free for what is computed of the shards.
    """

    def __init__(self, reserved: int = 0):
        self.reserved = reserved
        self.max_memory, self.cache_dir, _ = get_working_memory()
        self.is_remote = get_executor().is_remote
        self._temporary: Path | None = None
        self._lock = threading.Lock()

    def has_room(self, n_bytes: int) -> bool:
        """Return whether so many bytes more can be held in memory."""
        return resident_bytes() + n_bytes + self.reserved <= self.max_memory

    @property
    def temporary_dir(self) -> Path:
        """The temporary folder, which is created, in the cache folder if tasks run on a cluster.

        It is removed with the store, or by the next one after a kill.
        """
        with self._lock:
            if self._temporary is None:
                parent = Path(tempfile.gettempdir())
                if self.is_remote and self.cache_dir is not None:
                    parent = self.cache_dir
                    parent.mkdir(parents=True, exist_ok=True)
                place = parent / "framecnn-features"
                sweep(place)
                self._temporary = temporary_path(place)
                self._temporary.mkdir(mode=0o700)
                weakref.finalize(self, _remove, self._temporary, os.getpid())
        return self._temporary


def _remove(folder: Path, pid: int) -> None:
    """Remove a folder of the process `pid`; in a forked child do nothing."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


class FileShards(Shards):
    """Shards in files of a folder, as a worker of a cluster reads and writes them.

    Parameters
    ----------
    edges : (n_shards + 1,) int array
        The first row of each shard, and the number of rows.
    n_features : int
    dtype : dtype
        float32 or float64.
    folder : Path
    names : sequence of str
        The name of the file of each shard, without its extension.
    """

    is_remote = True

    def __init__(self, edges: Array, n_features: int, dtype: Any, folder: Path, names: Sequence[str]):
        super().__init__(edges, n_features, dtype)
        self.folder, self.names = folder, names

    def read(self, number: int) -> Array:
        """Return the rows of a shard; raise MachineError if there are none, and remove a damaged file."""
        found = self.read_file(number)
        if found is None:
            path = self.path(number)
            path.unlink(missing_ok=True)
            raise MachineError(
                f"features: expected those of shard {number} in {os.fspath(path)!r}, got no file, or a damaged one; "
                "repeat the run, which computes what is missing"
            )
        return found

    def path(self, number: int) -> Path:
        """Return the file of a shard, in one of many folders: writing a file looks through its folder."""
        name = self.names[number]
        return self.folder / name[-2:] / f"{name}.safetensors"

    def is_kept(self, number: int) -> bool:
        """Return whether a shard has a file."""
        return self.path(number).exists()

    def read_file(self, number: int) -> Array | None:
        """Return the rows of a shard in a file; None if there is none, or it is damaged, or of other features."""
        with suppress(FormatError, OSError):
            description, tensors = container.read(self.path(number))
            found = tensors.get(KIND)
            shape = (int(self.edges[number + 1] - self.edges[number]), self.shape[1])
            if description == {"kind": KIND} and found is not None and found.shape == shape:
                return found.astype(self.dtype, copy=False)
        return None

    def keep(self, number: int, rows: Array) -> None:
        """Write the rows of a shard, (at most 512, d); raise MachineError if that is not possible."""
        with _told_if_not_written(self.folder):
            path = self.path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            container.write(path, {"kind": KIND}, {KIND: np.ascontiguousarray(rows)})


@contextmanager
def _told_if_not_written(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Raise MachineError, with the remedy, if files cannot be written to a folder."""
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"features: cannot write to {os.fspath(folder)!r} ({error.strerror}); "
            f"{remedy(error) or 'set another cache folder'}"
        ) from error


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
        self._written: set[int] = set()
        self._is_complete = False

    def __reduce__(self) -> Any:
        files = self.files
        return FileShards, (self.edges, self.shape[1], self.dtype, files.folder, files.names)

    @property
    def is_remote(self) -> bool:
        """Whether workers can read the shards."""
        return self._store.is_remote

    @cached_property
    def files(self) -> FileShards:
        """The files of all shards, which need not exist."""
        if self._folder is not None:
            files = FileShards(self.edges, self.shape[1], self.dtype, self._folder, self._keys)
        else:
            names = [f"{self._prefix}-{number:06d}" for number in range(self.n_shards)]
            with _told_if_not_written(tempfile.gettempdir()):
                folder = self._store.temporary_dir
            files = FileShards(self.edges, self.shape[1], self.dtype, folder, names)
        if self.is_remote:
            get_executor().check_folder(files.folder)
        return files

    def read(self, number: int) -> Array:
        """Return the rows of a shard; they are computed if they are not kept."""
        found = self._held.get(number)
        if found is None and self._may_have_file(number):
            found = self.files.read_file(number)
            if found is not None and self._store.has_room(found.nbytes):
                self._held[number] = found
        if found is None:
            found = self._compute(number)
            self.keep(number, found)
        return found

    def is_kept(self, number: int) -> bool:
        """Return whether a shard is in memory or has a file."""
        return number in self._held or (self._may_have_file(number) and self.files.is_kept(number))

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
        if not has_room or self._folder is not None or self.is_remote:
            self.files.keep(number, rows)
            self._written.add(number)

    def prepare(self) -> None:
        """Write the files of all shards that have none."""
        if self._is_complete:
            return
        missing = [number for number in range(self.n_shards) if not self.files.is_kept(number)]
        executor = get_executor()
        tasks = ((portion,) for portion in executor.portions(missing))
        for _ in executor.map(_write, (self._compute, self.files), tasks):
            pass
        self._is_complete = True

    def _may_have_file(self, number: int) -> bool:
        return self._folder is not None or self.is_remote or number in self._written

    def __del__(self) -> None:
        if self._folder is None and self._pid == os.getpid() and "files" in vars(self):
            for number in range(self.n_shards) if self.is_remote else self._written:
                with suppress(OSError):
                    self.files.path(number).unlink()


def _write(shared: tuple[Callable[[int], Array], FileShards], numbers: Sequence[int]) -> None:
    """Compute some shards, and write their files."""
    compute, files = shared
    for number in numbers:
        files.keep(number, compute(number))


def size_of_cache(folder: str | os.PathLike[str]) -> int:
    """Return the bytes of the files in a cache folder; 0 if there is no such folder."""
    total = 0
    for path in Path(folder).rglob("*.safetensors"):
        with suppress(OSError):  # another training has replaced or removed it
            total += path.stat().st_size
    return total
