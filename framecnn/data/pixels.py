"""The conversion of decoded pixels of any type to 8-bit grey, colour, or colour with opacity."""

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from framecnn.typing import Array

__all__ = ["UnsupportedDepth", "check_tiff", "plain_image"]

_PHOTOMETRIC = 262
_BITS_PER_SAMPLE = 258
_COMPRESSION = 259
_SAMPLES_PER_PIXEL = 277
_PLANAR_CONFIGURATION = 284
_PLANES = 2
_SAMPLE_FORMAT = 339
_SIGNED = 2


class UnsupportedDepth(ValueError):
    """Pixels of an unsupported type."""


def check_tiff(image: TiffImageFile) -> None:
    """Raise UnsupportedDepth for a TIFF file that Pillow decodes wrongly.

    Pillow reads signed numbers as unsigned, the bytes of wide numbers in separate planes as pixels, and one plane of
    two as both; it also swaps the bytes of big-endian floats that libtiff has swapped already.
    """
    tags = image.tag_v2
    bits, is_planar = max(tags.get(_BITS_PER_SAMPLE, (1,))), tags.get(_PLANAR_CONFIGURATION) == _PLANES
    if _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise UnsupportedDepth("signed numbers are not read")
    if is_planar and (bits > 8 or tags.get(_SAMPLES_PER_PIXEL) == 2):
        raise UnsupportedDepth("more than 8 bits, or grey with opacity, in separate planes are not read")
    if image.mode == "F" and tags.prefix == b"MM" and tags.get(_COMPRESSION, 1) != 1:
        raise UnsupportedDepth("compressed floating point with the high byte first is not read")


def plain_image(image: ImageFile) -> Image.Image:
    """Return a loaded picture as L, RGB or RGBA, which can be resized.

    Parameters
    ----------
    image : ImageFile
        A picture whose pixels are loaded.

    Returns
    -------
    Image

    Raises
    ------
    UnsupportedDepth
        If the type of its pixels is unsupported.
    """
    if image.mode.startswith("I;16"):
        return _from_uint16(image)
    if image.mode == "F":
        return _from_float(image)
    if image.mode in ("I", "LAB"):
        raise UnsupportedDepth(f"pixels of mode {image.mode} are not read")
    if isinstance(image, BmpImageFile) and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        return image.convert("RGB")  # some programs leave the bytes of opacity zero, and viewers show the colours
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _from_uint16(image: ImageFile) -> Image.Image:
    values = np.array(image, np.float32)
    bits = image.tag_v2[_BITS_PER_SAMPLE][0] if isinstance(image, TiffImageFile) else 16
    grey = _from_black(image, _to_bytes(values, 0.0, 2.0**bits - 1))
    plain = Image.fromarray(grey)
    hidden = image.info.get("transparency")
    if hidden is not None:
        plain.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
        return plain.convert("RGBA")
    return plain


def _from_float(image: ImageFile) -> Image.Image:
    values = np.array(image)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise UnsupportedDepth("no pixel is finite")
    low, high = float(finite.min()), float(finite.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    grey = _to_bytes(np.nan_to_num(values, nan=low, posinf=high, neginf=low), low, high)
    return Image.fromarray(_from_black(image, grey))


def _from_black(image: ImageFile, grey: Array) -> Array:
    """Return grey with 0 as black; Pillow inverts a TIFF with 0 as white only if it has 8 bits."""
    return 255 - grey if isinstance(image, TiffImageFile) and image.tag_v2[_PHOTOMETRIC] == 0 else grey


def _to_bytes(values: Array, low: float, high: float) -> Array:
    scaled = np.subtract(values, low, dtype=np.float64)  # the span of float32 does not fit into float32
    scaled *= 255 / (high - low) if high > low else 0
    return np.rint(scaled, out=scaled).astype(np.uint8)
