"""The shots and groups of a movie, found in one pass over small pictures (36 x 64) of its frames.

A shot is the sequence of frames between two cuts or gradual transitions. A group is a set of frames that must stay on
one side of a split. Splitting a shot over two groups would leak, merging two shots does not: groups start at sure
boundaries only. `ShotDetector.starts` holds every probable boundary: shots are counted by it, and `cut_frames` takes
its `per_shot` frames between them. `ShotDetector.group_starts` holds the sure ones among them: if a cut, fade, dissolve
or wipe is doubtful, both shots are one group. Flashes, strobes or black between frames of the same picture do not
divide a shot.

Durations count each frame as its distance from the one before, but as 1/60 s at least and 0.2 s at most: unusual frame
rates and freeze frames do not matter. Consecutive blank frames count half a second at most.
"""

import math
from collections.abc import Sequence

import numpy as np

from framecnn.data.boundaries import find_boundaries
from framecnn.data.small_pictures import SMALL_SIZE, is_blank
from framecnn.data.transitions import describe, neighbour_differences
from framecnn.errors import DataError, ShapeError
from framecnn.typing import Array

__all__ = ["ShotDetector", "group_names"]

_CONTEXT = 3.0  # seconds on either side of a decision
_SHORTEST, _LONGEST = 1 / 60, 0.2  # seconds that a frame adds to the elapsed time
_LONGEST_BLANK = 0.5  # seconds
_CHUNK = 16  # frames


class ShotDetector:
    """A detector of the beginnings of shots, frame by frame; it decides with a delay of up to 9 s.

    Attributes
    ----------
    starts : list of float
        Time of the first frame of each shot found so far, in seconds; in a gradual transition, of its middle.
    group_starts : list of float
        The certain ones among `starts`, at which a new group begins.

    Notes
    -----
    `boundaries` explains the rules. ``python -m benchmarks.bench_shots`` measures recall and precision.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> red, blue = np.zeros((2, 36, 64, 3), np.uint8)
    >>> red[..., 0], blue[..., 2] = rng.integers(80, 250, (2, 36, 64))
    >>> detector = ShotDetector()
    >>> for i in range(48):
    ...     detector.push(i / 24, red if i < 24 else blue)
    >>> detector.finish()
    [0.0, 1.0]
    """

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.group_starts: list[float] = []
        self._waiting: list[tuple[float, float, Array]] = []  # elapsed, time, picture
        self._times = np.empty(0)
        self._frames = describe(self._times, np.empty((0, *SMALL_SIZE, 3), np.uint8))
        self._differences = neighbour_differences(self._frames, 0)
        self._elapsed = self._blank = self._decided = 0.0
        self._last = -math.inf

    def push(self, time: float, picture: Array) -> None:
        """Add the next frame.

        Parameters
        ----------
        time : float
            Its time in seconds.
        picture : array (36, 64, 3) of uint8
            The frame, resized.

        Raises
        ------
        ShapeError
            If the picture has a different shape.
        """
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
        self._elapsed += step
        self._waiting.append((self._elapsed, time, picture))
        if len(self._waiting) == _CHUNK:
            self._describe()
            if self._elapsed - self._decided > 3 * _CONTEXT:
                self._decide(self._elapsed - _CONTEXT)

    def finish(self) -> list[float]:
        """Decide on the last frames and return `starts`.

        Returns
        -------
        list of float
            `starts`.
        """
        if self._waiting:
            self._describe()
        if len(self._times):
            self._decide(math.inf)
        return self.starts

    def _describe(self) -> None:
        elapsed, times, pictures = (np.array(column) for column in zip(*self._waiting, strict=True))
        self._waiting = []
        first = len(self._times)
        self._frames = self._frames.followed_by(describe(elapsed, pictures))
        self._times = np.concatenate([self._times, times])
        self._differences = np.concatenate([self._differences, neighbour_differences(self._frames, first)])

    def _decide(self, until: float) -> None:
        """Decide on the frames up to an elapsed time, and drop the frames that no later decision needs."""
        elapsed = self._frames.elapsed
        for index, is_sure in find_boundaries(self._frames, self._differences):
            if self._decided < elapsed[index] <= until:
                self.starts.append(float(self._times[index]))
                if is_sure:
                    self.group_starts.append(float(self._times[index]))
        self._decided = until
        kept = elapsed > until - _CONTEXT
        self._frames, self._times, self._differences = (
            self._frames.take(kept),
            self._times[kept],
            self._differences[kept],
        )


def group_names(movie: str, times: Sequence[float], starts: Sequence[float], end: float, block: float) -> list[str]:
    """Return the name of the group of every frame: its movie and shot and, in a long shot, its block.

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
        Longest block in seconds; a longer shot is divided into equal blocks.

    Returns
    -------
    list of str
        One name per frame.

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
