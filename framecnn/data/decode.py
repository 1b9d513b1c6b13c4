"""The decoder of image files for training, prediction and benchmarks: the same file gives the same pixels everywhere.

A file is opened for reading only, decoded by one of eight decoders according to its first bytes, turned upright and
stretched to the requested size. A file that cannot be used raises SkippedFrame, with the code of the reason.
"""

import contextlib
import io
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from framecnn.data.checksums import check_png
from framecnn.data.decoder_warnings import silence_libtiff, strict_and_quiet
from framecnn.data.headers import claimed_size, is_lossless_jpeg
from framecnn.data.machine_errors import machine_error
from framecnn.data.pixels import UnsupportedDepth, check_tiff, plain_image
from framecnn.data.reasons import Reason
from framecnn.errors import MissingExtraError
from framecnn.typing import Array

__all__ = ["BACKGROUND", "DEFAULT_SIZE", "MAX_PIXELS", "MIN_SIDE", "Decoded", "SkippedFrame", "decode", "decode_within"]

DEFAULT_SIZE = (240, 360)
"""The default size to which frames are stretched: (height, width) in pixels."""

MAX_PIXELS = 64_000_000
"""The largest number of pixels (8,000 x 8,000): a picture whose header claims more is not decoded."""

MIN_SIDE = 8
"""The shortest side in pixels: a picture with a shorter one is too small to show a scene, and is not decoded."""

BACKGROUND = (128, 128, 128)
"""The colour behind transparent pixels: mid-grey, on which white and black drawings are both visible."""

FileState = tuple[int, int]
"""The size of a file in bytes and its time of modification in nanoseconds, by which changes are noticed."""

Fit = Callable[[int, int], tuple[int, int]]
"""A function that returns the height and width of the result for the height and width of an upright picture."""

_LARGEST_PIXEL = 8  # bytes: four channels of 16 bits, uncompressed
_SMALL_FILE = 16_000_000  # bytes; a smaller file is read into memory whatever it contains
_ORIENTATION = 0x0112

_DECODERS: dict[type[ImageFile] | None, tuple[re.Pattern[bytes], tuple[str, ...]]] = {
    JpegImageFile: (re.compile(rb"\xff\xd8\xff"), (".jpg", ".jpeg", ".jpe", ".jfif")),
    PngImageFile: (re.compile(rb"\x89PNG\r\n\x1a\n"), (".png", ".apng")),
    WebPImageFile: (re.compile(rb"RIFF....WEBP", re.DOTALL), (".webp",)),
    BmpImageFile: (re.compile(rb"BM"), (".bmp", ".dib")),
    GifImageFile: (re.compile(rb"GIF8[79]a"), (".gif",)),
    TiffImageFile: (re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"), (".tif", ".tiff")),
    AvifImageFile: (re.compile(rb"....ftyp(avi[fs]|m[is]f1.{4}(.{4})*?avi[fs])", re.DOTALL), (".avif", ".avifs")),
    None: (re.compile(rb"....ftyp(hei[cxms]|hev[cxms]|m[is]f1)", re.DOTALL), (".heic", ".heif", ".hif")),
}
"""The decoders, with the first bytes and the suffixes of their files; None is that of HEIC, an extra."""

_START = 64  # bytes: the names of the standards that an AVIF or HEIC file follows

SUFFIXES = tuple(suffix for _, suffixes in _DECODERS.values() for suffix in suffixes)
"""The suffixes of picture files, in lower case."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class SkippedFrame(Exception):
    """A file that cannot be used as a frame.

    Parameters
    ----------
    reason : str
        The code of the reason, such as ``truncated``; ``framecnn.data.reasons.REASONS`` describes each.
    detail : str
        A description in one line.
    """

    def __init__(self, reason: Reason, detail: str):
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Decoded:
    """The pixels of one file.

    Parameters
    ----------
    pixels : array of uint8, shape (height, width, 3)
        Red, green, blue.
    notes : tuple of str
        Peculiarities of the file: ``extension-mismatch`` (such as a PNG file called .jpg), ``animated`` (only the first
        of several pictures was read).
    """

    pixels: Array
    notes: tuple[str, ...]


def decode(path: str | os.PathLike[str], size: tuple[int, int] = DEFAULT_SIZE) -> Decoded:
    """Return the RGB pixels of a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC file, stretched to a given size.

    The picture is turned upright (by its EXIF orientation, or that of an AVIF or HEIC file), and transparent pixels
    show a mid-grey background. 16-bit grey is scaled to 0..255 from the full range of its type; floating point from
    0..1 or, if a value lies outside, from the smallest to the largest value of the picture. Colour profiles are
    ignored. The whole picture is stretched to `size` by an antialiased bilinear filter. A JPEG of at least twice that
    size is decoded at a half, a quarter or an eighth of its own size, never below `size`.

    Parameters
    ----------
    path : path
        The file, which is only read.
    size : (int, int), default (240, 360)
        Height and width of the result, in pixels.

    Returns
    -------
    Decoded
        ``pixels`` uint8 of shape ``(height, width, 3)``, and ``notes``.

    Raises
    ------
    SkippedFrame
        If the file cannot be used, for whatever reason.
    MachineError
        If the machine is at fault: no memory, too many open files, a disk that does not answer.
    ValueError
        If `size` is not two positive integers.

    Notes
    -----
    This function may be called from many threads; the decoders release the GIL. It writes nothing to the terminal:
    Pillow's warnings are dropped while a file is decoded, and the first TIFF silences the messages of libtiff in this
    process.

    A truncated file is skipped in every format. Other damage is detected as far as a format has checksums: any wrong
    byte of a PNG, and any in the pixels of a TIFF compressed by Deflate. JPEG, WebP, GIF, BMP and other TIFFs have no
    checksums: wrong bytes in them become wrong pixels unless they make the rest undecodable.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "grey.png")
    >>> Image.new("L", (64, 48), 200).save(path)
    >>> decoded = decode(path, size=(24, 32))
    >>> decoded.pixels.shape, int(decoded.pixels.max()), decoded.notes
    ((24, 32, 3), 200, ())
    """
    return decode_with_state(path, check_size("decode", size))[0]


def check_size(who: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return `size` as (height, width), or raise ValueError."""
    try:
        height, width = (int(side) for side in size if side == int(side))
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError(f"{who}: expected size=(height, width), two positive integers in pixels, got {size!r}")
    return height, width


def decode_within(path: str | os.PathLike[str], box: tuple[int, int]) -> Decoded:
    """Return the pixels of a file as :func:`decode` does, but in its own proportions, shrunk to fit into a box.

    Parameters
    ----------
    path : path
        The file, which is only read.
    box : (int, int)
        Largest height and width of the result, in pixels.

    Returns
    -------
    Decoded

    Raises
    ------
    SkippedFrame
        If the file cannot be used, for whatever reason.
    """

    def fit(height: int, width: int) -> tuple[int, int]:
        scale = min(box[0] / height, box[1] / width, 1)
        return max(1, round(height * scale)), max(1, round(width * scale))

    return _decode_once(path, fit)[0]


def decode_with_state(
    path: str | os.PathLike[str], size: tuple[int, int], state: FileState | None = None, enlarge: bool = True
) -> tuple[Decoded, FileState]:
    """Return the decoded file and its state; raise SkippedFrame if the file no longer has the given `state`.

    Without `enlarge`, a side that is shorter than in `size` keeps its length.
    """

    def fit(height: int, width: int) -> tuple[int, int]:
        return size if enlarge else (min(size[0], height), min(size[1], width))

    return _decode_once(path, fit, state)


def _decode_once(path: str | os.PathLike[str], fit: Fit, state: FileState | None = None) -> tuple[Decoded, FileState]:
    with _open_regular(path) as file:
        before = _state(file)
        if state not in (None, before):
            raise SkippedFrame("changed", "the file is not the one that was scanned")
        try:
            decoded = _decode(file, before[0], path, fit)
        finally:
            if _state(file) != before:
                raise SkippedFrame("changed", "the file changed while it was read")
    return decoded, before


def _open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    # Stat comes first because opening a device can act on it; opening is non-blocking because a FIFO that replaced the
    # file after the stat would block for ever.
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
            if stat.S_ISREG(os.fstat(handle).st_mode):
                return os.fdopen(handle, "rb")
            os.close(handle)
    except FileNotFoundError:
        raise SkippedFrame("vanished", "there is no such file") from None
    except (OSError, ValueError) as error:
        if trouble := machine_error(error, path):
            raise trouble from error
        raise SkippedFrame("unreadable", _one_line(error)) from None
    raise SkippedFrame("not-a-file", "a folder, pipe, socket or device")


def _state(file: BinaryIO) -> FileState:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _decode(file: BinaryIO, n_bytes: int, path: str | os.PathLike[str], fit: Fit) -> Decoded:
    n_pixels = 0
    try:
        decoder, suffixes = _decoder_for(file, n_bytes)
        if decoder in (PngImageFile, TiffImageFile, WebPImageFile):
            _check_header(file, n_bytes)
        if decoder is PngImageFile:
            check_png(file)
        is_scalable = decoder is JpegImageFile and not is_lossless_jpeg(file)
        file.seek(0)
        if decoder is TiffImageFile:
            silence_libtiff()
            # libtiff would map the file into memory; if it was truncated meanwhile, that would kill the process.
            file = io.BytesIO(file.read())
        notes = [] if os.path.splitext(path)[1].lower() in suffixes else ["extension-mismatch"]
        # Call the class itself: Image.open hides why a header is bad, and limits sizes by a global variable.
        with strict_and_quiet(), decoder(file) as image:
            _check_claim(*image.size)
            n_pixels = image.width * image.height
            pixels = np.array(_stretched(image, fit, is_scalable))
            with contextlib.suppress(Exception):  # the first picture is complete, whatever follows
                notes += ["animated"] if getattr(image, "is_animated", False) else []
            return Decoded(pixels, tuple(notes))
    except SkippedFrame:
        raise
    except Exception as error:
        if trouble := machine_error(error, path, n_pixels):
            raise trouble from error
        raise SkippedFrame(_reason(error, file), _one_line(error)) from error


def _decoder_for(file: BinaryIO, n_bytes: int) -> tuple[type[ImageFile], tuple[str, ...]]:
    start = file.read(_START)
    file.seek(0)
    if not start:
        raise SkippedFrame("empty", "the file has no bytes")
    for decoder, (magic, suffixes) in _DECODERS.items():
        if magic.match(start):
            _check_bytes(n_bytes, MAX_PIXELS)
            if decoder is AvifImageFile and not features.check("avif"):
                raise SkippedFrame("missing-decoder", "an AVIF picture, and this Pillow is built without AVIF")
            return decoder or _heic_decoder(), suffixes
    raise SkippedFrame("not-an-image", "not a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC file")


def _heic_decoder() -> type[ImageFile]:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise SkippedFrame("missing-decoder", str(MissingExtraError("HEIC pictures", "pillow-heif", "heif"))) from None
    return HeifImageFile


def _check_header(file: BinaryIO, n_bytes: int) -> None:
    """Raise SkippedFrame if a large file claims a picture that is too large, or too small for its number of bytes."""
    if n_bytes > _SMALL_FILE:
        width, height = claimed_size(file)
        _check_claim(width, height)
        _check_bytes(n_bytes, width * height)


def _check_bytes(n_bytes: int, n_pixels: int) -> None:
    largest = _SMALL_FILE + _LARGEST_PIXEL * n_pixels
    if n_bytes > largest:
        raise SkippedFrame("too-large", f"{n_bytes:,} bytes; at most {largest:,} are read for {n_pixels:,} pixels")


def _check_claim(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise SkippedFrame("too-large", f"{width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are decoded")
    if min(width, height) < MIN_SIDE:
        raise SkippedFrame("too-small", f"{width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed")


def _stretched(image: ImageFile, fit: Fit, is_scalable: bool) -> Image.Image:
    if isinstance(image, TiffImageFile):
        check_tiff(image)
    if not isinstance(image, JpegImageFile):
        # Load before EXIF is read: that loads a PNG too, and after an error a second load succeeds silently.
        image.load()
    orientation = _orientation(image)
    width, height = fit(*image.size[::-1])[::-1] if orientation < 5 else fit(*image.size)
    drafted = image.draft(None, (width, height)) if is_scalable else None
    # Decoding at 1/8 rounds 643 columns up to 81, of which 80.4 are the picture.
    box = drafted[1] if drafted and drafted[1] != (0, 0, *image.size) else None
    image.load()
    plain = plain_image(image)
    if box or plain.size != (width, height):
        plain = plain.resize((width, height), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    if plain.mode == "RGBA":
        plain = Image.alpha_composite(Image.new("RGBA", plain.size, (*BACKGROUND, 255)), plain)
    if orientation in _UPRIGHT:
        plain = plain.transpose(_UPRIGHT[orientation])
    return plain if plain.mode == "RGB" else plain.convert("RGB")


def _orientation(image: ImageFile) -> int:
    """Return the EXIF orientation from 1 to 8; 1 if there is none, and for TIFF, which Pillow turns upright itself."""
    if isinstance(image, TiffImageFile):
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except MemoryError:
        raise
    except Exception:  # broken EXIF raises anything
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _reason(error: Exception, file: BinaryIO) -> Reason:
    text = str(error).lower()
    if isinstance(error, Image.DecompressionBombError):
        return "too-large"
    if isinstance(error, OSError) and error.errno:
        return "unreadable"
    if isinstance(error, UnsupportedDepth):
        return "unsupported-depth"
    if "truncated" in text or isinstance(error.__cause__, IndexError | EOFError | struct.error):
        return "truncated"
    if re.search("not identified|cannot load", text) and not file.read(1):
        return "truncated"  # the file ends where its header does
    if re.search("pixel depth|pixel mode|raw mode|-bit layers", text):
        return "unsupported-depth"
    return "decoder-error"


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
