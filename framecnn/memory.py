"""How much memory a fit may take, and the folder that keeps features: one setting for the whole process."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from framecnn.errors import MachineError, SettingError

__all__ = ["WorkingMemory", "as_bytes", "check_room", "get_working_memory", "resident_bytes", "working_memory"]

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
SHARE = 0.75  # of the memory of the machine, by default
MARGIN = 1.1  # the process holds a little more with every attempt


class WorkingMemory(NamedTuple):
    """The bytes that the process may hold during a fit, and the folder that keeps features, None without one.

    `is_default` says that nobody has set the bytes.
    """

    max_memory: int
    cache_dir: Path | None
    is_default: bool = False


def as_bytes(size: int | str) -> int:
    """Return a size in bytes, given as an integer or as text with a unit: KB, MB, GB, TB, or KiB, MiB, GiB, TiB.

    Raises
    ------
    SettingError
        If it is something else, or not positive.

    Examples
    --------
    >>> as_bytes("1.5 GiB"), as_bytes("500MB"), as_bytes(1000)
    (1610612736, 500000000, 1000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(size))
    n_bytes = int(float(match[1]) * UNITS.get(match[2].upper(), 0)) if match and not isinstance(size, bool) else 0
    if n_bytes < 1:
        raise SettingError(f"max_memory: expected bytes, or text such as '4 GiB' or '500 MB', got {size!r}")
    return n_bytes


_blocks: list[WorkingMemory] = []  # settings of the blocks that have begun and not ended, in any thread


def get_working_memory() -> WorkingMemory:
    """Return the current setting; by default three quarters of the memory of the machine or container, and no folder.

    Examples
    --------
    >>> get_working_memory().cache_dir is None
    True
    """
    return _blocks[-1] if _blocks else WorkingMemory(int(SHARE * _machine_bytes()), None, is_default=True)


@contextmanager
def working_memory(
    max_memory: int | str | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Iterator[None]:
    """Set how much memory a fit may take inside a ``with`` block, and the folder that keeps features.

    Features of frames that do not fit the memory are written to files, of `cache_dir` or of a temporary folder, and
    read again. Neither setting changes a result. They belong to the whole process: of blocks in several threads, the
    one that began last counts.

    Parameters
    ----------
    max_memory : int or str, optional
        The largest memory that the process may hold during a fit, in bytes or as text such as ``"4 GiB"``. By default
        three quarters of the memory of the machine, or of its container.
    cache_dir : path, optional
        A folder that keeps the features of frames: a fit that was interrupted, or is repeated after some frames have
        changed, computes those that are missing. It is created. Delete it, or a folder in it, to free space.

    Raises
    ------
    SettingError
        If `max_memory` is no size.
    MachineError
        In a fit, if the systems to solve need more than `max_memory`: their size follows from the numbers of frames and
        features alone.

    Examples
    --------
    >>> with working_memory("2 GiB"):
    ...     get_working_memory().max_memory
    2147483648
    """
    default = get_working_memory()
    folder = default.cache_dir if cache_dir is None else Path(cache_dir)
    limit = default if max_memory is None else WorkingMemory(as_bytes(max_memory), None)
    setting = limit._replace(cache_dir=folder)
    _blocks.append(setting)
    try:
        yield
    finally:
        del _blocks[next(place for place, own in enumerate(_blocks) if own is setting)]


def check_room(who: str, what: str, n_bytes: int) -> None:
    """Raise MachineError if a `max_memory` that was set has no room for so many bytes, which `what` needs."""
    setting, held = get_working_memory(), resident_bytes()
    if not setting.is_default and held + n_bytes > setting.max_memory:
        raise MachineError(
            f"{who}: expected max_memory of at least {MARGIN * (held + n_bytes) / 1e6:,.0f} MB for {what}, got "
            f"{setting.max_memory / 1e6:,.0f} MB; raise it, or compute fewer features"
        )


def resident_bytes() -> int:
    """Return the memory that this process holds, in bytes."""
    return int(psutil.Process().memory_info().rss)


def _machine_bytes() -> int:
    """Return the memory of the machine, or of the container if that is less."""
    found = [int(psutil.virtual_memory().total)]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            found.append(int(Path(path).read_text(encoding="ascii")))
    return min(found)
