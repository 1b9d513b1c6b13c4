"""The headers of picture files, read before a decoder runs."""

import struct
from typing import BinaryIO

__all__ = ["claimed_size", "is_lossless_jpeg"]

_WIDTH, _HEIGHT = 256, 257  # tags of a TIFF
_NUMBERS = {3: "H", 4: "I", 16: "Q"}  # types of integers in a TIFF
_MOST_TAGS = 4096
_LOSSLESS_FRAMES = tuple(bytes([0xC0 + number]) for number in (3, 7, 11, 15))  # kinds of frames of a JPEG
_FRAMES = tuple(bytes([0xC0 + number]) for number in range(16) if number not in (4, 8, 12))
_WITHOUT_LENGTH = tuple(map(bytes, ([0x00], [0x01], *([0xD0 + number] for number in range(10)))))


def claimed_size(file: BinaryIO) -> tuple[int, int]:
    """Return the size that a PNG, TIFF, BigTIFF or WebP file claims for its first picture.

    Parameters
    ----------
    file : binary file
        Its position afterwards is undefined.

    Returns
    -------
    (int, int)
        Width and height in pixels, as stored, before the picture is turned upright.

    Raises
    ------
    EOFError
        If the file ends before its size.
    ValueError
        If it claims no size.

    Examples
    --------
    >>> import io
    >>> claimed_size(io.BytesIO(b"RIFF....WEBPVP8X" + bytes([10, 0, 0, 0, 0, 0, 0, 0, 63, 0, 0, 47, 0, 0])))
    (64, 48)
    """
    start = file.read(30)
    try:
        if start.startswith(b"\x89PNG"):
            return struct.unpack_from(">II", start, 16)
        return _webp(start) if start.startswith(b"RIFF") else _tiff(file, start)
    except struct.error:
        raise EOFError("the header is truncated") from None


def is_lossless_jpeg(file: BinaryIO) -> bool:
    """Return whether a JPEG file is lossless, so that it can only be decoded at its own size.

    Parameters
    ----------
    file : binary file
        Its position afterwards is undefined.

    Returns
    -------
    bool
        False if the file ends before that is known.

    Examples
    --------
    >>> import io
    >>> start = b"\\xff\\xd8\\xff\\xfe\\0\\2"
    >>> is_lossless_jpeg(io.BytesIO(start + b"\\xff\\xc3")), is_lossless_jpeg(io.BytesIO(start + b"\\xff\\xc0"))
    (True, False)
    """
    file.seek(2)
    while block := file.read(512):
        at = block.find(b"\xff")
        if at < 0:
            continue
        file.seek(at + 1 - len(block), 1)
        while (marker := file.read(1)) == b"\xff":
            pass
        if marker in _FRAMES:
            return marker in _LOSSLESS_FRAMES
        if marker and marker not in _WITHOUT_LENGTH:
            length = int.from_bytes(file.read(2), "big")
            file.seek(max(length - 2, 0), 1)
    return False


def _webp(start: bytes) -> tuple[int, int]:
    kind = start[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", start, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", start, 24)
        return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
    raise ValueError(f"headers: expected a WebP picture, got a chunk {kind!r}; save it again")


def _tiff(file: BinaryIO, start: bytes) -> tuple[int, int]:
    order = "<" if start.startswith(b"II") else ">"
    is_big = b"+" in start[2:4]
    first_offset, number, entry = ("8xQ", "Q", "HHQ8s") if is_big else ("4xI", "H", "HHI4s")
    (first,) = struct.unpack_from(order + first_offset, start)
    if first > file.seek(0, 2):
        raise EOFError("the header is truncated")
    file.seek(first)
    (n_tags,) = struct.unpack(order + number, file.read(struct.calcsize(number)))
    size = struct.calcsize(order + entry)
    data = file.read(min(n_tags, _MOST_TAGS) * size)
    found = {}
    for tag, kind, _, value in struct.iter_unpack(order + entry, data[: len(data) // size * size]):
        if tag in (_WIDTH, _HEIGHT) and kind in _NUMBERS and len(value) >= struct.calcsize(_NUMBERS[kind]):
            (found[tag],) = struct.unpack_from(order + _NUMBERS[kind], value)
    if len(found) < 2:
        raise ValueError("headers: expected a TIFF picture with width and height, got one without them; save it again")
    return found[_WIDTH], found[_HEIGHT]
