"""Tell trouble of the machine from damage of a file: no memory, too many open files, a disk that does not answer."""

import errno
import os

import numpy as np

from framecnn.errors import MachineError

__all__ = ["machine_error"]

_REMEDIES = {
    "ENOMEM": "free memory, raise its limit (ulimit -v), or use fewer threads (FRAMECNN_NUM_THREADS=1)",
    "EMFILE": "raise the limit of open files (ulimit -n)",
    "ENFILE": "close other programs: the system has no more open files to give",
    "ETIMEDOUT": "check the connection to the disk",
    "ENOTCONN": "check the connection to the disk",
    "EHOSTDOWN": "check the connection to the disk",
}
_BY_NUMBER = {getattr(errno, name): remedy for name, remedy in _REMEDIES.items() if hasattr(errno, name)}
_HEADROOM = 64_000_000  # bytes that any decoder can ask for
_BYTES_A_PIXEL = 16  # a picture, and copies of it while it is converted


def machine_error(error: BaseException, path: str | os.PathLike[str], n_pixels: int = 0) -> MachineError | None:
    """Return the error to raise instead of `error` where the machine is at fault, None where the file is.

    Parameters
    ----------
    error : BaseException
        What was raised while a file was read. Decoders report a lack of memory as damage too, so whether there is
        enough for the picture is tried out.
    path : path
        The file.
    n_pixels : int, default 0
        How large its picture is, if that is known.

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
    number = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) else None
    if number not in _BY_NUMBER:
        if not isinstance(error, MemoryError) and _is_free(_HEADROOM + _BYTES_A_PIXEL * n_pixels):
            return None
        number, reason = errno.ENOMEM, "no memory left"
    return MachineError(f"decode: cannot read {os.fspath(path)!r} ({reason}); {_BY_NUMBER[number]}")


def _is_free(n_bytes: int) -> bool:
    try:
        np.empty(n_bytes, np.uint8)
    except MemoryError:
        return False
    return True
