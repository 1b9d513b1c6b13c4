"""Errors of the machine, distinguished from damage of a file: no memory, too many open files, a disk that fails."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress

import numpy as np

from framecnn.errors import MachineError, remedy

__all__ = ["machine_error"]

_OF_THE_MACHINE = {"ENOMEM", "EMFILE", "ENFILE", "ETIMEDOUT", "ENOTCONN", "EHOSTDOWN"}
_HEADROOM = 64_000_000  # bytes; more than any decoder needs beside the pixels
_BYTES_WHILE_DECODED = 16  # per pixel: a picture, and copies of it while it is converted


def machine_error(
    error: BaseException,
    path: str | os.PathLike[str],
    n_pixels: int = 0,
    allocate: Callable[[int], object] = lambda n_bytes: np.empty(n_bytes, np.uint8),
) -> MachineError | None:
    """Return the error to raise instead of `error` if the machine is at fault, None if the file is.

    Parameters
    ----------
    error : BaseException
        What was raised while a file was read. Decoders report a lack of memory as a damaged file, so this function
        tries whether there is enough memory for the picture.
    path : path
        The file.
    n_pixels : int, default 0
        The number of pixels of its picture, if known.
    allocate : callable, optional
        Called as ``allocate(n_bytes)``; raises MemoryError if there is less memory.

    Returns
    -------
    MachineError or None

    Examples
    --------
    >>> str(machine_error(OSError(errno.EMFILE, "Too many open files"), "a/1.jpg"))
    "decode: cannot read 'a/1.jpg' (Too many open files); raise the limit of open files (ulimit -n)"
    >>> machine_error(OSError("broken data stream when reading image file"), "a/1.jpg") is None
    True
    """
    if not (isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in _OF_THE_MACHINE):
        if not isinstance(error, MemoryError):
            with suppress(MemoryError):
                allocate(_HEADROOM + _BYTES_WHILE_DECODED * n_pixels)
                return None
        error = OSError(errno.ENOMEM, "no memory left")
    return MachineError(f"decode: cannot read {os.fspath(path)!r} ({error.strerror}); {remedy(error)}")
