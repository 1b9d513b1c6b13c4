"""The small pictures on which frames are compared: their size, their luma, and whether they are blank."""

import numpy as np

from framecnn.typing import Array

__all__ = ["LUMA_WEIGHTS", "SMALL_SIZE", "has_blank_luma", "is_blank", "luma"]

SMALL_SIZE = (36, 64)
"""(height, width) of the small pictures."""

LUMA_WEIGHTS = np.array([77, 150, 29], np.uint16)
"""The weights of red, green and blue in the luma (BT.601), in 256ths."""

_RED, _GREEN, _BLUE = LUMA_WEIGHTS


def luma(picture: Array) -> Array:
    """Return the luma of pictures (..., 3) of integers from 0 to 255, rounded down: (...), uint16 if they are uint8."""
    return (picture[..., 0] * _RED + picture[..., 1] * _GREEN + picture[..., 2] * _BLUE) >> 8


def is_blank(picture: Array) -> bool:
    """Return whether a picture is black or of one flat colour.

    Parameters
    ----------
    picture : array (h, w, 3) of uint8

    Returns
    -------
    bool
        Whether all but 2 % of the luma values (0 to 255) are below 24, or all but 4 % lie within 8 of each other.

    Examples
    --------
    >>> is_blank(np.full((36, 64, 3), 5, np.uint8))
    True
    """
    return bool(has_blank_luma(luma(picture).ravel()))


def has_blank_luma(values: Array) -> Array:
    """Return whether (...) pictures with these luma values (..., n_pixels) are blank, by the rule of `is_blank`."""
    few, n_pixels = values.shape[-1] // 50, values.shape[-1]
    ends = [few, n_pixels - 1 - few]
    low, high = np.moveaxis(np.partition(values, ends, axis=-1)[..., ends], -1, 0)
    return (high < 24) | (high - low < 8)
