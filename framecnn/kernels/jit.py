"""The compilation of kernels: the ``@kernel`` policy, the cache and the instruction set."""

import glob
import hashlib
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
import platformdirs
from llvmlite import binding as llvm
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, InTreeCacheLocator

from framecnn.errors import SettingError

__all__ = ["REGISTER_BLOCK", "VECTOR_BYTES", "cache_directory", "current_isa", "kernel", "n_compiled"]

ISAS = {
    # name: (bytes of a vector register, pixels x vectors held in registers by the micro-kernel)
    "avx512": (64, (8, 2)),
    "avx2": (32, (6, 2)),
    "neon": (16, (6, 4)),
    "plain": (16, (4, 2)),
}

PRIVATE = 0o700
CHECKSUM_BYTES = hashlib.sha256().digest_size
ABANDONED_SECONDS = 3600


@cache
def current_isa() -> str:
    """Return the instruction set with the widest vectors of this CPU: "avx512", "avx2", "neon" (ARM) or "plain".

    The environment variable ``FRAMECNN_ISA`` forces another one; the compiler splits vectors that are too wide for
    the CPU.

    Raises
    ------
    SettingError
        If ``FRAMECNN_ISA`` names no instruction set.

    Examples
    --------
    >>> current_isa() in {"avx512", "avx2", "neon", "plain"}
    True
    """
    forced = os.environ.get("FRAMECNN_ISA")
    if forced:
        if forced not in ISAS:
            raise SettingError(f"FRAMECNN_ISA: expected one of {', '.join(ISAS)}, got {forced!r}; unset it")
        return forced
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "neon"
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return "avx512"
    return "avx2" if features.get("avx2") and features.get("fma") else "plain"


VECTOR_BYTES, REGISTER_BLOCK = ISAS[current_isa()]


@cache
def cache_directory() -> Path | None:
    """Return the private folder of compiled kernels, or ``None`` if there is no safe one.

    A cache of compiled kernels is code, so the folder belongs to this user and nobody else may write to it; a folder
    that others could write to is emptied first. Its name holds a digest of all kernel sources, code generation
    included: Numba itself does not notice that a helper in another file has changed.

    Returns
    -------
    Path or None

    Examples
    --------
    >>> folder = cache_directory()
    >>> folder is None or folder.is_dir()
    True
    """
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    name = f"{digest}-{current_isa()}-numba{numba.__version__}"
    try:
        folder = Path(platformdirs.user_cache_dir("framecnn")) / "kernels" / name
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return folder if not hasattr(os, "getuid") or _is_private(folder) else None
    except (OSError, RuntimeError):
        return None


def _is_private(folder: Path) -> bool:
    """Return whether only this user can write to a folder, after an attempt to ensure it."""
    status = folder.stat()
    if status.st_uid != os.getuid():
        return False
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        shutil.rmtree(folder)
        folder.mkdir(mode=PRIVATE)
    folder.chmod(PRIVATE)
    return stat.S_IMODE(folder.stat().st_mode) == PRIVATE  # some file systems have no modes


def n_compiled() -> int:
    """Return the number of compiled kernels in the cache."""
    folder = cache_directory()
    return 0 if folder is None else sum(1 for _ in folder.rglob("*.nbc"))


class _PrivateLocator(InTreeCacheLocator):
    """The location of Numba's compiled code: the private folder."""

    def __init__(self, function: Callable[..., Any], file: str):
        super().__init__(function, file)
        self._cache_path = str(cache_directory())


class _PrivateCache(CompileResultCacheImpl):
    _locator_classes = [_PrivateLocator]  # noqa: RUF012, as Numba has it


class _Entries(IndexDataCacheFile):
    """The files of a kernel, one for each signature: the pickle that Numba writes, and its checksum.

    Compiled code in which a bit has flipped returns wrong numbers or ends the process, so nothing is unpickled before
    its checksum is verified. Numba's index is not used: it lists files by number, and when two processes compile at
    once, one can list under its own signature the file that the other wrote for another signature.
    """

    def flush(self) -> None:
        for path in Path(self._cache_path).glob(f"{glob.escape(self._base)}.*"):
            path.unlink()

    def save(self, key: Any, data: Any) -> None:
        path, pickled = self._path(key), self._dump((self._identity(key), data))
        # a temporary file belongs to a killed process or to one that is writing
        for file in path.parent.glob(f"{glob.escape(path.name)}.tmp.*"):
            if file.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                file.unlink()
        with self._open_for_write(path) as entry:
            entry.write(pickled + hashlib.sha256(pickled).digest())

    def load(self, key: Any) -> Any:
        try:
            entry = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        pickled, checksum = entry[:-CHECKSUM_BYTES], entry[-CHECKSUM_BYTES:]
        if hashlib.sha256(pickled).digest() != checksum:
            return None
        identity, data = self._load_data(self._path(key).name)
        return data if identity == self._identity(key) else None

    @property
    def _base(self) -> str:
        return self._index_name.removesuffix(".nbi")

    def _identity(self, key: Any) -> tuple[Any, ...]:
        return self._base, self._source_stamp, key

    def _path(self, key: Any) -> Path:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return Path(self._cache_path) / f"{self._base}.{digest}.nbc"


class _KernelCache(FunctionCache):
    """Numba's cache of one function, which ignores damaged entries and full disks."""

    _impl_class = _PrivateCache

    def __init__(self, function: Callable[..., Any]):
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _Entries(str(cache_directory()), self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # reading and unpickling may raise anything
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function compiled as a serial kernel that releases the GIL; ``threads.run`` runs it in parallel.

    Compiled code is kept between runs in :func:`cache_directory`; a damaged entry is dropped and compiled again.

    Parameters
    ----------
    function : callable
        Plain loops over arrays that allocate no results.

    Returns
    -------
    callable
    """
    dispatcher: Any = numba.njit(nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})(function)
    if cache_directory() is not None:
        with suppress(RuntimeError):  # raised by Numba for a folder that has vanished or filled up since
            dispatcher._cache = _KernelCache(function)
    return dispatcher
