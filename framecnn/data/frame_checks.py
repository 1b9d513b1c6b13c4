"""Detectors of near-repeats among frames, and of black bars around them."""

import numpy as np

from framecnn.data.small_pictures import is_blank, luma
from framecnn.typing import Array

__all__ = ["LetterboxDetector", "RepeatDetector"]


class RepeatDetector:
    """A memory of frames that recognises their near-repeats.

    A frame repeats a remembered one if none of its 9 x 16 blocks differs by 4 or more (of 255) in any channel. Each
    remembered frame takes 432 bytes.

    Examples
    --------
    >>> picture = np.zeros((36, 64, 3), np.uint8)
    >>> seen = RepeatDetector()
    >>> seen.is_repeat(picture)
    False
    >>> seen.remember(picture)
    >>> seen.is_repeat(picture + np.uint8(1))
    True
    """

    def __init__(self) -> None:
        self._blocks = np.empty((64, 9 * 16 * 3), np.uint8)
        self._count = 0

    def is_repeat(self, picture: Array) -> bool:
        """Return whether a picture (36, 64, 3) of uint8 repeats a remembered one."""
        blocks = _blocks(picture).astype(np.int16)
        return bool((np.abs(self._blocks[: self._count] - blocks).max(1, initial=0) < 4).any())

    def remember(self, picture: Array) -> None:
        """Remember a picture (36, 64, 3) of uint8."""
        if self._count == len(self._blocks):
            self._blocks = np.concatenate([self._blocks, np.empty_like(self._blocks)])
        self._blocks[self._count] = _blocks(picture)
        self._count += 1


def _blocks(picture: Array) -> Array:
    return picture.reshape(9, 4, 16, 4, 3).mean((1, 3)).round().astype(np.uint8).ravel()


class LetterboxDetector:
    """A detector of the black bars around the picture of a movie, from some of its frames.

    A row or column belongs to a bar if all but 2 % of its luma values stay below 32 in every frame. Bars come in pairs
    of similar size: each takes at most 40 % of the side, and they differ by at most 2 % of it. Darkness on one side
    alone is part of the scene.

    Examples
    --------
    >>> frame = np.zeros((100, 160, 3), np.uint8)
    >>> frame[12:88] = 200
    >>> bars = LetterboxDetector()
    >>> bars.push(frame)
    >>> bars.bars()
    (12, 12, 0, 0)
    """

    def __init__(self) -> None:
        self._profiles: tuple[Array, Array] | None = None

    def push(self, picture: Array) -> None:
        """Add a frame (h, w, 3) of uint8; a frame of a new size resets the detector."""
        if is_blank(picture):
            return
        values = luma(picture)
        profiles = np.quantile(values, 0.98, axis=1), np.quantile(values, 0.98, axis=0)
        if self._profiles is not None and self._profiles[0].shape + self._profiles[1].shape == values.shape:
            profiles = np.maximum(profiles[0], self._profiles[0]), np.maximum(profiles[1], self._profiles[1])
        self._profiles = profiles

    def bars(self) -> tuple[int, int, int, int]:
        """Return the widths of the bars in pixels.

        Returns
        -------
        tuple of int
            Top, bottom, left, right; zeros if there are none.
        """
        if self._profiles is None:
            return 0, 0, 0, 0
        return *_pair(self._profiles[0]), *_pair(self._profiles[1])


def _pair(profile: Array) -> tuple[int, int]:
    bright = np.flatnonzero(profile >= 32)
    first, last = int(bright[0]), len(profile) - 1 - int(bright[-1])
    real = max(first, last) <= 0.4 * len(profile) and abs(first - last) <= max(2, 0.02 * len(profile))
    return (first, last) if real else (0, 0)
