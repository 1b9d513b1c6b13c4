"""The frames of a movie, read with PyAV."""

import os
import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from framecnn.data.clock import FrameClock
from framecnn.data.decode import MAX_PIXELS
from framecnn.data.names import portable_problem
from framecnn.data.small_pictures import SMALL_SIZE
from framecnn.data.tone_mapping import to_sdr
from framecnn.errors import DataError, MissingExtraError
from framecnn.typing import Array

__all__ = ["MAX_NAME_BYTES", "Movie", "MovieError", "movie_name"]

MAX_NAME_BYTES = 80
"""The longest name of a movie, in UTF-8."""

# The containers that are opened; sound files are, so that the error is "no video stream". Text, playlists and pictures,
# which libav would also open, are refused. Only files are opened, never a network address.
_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf,mxf,gif,yuv4mpegpipe,nut,rm,dv,mp3,wav,flac,aac,"
    "h264,hevc,mpegvideo,m4v,ivf,obu"
)
_MAX_LEAP = 3600.0  # seconds; a longer step between two frames means broken time stamps
_MAX_LEAP_OF_BROADCAST = 10.0  # in formats whose time stamps may restart anywhere
_MAX_DEMUX_ERRORS = 10
_MAX_STRETCH = 10  # a sample aspect ratio beyond 10:1 is ignored
_NEARLY_SQUARE = Fraction(1, 100)  # ratios are rounded in files; no movie is resampled for a pixel or two

_TimedFrame = tuple[float, Any, Fraction | None]  # seconds, av.VideoFrame, its sample aspect ratio in the codec


class MovieError(DataError):
    """A movie file cannot be read."""


class MovieFrame(NamedTuple):
    """A decoded frame, and the aspect ratio of its pixels in the codec."""

    video: Any
    """av.VideoFrame"""
    codec_aspect: Fraction | None
    """The width of a pixel divided by its height, according to the codec."""


# Constants of the public headers of FFmpeg and, for colours, of ITU-T H.273.
_NO_TIMESTAMPS, _TS_DISCONT = 0x0080, 0x0200  # AVFMT_...
_BT709, _UNSPECIFIED, _BT2020 = 1, 2, 9  # primaries and matrices
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


def movie_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a movie in files and groups, made from its file name.

    Parameters
    ----------
    path : path

    Returns
    -------
    str
        The stem, at most 80 bytes of UTF-8, with ``_`` for all but letters, digits, ``.``, ``-`` and ``_``.

    Examples
    --------
    >>> movie_name("films/Big Buck Bunny (2008).mp4")
    'Big_Buck_Bunny_2008'
    """
    name = re.sub(r"[^\w.-]+", "_", Path(path).stem).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
    name = name.strip("_.-")
    return f"movie_{name}".rstrip("_") if portable_problem(name) else name


class Movie:
    """A movie file that is open for reading; as a context manager, it closes the file.

    Parameters
    ----------
    path : path
        A regular file with a video stream. Cover art does not count; of several streams the largest is read.
    max_pixels : int, default 64,000,000
        The largest number of pixels of a frame.

    Attributes
    ----------
    name : str
        `movie_name` of the file.
    duration : float or None
        The duration in seconds that the file declares; None if it declares none, or consists of several recordings.
    rate : float
        The mean number of frames per second.
    seconds : float
        The seconds that have been read.
    damaged : int
        The number of damaged packets and frames so far.
    processing : dict
        The keys are the conversions applied so far, as in a player, such as ``"deinterlaced"``.

    Raises
    ------
    MovieError
        If the file does not exist, is not a regular file or not a movie, has no video stream, or has frames of too many
        pixels.
    MissingExtraError
        If PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS):
        self._av = _import_av()
        self.path, self._max_pixels = Path(path), max_pixels
        self.name = movie_name(path)
        self.seconds = 0.0
        self.damaged = 0
        self._container = self._open()
        try:
            self._stream = self._choose_stream()
        except MovieError:
            self.close()
            raise
        self.rate = self._frame_rate()
        self.duration = self._declared_duration()
        container = self._container.format
        self._max_leap = max(3 / self.rate, _MAX_LEAP_OF_BROADCAST) if container.flags & _TS_DISCONT else _MAX_LEAP
        self._decoding_only = container.name in ("avi", "asf")
        self.processing: dict[str, None] = {}
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        aspect = self._stream.sample_aspect_ratio
        self._container_aspect = aspect if aspect != self._stream.codec_context.sample_aspect_ratio else None

    def __enter__(self) -> "Movie":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frames(self, key_frames_only: bool = False) -> Iterator[tuple[float, MovieFrame]]:
        """Yield the frames of the movie once, from the beginning; damaged packets and frames are counted and skipped.

        Parameters
        ----------
        key_frames_only : bool, default=False
            Whether to decode key frames only.

        Yields
        ------
        (float, MovieFrame)
            Seconds since the first frame, by the time stamps of the movie, always increasing; and the frame,
            deinterlaced if it is marked as interlaced (not if only key frames are decoded).
        """
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.skip_frame = "NONKEY" if key_frames_only else "DEFAULT"
        frames = self._timed_frames()
        if not key_frames_only:
            frames = self._deinterlaced(frames)
        for time, frame, codec_aspect in frames:
            yield time, MovieFrame(frame, codec_aspect)

    def small(self, frame: MovieFrame) -> Array:
        """Return a frame resized to (36, 64, 3) of uint8, RGB; each pixel is the mean of the area that it covers."""
        height, width = SMALL_SIZE
        transfer = _transfer(frame.video)
        pixels = "rgb48le" if transfer else "rgb24"
        picture = self._reformatter.reformat(frame.video, width, height, pixels, interpolation="AREA").to_ndarray()
        return to_sdr(picture, transfer) if transfer else picture

    def upright(self, frame: MovieFrame) -> Array:
        """Return a frame as a player shows it, in RGB.

        Pixels that are not square are stretched along their longer side, so that no row or column of the file is lost:
        720 x 576 at 16:9 becomes 1024 x 576. HDR (PQ, HLG) is tone-mapped, and BT.2020 is converted to BT.709. Last,
        the picture is rotated and mirrored by the display matrix of the movie.

        Parameters
        ----------
        frame : MovieFrame

        Returns
        -------
        array (h, w, 3) of uint8
        """
        video, aspect = frame.video, self._sample_aspect(frame.codec_aspect)
        transfer = _transfer(video)
        pixels = "rgb48le" if transfer else "rgb24"
        width, height = round(video.width * max(aspect, 1)), round(video.height / min(aspect, 1))
        if width * height > self._max_pixels:
            width, height = video.width, video.height
        if video.colorspace == _UNSPECIFIED and (video.width >= 1280 or video.height > 576):
            video.colorspace = _BT709  # as in players; FFmpeg assumes BT.601
        if (width, height) != (video.width, video.height):
            self.processing[f"stretched from {video.width}x{video.height} to {width}x{height}"] = None
            video = video.reformat(width, height, pixels, interpolation="BICUBIC")
        picture = video.to_ndarray(format=pixels)
        if transfer:
            change = "converted" if transfer == "BT.2020" else "tone-mapped"
            self.processing[f"{change} from {transfer}"] = None
            picture = to_sdr(picture, transfer)
        return _oriented(picture, video)

    def _open(self) -> Any:
        if self.path.is_dir():
            raise MovieError(f"movie {str(self.path)!r}: expected a file, got a folder; give the movie files in it")
        if not self.path.exists():
            raise MovieError(f"movie {str(self.path)!r}: the file does not exist; check the name")
        if not self.path.is_file():
            raise MovieError(f"movie {str(self.path)!r}: expected a regular file; copy the movie to a regular file")
        try:
            options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
            return self._av.open(f"file:{self.path}", options=options, metadata_errors="replace")
        except self._av.FFmpegError as error:
            raise MovieError(
                f"movie {str(self.path)!r}: the movie cannot be read ({error.strerror}); "
                "expected MP4, MKV, WebM, AVI or the like; if the file is truncated, copy it again"
            ) from None

    def _choose_stream(self) -> Any:
        covers = self._av.stream.Disposition.attached_pic | self._av.stream.Disposition.timed_thumbnails
        streams = [stream for stream in self._container.streams.video if not stream.disposition & covers]
        if not streams:
            raise MovieError(f"movie {str(self.path)!r}: no video stream; expected a movie with pictures")
        streams = [stream for stream in streams if stream.codec_context]
        if not streams:
            raise MovieError(f"movie {str(self.path)!r}: FFmpeg does not know the codec; convert the movie to H.264")
        stream = max(streams, key=lambda stream: stream.width * stream.height)
        if stream.width * stream.height > self._max_pixels:
            raise MovieError(
                f"movie {str(self.path)!r}: expected at most {self._max_pixels:,} pixels per frame, "
                f"got {stream.width} x {stream.height}; scale the movie down"
            )
        stream.codec_context.options = {"max_pixels": str(self._max_pixels)}
        return stream

    def _declared_duration(self) -> float | None:
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        clock = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", self._stream.metadata.get("DURATION", ""))  # Matroska
        if clock:
            end = int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
        elif self._container.duration:
            end = self._container.duration / self._av.time_base
        else:
            return None
        if "matroska" not in self._container.format.name:
            return end
        start = max(float((self._stream.start_time or 0) * self._stream.time_base), 0.0)
        return end - start if end > start else end  # an end, as FFmpeg writes it, comes after the start

    def _frame_rate(self) -> float:
        rates = [self._stream.average_rate, self._stream.guessed_rate]
        if self._container.format.flags & _NO_TIMESTAMPS:
            rates.reverse()  # the average is only FFmpeg's default
        return float(rates[0] or rates[1] or 24)

    def _sample_aspect(self, codec_aspect: Fraction | None) -> Fraction:
        """Return the width of a pixel divided by its height, from the container or else from the codec."""
        aspect = self._container_aspect or codec_aspect
        if aspect and 1 / _MAX_STRETCH <= aspect <= _MAX_STRETCH and abs(aspect - 1) > _NEARLY_SQUARE:
            return aspect
        return Fraction(1)

    def _timed_frames(self) -> Iterator[_TimedFrame]:
        """Yield the decoded frames of the movie in the order in which they are shown."""
        codec, interval, tick = self._stream.codec_context, 1 / self.rate, float(self._stream.time_base)
        clock = FrameClock(self._stream.time_base, interval, self._max_leap, self._decoding_only)
        for frame in self._decode(clock):
            if clock.n_joins:
                self.duration = None
            time = clock.time(frame, codec.has_b_frames)
            length = frame.duration * tick
            self.seconds = time + (length if 0 < length <= self._max_leap else interval)
            if frame.is_corrupt:
                self.damaged += 1
            else:
                yield time, frame, codec.sample_aspect_ratio

    def _deinterlaced(self, frames: Iterator[_TimedFrame]) -> Iterator[_TimedFrame]:
        """Yield frames; from the first interlaced frame on, all go through FFmpeg's bwdif filter."""
        graph, layout = None, None
        waiting: deque[_TimedFrame] = deque()
        for time, frame, aspect in frames:
            if graph is None and not frame.interlaced_frame:
                yield time, frame, aspect
                continue
            if (frame.width, frame.height, frame.format.name) != layout:
                if graph is not None:
                    yield from self._filtered(graph, None, waiting)
                layout = frame.width, frame.height, frame.format.name
                graph = self._deinterlacer(frame)
            if frame.interlaced_frame:
                self.processing["deinterlaced"] = None
            waiting.append((time, frame, aspect))
            yield from self._filtered(graph, frame, waiting)
        if graph is not None:
            yield from self._filtered(graph, None, waiting)

    def _deinterlacer(self, frame: Any) -> Any:
        graph = self._av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=self._stream.time_base
        )
        bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        return graph

    def _filtered(self, graph: Any, frame: Any, waiting: deque[_TimedFrame]) -> Iterator[_TimedFrame]:
        """Push a frame, or None at the end, into the filter, and yield the frames that are ready."""
        graph.vpush(frame)
        while waiting:
            try:
                ready = graph.vpull()
            except (self._av.error.BlockingIOError, self._av.error.EOFError):
                return
            time, _, aspect = waiting.popleft()
            yield time, ready, aspect

    def _decode(self, clock: FrameClock) -> Iterator[Any]:
        for _ in range(_MAX_DEMUX_ERRORS):
            try:
                for packet in self._container.demux(self._stream):
                    clock.correct(packet)
                    yield from self._frames_of(packet)
                return
            except IndexError:  # raised by PyAV at the end of a file in which a stream was added
                break
            except self._av.FFmpegError:
                self.damaged += 1
        yield from self._frames_of(None)

    def _frames_of(self, packet: Any) -> list[Any]:
        try:
            return self._stream.decode(packet)
        except self._av.error.EOFError:  # the decoder has been flushed
            return []
        except self._av.FFmpegError:
            self.damaged += 1
            return []


def _transfer(frame: Any) -> str | None:
    """Return the name of a frame's HDR transfer or wide gamut; None if it is SDR of BT.709."""
    wide = "BT.2020" if frame.color_primaries == _BT2020 else None
    return _HDR_TRANSFERS.get(frame.color_trc, wide)


def _oriented(picture: Array, frame: Any) -> Array:
    """Return a picture rotated and mirrored by the display matrix of its frame, in the nearest of eight orientations.

    The matrix (a, b, u; c, d, v; x, y, w) moves the pixel at (x, y) to (a x + c y, b x + d y).
    """
    marks = [data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    if not marks:
        return picture
    a, b, _, c, d = np.frombuffer(marks[0], np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _import_av() -> ModuleType:
    try:
        import av
    except ImportError:
        raise MissingExtraError("movies", "av", "video") from None
    return av
