"""Frames of a movie at regular times, with the pixels that training would see, and the shots of the movie."""

import io
import os
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from PIL import Image

from framecnn.data.cutting import JPEG_QUALITY, Progress
from framecnn.data.decode import DEFAULT_SIZE, decode
from framecnn.data.movie import Movie
from framecnn.data.shots import ShotDetector
from framecnn.data.small_pictures import is_blank
from framecnn.errors import DataError
from framecnn.typing import Array

__all__ = ["SHORTEST", "MovieFrames"]

SHORTEST = 0.01
"""The shortest time between frames, in seconds."""


class MovieFrames:
    """The frames of a movie, one of every interval: the first that is not blank.

    Each frame is encoded as :func:`framecnn.data.cutting.cut_frames` writes it and decoded as a folder of frames is, so
    that a model sees the pixels that it would see in training.

    Parameters
    ----------
    path : path
        The movie.
    every : float, default 1
        The length of the intervals in seconds, at least 0.01.
    size : (int, int), default (240, 360)
        Height and width of the frames in pixels.
    progress : callable, optional
        Called as ``progress(seconds_done, seconds_in_all, movie)``; the second is None if it is unknown.

    Attributes
    ----------
    shots : list of (float, float)
        Start and end of each shot in seconds, once all frames have been read.

    Raises
    ------
    DataError
        If the file is not a movie, `every` is too short, or, while the frames are read, none can be decoded.
    MissingExtraError
        If PyAV is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: float = 1.0,
        size: tuple[int, int] = DEFAULT_SIZE,
        progress: Progress | None = None,
    ):
        if not every >= SHORTEST:
            raise DataError(f"MovieFrames: expected at least {SHORTEST} seconds between frames, got {every}")
        self._path, self._every, self._size, self._progress = Path(path), every, size, progress
        self.shots: list[tuple[float, float]] = []

    def __repr__(self) -> str:
        return f"MovieFrames({str(self._path)!r}, every={self._every:g}, size={self._size})"

    def __iter__(self) -> Iterator[tuple[float, Array]]:
        """Yield the time of each frame in seconds, and the frame, (h, w, 3) of uint8."""
        detector, due = ShotDetector(), 0.0
        with Movie(self._path) as movie, tempfile.TemporaryDirectory(prefix="framecnn-") as folder:
            for time, frame in movie.frames():
                if self._progress:
                    self._progress(time, movie.duration, movie.name)
                small = movie.small(frame)
                detector.push(time, small)
                middle = time + 0.5 / movie.rate  # of the time for which the frame is shown
                if middle >= due and not is_blank(small):
                    due = (middle // self._every + 1) * self._every
                    yield time, self._as_in_training(movie.upright(frame), Path(folder, "frame.jpg"))
            if not movie.seconds:
                raise DataError(
                    f"movie {str(self._path)!r}: no frame could be decoded ({movie.damaged} damaged packets or "
                    "frames); copy the movie again"
                )
            self.shots = list(pairwise([*detector.finish(), movie.seconds]))

    def _as_in_training(self, picture: Array, path: Path) -> Array:
        encoded = io.BytesIO()
        Image.fromarray(picture).save(encoded, "JPEG", quality=JPEG_QUALITY)
        path.write_bytes(encoded.getvalue())
        return decode(path, self._size).pixels
