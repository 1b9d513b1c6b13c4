"""Where shots begin, which frames say nothing new, where black bars lie: NumPy on small pictures of the frames.

A small picture is a frame shrunk to 36 x 64 pixels. A cut is a place where none of the last frames looks like any of
the next ones: so a flash, a black frame or a damaged picture between two alike frames is no cut.
"""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from framecnn.errors import DataError, ShapeError
from framecnn.typing import Array

__all__ = [
    "SMALL_SIZE",
    "LetterboxDetector",
    "RepeatDetector",
    "ShotDetector",
    "group_names",
    "is_blank",
]

SMALL_SIZE = (36, 64)
"""(height, width) of the small pictures."""

_CELLS, _LUMA, _CHROMA = 4, 16, 5
_CURVE = np.sqrt(np.arange(256) * 255.0).astype(np.int32)
_CHROMA_BIN = np.digitize(np.arange(-255, 256), (-20, -6, 6, 20))
_N_BINS = _LUMA * _CHROMA * _CHROMA
_CELL = np.add.outer(
    np.arange(SMALL_SIZE[0]) * _CELLS // SMALL_SIZE[0] * _CELLS, np.arange(SMALL_SIZE[1]) * _CELLS // SMALL_SIZE[1]
)
_WEIGHTS = np.array([77, 150, 29])


def is_blank(picture: Array) -> bool:
    """Tell whether a picture is black, or one flat colour: nothing to learn from.

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
    luma = (picture @ _WEIGHTS >> 8).ravel()
    few = luma.size // 50
    low, high = np.partition(luma, (few, luma.size - 1 - few))[[few, luma.size - 1 - few]]
    return bool(high < 24 or high - low < 8)


class ShotDetector:
    """Find where shots begin, frame by frame, holding the histograms of a third of a second.

    Every frame becomes 16 colour histograms, one a cell of a 4 x 4 grid (square root of the values, 16 steps of luma,
    5 x 5 of chroma). The distance of two frames is the mean over the least changed three quarters of the cells, so that
    something passing before the camera is no cut; cells black in both frames do not count. The score of a frame is the
    least distance between any frame of the sixth of a second before it and any of the sixth of a second from it on. A
    cut is a local maximum above 0.35 (0.23 between grey frames, whose chroma says nothing) plus 0.6 times the median
    score of the half seconds around it. Black for a sixth of a second ends a shot, too; its dark edges are no cuts.
    Dissolves are not found.

    Parameters
    ----------
    rate : float, default=24.0
        Frames a second.

    Attributes
    ----------
    starts : list of float
        Time of the first frame of each shot found so far, in seconds.

    Notes
    -----
    The constants come from five clips with 39 hard cuts and from versions of them: grainy, flickering, dark, grey,
    at half and at twice the frame rate.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> red, blue = np.zeros((2, 36, 64, 3), np.uint8)
    >>> red[..., 0], blue[..., 2] = rng.integers(80, 250, (2, 36, 64))
    >>> detector = ShotDetector(rate=24)
    >>> for i in range(48):
    ...     detector.push(i / 24, red if i < 24 else blue)
    >>> detector.finish()
    [0.0, 1.0]
    """

    def __init__(self, rate: float = 24.0):
        self.starts: list[float] = []
        self._reach = min(max(round(rate / 6), 2), 10)
        self._calm = 3 * self._reach
        self._blanks = 0
        self._restart()

    def push(self, time: float, picture: Array) -> None:
        """Take the next frame.

        Parameters
        ----------
        time : float
            Its time in seconds.
        picture : array (36, 64, 3) of uint8
            The frame, shrunk.

        Raises
        ------
        ShapeError
            If the picture has another shape.
        """
        if picture.shape != (*SMALL_SIZE, 3):
            raise ShapeError(f"ShotDetector: expected a picture of shape (36, 64, 3), got {picture.shape}")
        if is_blank(picture):
            self._blanks += 1
            return
        if not self.starts or self._blanks >= self._reach:
            self.finish()
            self._restart()
            self.starts.append(time)
        self._blanks = 0
        self._score(time, _histograms(picture))
        while len(self._frames) - self._next > self._calm + self._reach:
            self._decide()

    def finish(self) -> list[float]:
        """Decide on the last frames.

        Returns
        -------
        list of float
            `starts`.
        """
        while self._next < len(self._frames):
            self._decide()
        return self.starts

    def _restart(self) -> None:
        self._histograms: deque[Array] = deque(maxlen=2 * self._reach - 1)
        self._frames: list[tuple[float, bool]] = []  # time, grey
        self._scores: list[float] = []
        self._next = 0
        self._from_black = self._blanks >= self._reach

    def _score(self, time: float, histograms: Array) -> None:
        reach = self._reach
        self._frames.append((time, histograms[:, _CHROMA**2 // 2 :: _CHROMA**2].sum() > 0.95 * len(histograms)))
        self._scores.append(1.0 if self._histograms else 0.0)
        if self._histograms:
            distances = _distances(np.stack(self._histograms), histograms)[::-1]  # to 1, 2, ... frames before
            for after in range(min(reach, len(self._scores) - 1)):
                before = distances[after : after + reach]
                self._scores[-1 - after] = min(self._scores[-1 - after], before.min(initial=1.0))
        self._histograms.append(histograms)

    def _decide(self) -> None:
        i, scores, reach = self._next, self._scores, self._reach
        near = scores[max(0, i - reach + 1) : i + reach]
        around = scores[max(0, i - self._calm) : max(0, i - 1)] + scores[i + 2 : i + 2 + self._calm]
        grey = i > 0 and self._frames[i][1] and self._frames[i - 1][1]
        threshold = (0.23 if grey else 0.35) + 0.6 * (float(np.median(around)) if around else 0.0)
        is_peak = scores[i] >= max(near) and near.index(scores[i]) == min(i, reach - 1)
        to_black = self._blanks >= reach and len(scores) - i <= reach
        fading = to_black or (self._from_black and i < reach)
        if scores[i] > threshold and is_peak and not fading:
            self.starts.append(self._frames[i][0])
        self._next += 1
        if self._next > self._calm + 1:
            del self._frames[0], self._scores[0]
            self._next -= 1


def _histograms(picture: Array) -> Array:
    """Colour histograms of the cells (16, 400), each of sum 1."""
    red, _, blue = values = np.moveaxis(_CURVE[picture], -1, 0)
    luma = np.tensordot(_WEIGHTS, values, 1) >> 8
    bins = (luma * _LUMA // 256 * _CHROMA + _CHROMA_BIN[blue - luma + 255]) * _CHROMA + _CHROMA_BIN[red - luma + 255]
    counts = np.bincount((_CELL * _N_BINS + bins).ravel(), minlength=_CELLS**2 * _N_BINS)
    return (counts * (_CELLS**2 / picture[..., 0].size)).astype(np.float32).reshape(_CELLS**2, _N_BINS)


def _distances(earlier: Array, now: Array) -> Array:
    """Distances (k,), 0 to 1, between histograms (k, 16, 400) and (16, 400)."""
    black = 4 * _CHROMA**2  # bins of luma below 16 of 255
    earlier, now = earlier[..., black:], now[..., black:]
    picture = np.maximum(earlier.sum(-1), now.sum(-1))
    distances = 1 - np.minimum(earlier, now).sum(-1) / np.maximum(picture, 1e-6)
    distances[picture < 0.2] = np.inf
    counted = -(-3 * np.isfinite(distances).sum(-1) // 4)
    ordered = np.where(np.arange(distances.shape[-1]) < counted[:, None], np.sort(distances, -1), 0.0)
    return ordered.sum(-1) / np.maximum(counted, _CELLS**2 // 3)  # a lit window in the dark is not the whole picture


class RepeatDetector:
    """Remember frames and recognise their near-repeats.

    A frame repeats another when none of its 9 x 16 blocks differs by 4 or more (of 255) in any channel. A remembered
    frame takes 432 bytes.

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
        """Tell whether a picture (36, 64, 3) of uint8 repeats a remembered one."""
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
    """Find the black bars around a movie's picture, from some of its frames.

    A row or column belongs to a bar when all but 2 % of its luma values stay below 32 in every frame. Bars come in
    pairs, at most 40 % of the side each, that differ by no more than 2 % of the side: darkness on one side alone is
    part of the scene.

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
        """Look at a frame (h, w, 3) of uint8; one of another size starts anew."""
        if is_blank(picture):
            return
        luma = picture @ _WEIGHTS >> 8
        profiles = np.quantile(luma, 0.98, axis=1), np.quantile(luma, 0.98, axis=0)
        if self._profiles is not None and self._profiles[0].shape + self._profiles[1].shape == luma.shape:
            profiles = np.maximum(profiles[0], self._profiles[0]), np.maximum(profiles[1], self._profiles[1])
        self._profiles = profiles

    def bars(self) -> tuple[int, int, int, int]:
        """Give the widths of the bars in pixels.

        Returns
        -------
        tuple of int
            Top, bottom, left, right; zeros when there are none.
        """
        if self._profiles is None:
            return 0, 0, 0, 0
        return *_pair(self._profiles[0]), *_pair(self._profiles[1])  # type: ignore[return-value]


def _pair(profile: Array) -> tuple[int, int]:
    bright = np.flatnonzero(profile >= 32)
    first, last = int(bright[0]), len(profile) - 1 - int(bright[-1])
    real = max(first, last) <= 0.4 * len(profile) and abs(first - last) <= max(2, 0.02 * len(profile))
    return (first, last) if real else (0, 0)


def group_names(movie: str, times: Sequence[float], starts: Sequence[float], end: float, block: float) -> list[str]:
    """Name the group of every frame: its movie and shot, and in a long shot its block.

    Parameters
    ----------
    movie : str
        Name of the movie.
    times : sequence of float
        Times of the frames in seconds.
    starts : sequence of float
        Times at which shots begin, ascending.
    end : float
        Time at which the last shot ends.
    block : float
        Longest block in seconds: a longer shot is cut into equal blocks.

    Returns
    -------
    list of str
        One name a frame.

    Raises
    ------
    DataError
        If the block is not longer than 0.

    Examples
    --------
    >>> group_names("orion", [0.5, 3.0, 18.0], starts=[0.0, 2.0], end=20.0, block=10.0)
    ['orion_shot000', 'orion_shot001_block00', 'orion_shot001_block01']
    """
    if not block > 0:
        raise DataError(f"shots: expected a block longer than 0 seconds, got {block}")
    names = []
    bounds = [*starts, end]
    for time in times:
        shot = max(int(np.searchsorted(starts, time, side="right")) - 1, 0)
        length = bounds[shot + 1] - bounds[shot]
        n_blocks = math.ceil(length / block - 1e-6)
        within = min(int((time - bounds[shot]) / length * n_blocks), n_blocks - 1) if n_blocks > 1 else 0
        names.append(f"{movie}_shot{shot:03d}" + (f"_block{within:02d}" if n_blocks > 1 else ""))
    return names
