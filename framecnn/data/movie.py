"""A movie frame by frame: the only file that speaks to PyAV."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from framecnn.data.decode import MAX_PIXELS
from framecnn.data.names import portable_problem
from framecnn.data.shots import SMALL_SIZE
from framecnn.errors import DataError, MissingExtraError
from framecnn.typing import Array

__all__ = ["Movie", "movie_name"]

# Containers of movies, and those of sound so that the message can say what is missing. Text, playlists and pictures,
# which libav would open as well, are no movies; and only files are opened, never a network address.
_FORMATS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf,mxf,gif,yuv4mpegpipe,nut,rm,dv,mp3,wav,flac,aac"
_MAX_LEAP = 3600.0  # seconds; a longer step between two frames is a broken clock
_MAX_DEMUX_ERRORS = 10


def movie_name(path: str | os.PathLike[str]) -> str:
    """Make a name for files and groups from the file name of a movie.

    Parameters
    ----------
    path : path

    Returns
    -------
    str
        The stem, at most 80 bytes of UTF-8; what is no letter, digit, ``.``, ``-`` or ``_`` becomes ``_``.

    Examples
    --------
    >>> movie_name("films/Big Buck Bunny (2008).mp4")
    'Big_Buck_Bunny_2008'
    """
    name = re.sub(r"[^\w.-]+", "_", Path(path).stem).encode()[:80].decode(errors="ignore")
    name = name.strip("_.-")
    return f"movie_{name}".rstrip("_") if portable_problem(name) else name


class Movie:
    """A movie file, open for reading; also a context manager that closes it.

    Parameters
    ----------
    path : path
        A regular file with a video stream. Cover art is no video; of several streams the largest is read.

    Attributes
    ----------
    name : str
        `movie_name` of the file.
    duration : float or None
        How long the file says it is, in seconds.
    rate : float
        Frames a second, on average.
    seconds : float
        How long a stretch has been read.
    damaged : int
        Packets and frames that were found damaged so far.

    Raises
    ------
    DataError
        If the file is not there, is no regular file, is no movie, has no video stream, or too large a picture.
    MissingExtraError
        If PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._av = _import_av()
        self.path = Path(path)
        self.name = movie_name(path)
        self.seconds = 0.0
        self.damaged = 0
        self._container = self._open()
        try:
            self._stream = self._choose_stream()
        except DataError:
            self.close()
            raise
        self.rate = float(self._stream.average_rate or self._stream.guessed_rate or 24)
        self.duration = self._declared_duration()
        self._reformatter = self._av.video.reformatter.VideoReformatter()

    def __enter__(self) -> "Movie":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frames(self, key_frames_only: bool = False) -> Iterator[tuple[float, Any]]:
        """Read the movie once, from the beginning; damaged packets and frames are counted and left out.

        Parameters
        ----------
        key_frames_only : bool, default=False
            Whether to decode nothing but key frames.

        Yields
        ------
        (float, av.VideoFrame)
            Seconds since the first frame, by the movie's own clock, ever increasing; and the frame.
        """
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.skip_frame = "NONKEY" if key_frames_only else "DEFAULT"
        interval = 1 / self.rate
        time, shift = -interval, None
        for frame in self._decode():
            expected = time + interval
            if frame.time is None:
                time = expected
            else:
                if shift is None or not time < frame.time - shift < time + _MAX_LEAP:
                    shift = frame.time - expected
                time = frame.time - shift
            self.seconds = time + interval
            if frame.is_corrupt:
                self.damaged += 1
            else:
                yield time, frame

    def small(self, frame: Any) -> Array:
        """Shrink a frame to (36, 64, 3) of uint8, RGB, each pixel the mean of what it covers."""
        height, width = SMALL_SIZE
        return self._reformatter.reformat(frame, width, height, "rgb24", interpolation="AREA").to_ndarray()

    def upright(self, frame: Any) -> Array:
        """Give a frame as (h, w, 3) of uint8, RGB, turned as the movie's rotation mark says."""
        return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)

    def _open(self) -> Any:
        if self.path.is_dir():
            raise DataError(f"movie {str(self.path)!r}: expected a file, got a folder; give the movie files in it")
        if not self.path.exists():
            raise DataError(f"movie {str(self.path)!r}: there is no such file; check the name")
        if not self.path.is_file():
            raise DataError(f"movie {str(self.path)!r}: expected a regular file; copy the movie to one")
        try:
            options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
            return self._av.open(f"file:{self.path}", options=options, metadata_errors="replace")
        except self._av.FFmpegError as error:
            raise DataError(
                f"movie {str(self.path)!r}: no movie that can be read ({error.strerror}); "
                "expected MP4, MKV, WebM, AVI or the like; if the file was cut off, copy it again"
            ) from None

    def _choose_stream(self) -> Any:
        covers = self._av.stream.Disposition.attached_pic | self._av.stream.Disposition.timed_thumbnails
        streams = [stream for stream in self._container.streams.video if not stream.disposition & covers]
        if not streams:
            raise DataError(f"movie {str(self.path)!r}: no video stream; expected a movie with pictures")
        stream = max(streams, key=lambda stream: stream.width * stream.height)
        if stream.width * stream.height > MAX_PIXELS:
            raise DataError(
                f"movie {str(self.path)!r}: expected at most {MAX_PIXELS} pixels a frame, "
                f"got {stream.width} x {stream.height}; scale the movie down"
            )
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        return stream

    def _declared_duration(self) -> float | None:
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        clock = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", self._stream.metadata.get("DURATION", ""))  # Matroska
        if clock:
            return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
        return self._container.duration / self._av.time_base if self._container.duration else None

    def _decode(self) -> Iterator[Any]:
        for _ in range(_MAX_DEMUX_ERRORS):
            try:
                for packet in self._container.demux(self._stream):
                    yield from self._frames_of(packet)
                return
            except self._av.FFmpegError:
                self.damaged += 1
        yield from self._frames_of(None)

    def _frames_of(self, packet: Any) -> list[Any]:
        try:
            return self._stream.decode(packet)
        except self._av.FFmpegError:
            self.damaged += 1
            return []


def _import_av() -> ModuleType:
    try:
        import av
    except ImportError:
        raise MissingExtraError("framecnn frames", "av", "video") from None
    return av
