"""Where shots begin, and which frames must stay together: one pass over small pictures of a movie's frames."""

import math
from collections.abc import Sequence

import numpy as np

from framecnn.data.boundaries import find_boundaries
from framecnn.data.small import SMALL_SIZE, is_blank
from framecnn.data.transitions import Described, describe, neighbour_differences
from framecnn.errors import DataError, ShapeError
from framecnn.typing import Array

__all__ = ["SMALL_SIZE", "ShotDetector", "group_names"]

_CONTEXT = 3.0  # seconds on either side of a decision
_SHORTEST, _LONGEST = 1 / 60, 0.2  # seconds that a frame counts for
_LONGEST_BLANK = 0.5  # seconds
_CHUNK = 16  # frames


class ShotDetector:
    def __init__(self) -> None:
        self.starts: list[float] = []
        self.group_starts: list[float] = []
        self._waiting: list[tuple[float, float, Array]] = []  # clock, time, picture
        self._frames: Described | None = None
        self._times = np.empty(0)
        self._differences = np.empty((0, 19), np.float32)
        self._clock, self._blank, self._last = 0.0, 0.0, -math.inf
        self._decided = 0.0

    def push(self, time: float, picture: Array) -> None:
        if picture.shape != (*SMALL_SIZE, 3):
            raise ShapeError(f"ShotDetector: expected a picture of shape (36, 64, 3), got {picture.shape}")
        step = min(max(time - self._last, _SHORTEST), _LONGEST)
        self._last = time
        if is_blank(picture):
            self._blank += step
            if not self.starts or self._blank > _LONGEST_BLANK:
                return
        else:
            self._blank = 0.0
            if not self.starts:
                self.starts.append(time)
                self.group_starts.append(time)
        self._clock += step
        self._waiting.append((self._clock, time, picture))
        if len(self._waiting) == _CHUNK:
            self._describe()
            if self._clock - self._decided > 3 * _CONTEXT:
                self._decide(self._clock - _CONTEXT)

    def finish(self) -> list[float]:
        if self._waiting:
            self._describe()
        if self._frames is not None:
            self._decide(math.inf)
        return self.starts

    def _describe(self) -> None:
        clock, times, pictures = (np.array(column) for column in zip(*self._waiting, strict=True))
        self._waiting = []
        new = describe(clock, pictures)
        first = len(self._times)
        self._frames = new if self._frames is None else self._frames.followed_by(new)
        self._times = np.concatenate([self._times, times])
        self._differences = np.concatenate([self._differences, neighbour_differences(self._frames, first)])

    def _decide(self, until: float) -> None:
        frames = self._frames
        for index, is_sure in find_boundaries(frames, self._differences):
            if self._decided < frames.clock[index] <= until:
                self.starts.append(float(self._times[index]))
                if is_sure:
                    self.group_starts.append(float(self._times[index]))
        self._decided = until
        keep = frames.clock > until - _CONTEXT
        self._frames, self._times = frames.take(keep), self._times[keep]
        self._differences = self._differences[keep]


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
