"""Checksums of PNG files, which Pillow does not verify."""

import struct
import zlib
from typing import BinaryIO

__all__ = ["DamagedFile", "check_png"]

_N_BYTES_BEFORE_CHUNKS = 8
_BLOCK = 1 << 16  # bytes read at once, however long a chunk claims to be


class DamagedFile(ValueError):
    """A file whose bytes differ from those that were written."""


def check_png(file: BinaryIO) -> None:
    """Raise unless every checksum of a PNG file is right, up to its end or the second picture of an animation.

    Parameters
    ----------
    file : binary file
        Its position afterwards is undefined.

    Raises
    ------
    EOFError
        If the file ends before its last chunk.
    DamagedFile
        If a checksum is wrong.

    Examples
    --------
    >>> import io
    >>> end = b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    >>> check_png(io.BytesIO(b"\\x89PNG\\r\\n\\x1a\\n" + bytes(4) + end))
    """
    file.seek(_N_BYTES_BEFORE_CHUNKS)
    kind, has_pixels = b"", False
    while kind != b"IEND" and not (kind == b"fcTL" and has_pixels):
        start = _exactly(file, 8)
        (n_bytes,), kind = struct.unpack(">I", start[:4]), start[4:]
        checksum = zlib.crc32(kind)
        for done in range(0, n_bytes, _BLOCK):
            checksum = zlib.crc32(_exactly(file, min(_BLOCK, n_bytes - done)), checksum)
        if _exactly(file, 4) != struct.pack(">I", checksum):
            raise DamagedFile(f"the checksum of chunk {kind!r} is wrong")
        has_pixels |= kind == b"IDAT"


def _exactly(file: BinaryIO, n_bytes: int) -> bytes:
    data = file.read(n_bytes)
    if len(data) < n_bytes:
        raise EOFError("the file is truncated")
    return data
