"""Cutting frames from movies into a folder of frames: which frames are taken, and the group of each."""

import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from framecnn.data.frame_checks import LetterboxDetector, RepeatDetector
from framecnn.data.movie import Movie, MovieError
from framecnn.data.movie_files import FoundMovies, MovieFile, find_movies
from framecnn.data.shots import ShotDetector, group_names
from framecnn.data.small_pictures import is_blank
from framecnn.data.store import FrameStore, file_name
from framecnn.errors import DataError
from framecnn.storage.atomic import atomic_write
from framecnn.text import counted
from framecnn.typing import Array
from framecnn.version import __version__

__all__ = ["JPEG_QUALITY", "MovieReport", "cut_frames", "cutting"]

Progress = Callable[[float, float | None, str], None]
Interval = tuple[float, float]  # start and end in seconds
Cropping = tuple[
    tuple[int, int], tuple[int, int, int, int]
]  # (height, width) of frames to crop; bars, as `MovieReport.bars`

_BETWEEN_LETTERBOX_FRAMES = 1.0  # seconds
_MOST_PER_SHOT = 10_000
JPEG_QUALITY = 90
_NO_BARS: Cropping = ((0, 0), (0, 0, 0, 0))


@dataclass(frozen=True)
class MovieReport:
    """The result of cutting one movie.

    Parameters
    ----------
    movie : str
        Its name.
    label : str
        The class of its frames.
    n_frames, n_shots : int
        The number of frames written, and of shots found.
    seconds : float
        The seconds of the movie that could be read.
    duration : float or None
        The duration that the movie declares, in seconds.
    n_black, n_repeated : int
        The number of intervals without a frame, because all their frames are blank (black or one flat colour), or
        near-duplicates of a frame taken before.
    n_damaged : int
        The number of damaged packets and frames.
    bars : tuple of int
        The pixels cropped from the top, bottom, left and right.
    processing : tuple of str
        The conversions applied, as in a player.
    problem : str or None
        Why the movie, which lies in a folder of movies, could not be cut.
    is_kept : bool
        Whether the movie, which lies in a folder of movies, was cut before, and only counted now.

    Examples
    --------
    >>> print(MovieReport("orion", "orion", 4, 2, 4.5, 10.0, 1, 0, 3, (0, 0, 0, 0)).describe())
    orion: 4 frames; 2 shots found; read 4.5 s of 10.0 s; 3 damaged packets or frames; skipped: 1 black
    """

    movie: str
    label: str
    n_frames: int
    n_shots: int
    seconds: float
    duration: float | None
    n_black: int
    n_repeated: int
    n_damaged: int
    bars: tuple[int, int, int, int]
    processing: tuple[str, ...] = ()
    problem: str | None = None
    is_kept: bool = False

    @property
    def is_short(self) -> bool:
        """Whether the movie ended more than a second, and more than 2 %, before its declared duration."""
        return self.duration is not None and self.duration - self.seconds > max(1.0, 0.02 * self.duration)

    def describe(self) -> str:
        """Return the result in one line."""
        if self.problem is not None:
            return self.problem
        if self.is_kept:
            return f"{self.movie}: {counted(self.n_frames, 'frame')} cut before; --replace cuts the movie again"
        read = f"read {self.seconds:.1f} s of {self.duration:.1f} s" if self.is_short else f"{self.seconds:.1f} s"
        frames, shots = "frame" if self.n_frames == 1 else "frames", "shot" if self.n_shots == 1 else "shots"
        parts = [f"{self.movie}: {self.n_frames} {frames}; {self.n_shots} {shots} found", read]
        if self.n_damaged:
            parts.append(f"{self.n_damaged} damaged packets or frames")
        skipped = ((self.n_black, "black"), (self.n_repeated, "repeated"))
        if any(number for number, _ in skipped):
            parts.append("skipped: " + ", ".join(f"{number} {what}" for number, what in skipped if number))
        parts.extend(self.processing)
        if any(self.bars):
            parts.append("cropped {} + {} rows and {} + {} columns".format(*self.bars))
        return "; ".join(parts)


def cut_frames(
    movies: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    label: str | None = None,
    every: float = 1.0,
    per_shot: int | None = None,
    block: float = 10.0,
    crop_letterbox: bool = False,
    replace: bool = False,
    progress: Progress | None = None,
) -> list[MovieReport]:
    """Cut frames from movies into a folder per class, and write a table with the movie and group of each frame.

    The frames are JPEG files ``out/LABEL/MOVIE_SECONDS.jpg`` as a player shows them: upright, deinterlaced, with square
    pixels (stretched along their longer side) and, for HDR movies, tone-mapped to SDR.
    ``out/frames.csv`` gets a row for each frame (path, label, group, movie, time_s); rows of other movies are kept. A
    group is a shot of a movie, or a block of a long shot. Black frames and near-repeats are skipped; a later frame of
    the interval takes their place.

    Nothing is changed until all movies have been opened. The frames and rows of a movie appear together when the movie
    is finished. After an error or an interruption nothing of the unfinished movie is left, and the same call resumes
    with it; finished movies are not decoded again. The call refuses to resume if a movie file, a setting or the version
    of framecnn has changed since. Of a damaged movie, the frames that can be read are taken. A movie in a folder of
    movies of which nothing can be read is left out, and its report says why; the same call then cuts only such movies.
    Movies of a folder that `out` holds already stay as they are if there are others.

    Parameters
    ----------
    movies : sequence of path
        Movie files, and folders of movies. `find_movies` explains which files of a folder are movies, and their names
        and labels. Their names must differ, because file names and groups contain them.
    out : path
        The folder of frames; created if needed.
    label : str, optional
        The class of all these movies. If None, its class folder in a folder of movies, or each movie's name.
    every : float, default=1.0
        Seconds between frames, at least 0.01.
    per_shot : int, optional
        The number of frames of each shot, evenly spaced, at most 10,000; used instead of `every`. The movie is read
        twice.
    block : float, default=10.0
        Longer shots are divided into groups of at most this length, in seconds.
    crop_letterbox : bool, default=False
        Whether to crop black bars. The key frames of the movie are read beforehand.
    replace : bool, default=False
        Whether to replace the frames of a movie that `out` already holds, instead of an error. All movies are cut
        again, including those that an interrupted run finished. Only an interrupted run with the same movies and
        settings, and `replace`, is resumed.
    progress : callable, optional
        Called as ``progress(seconds_done, seconds_in_all, movie)``; the second is None if it is unknown. Of several
        movies the third is such as ``"orion (2 of 3)"``.

    Returns
    -------
    list of MovieReport
        One report per movie.

    Raises
    ------
    DataError
        If an argument, a movie or the folder cannot be used, or another run writes to the folder; the message says
        which and what to do.
    MissingExtraError
        If PyAV is not installed.
    """
    found = find_movies(movies, out, label)
    with cutting(found, out, every, per_shot, block, crop_letterbox, replace, progress) as reports:
        return reports


@contextmanager
def cutting(
    found: FoundMovies,
    out: str | os.PathLike[str],
    every: float,
    per_shot: int | None,
    block: float,
    crop_letterbox: bool,
    replace: bool,
    progress: Progress | None,
) -> Iterator[list[MovieReport]]:
    """Yield what :func:`cut_frames` returns, after cutting; the run is unfinished until the with statement ends."""
    if not 0.01 <= every < math.inf:
        raise DataError(f"frames: expected at least 0.01 seconds between frames, got {every}")
    if per_shot is not None and not 1 <= per_shot <= _MOST_PER_SHOT:
        raise DataError(f"frames: expected 1 to {_MOST_PER_SHOT:,} frames per shot, got {per_shot}")
    if not block > 0:
        raise DataError(f"frames: expected blocks longer than 0 seconds, got {block}")
    store = FrameStore(Path(out))
    held = {} if replace else store.held({file.name: file.label for file in found.movies if not file.is_named})
    new = [file for file in found.movies if file.name not in held] or found.movies  # all held: an error says so
    problems = _open_all(new)
    settings = {
        **{"every": every, "per_shot": per_shot, "block": block, "crop_letterbox": crop_letterbox},
        **{"framecnn": __version__, "replace": sorted(file.name for file in found.movies) if replace else []},
    }
    jobs = {file.name: {"label": file.label, "movie": _state(file.path), **settings} for file in new}
    kept = {file.name: _not_cut(file, held[file.name]) for file in found.movies if file.name not in jobs}
    with store.run(jobs, replace) as done:
        earlier = kept | {name: _report(entry) for name, entry in done.items()}
        yield [
            earlier[file.name]
            if file.name in earlier
            else _cut_or_say(file, problems.get(file.name), store, jobs[file.name], _counting(progress, i, len(jobs)))
            for i, file in enumerate(found.movies, 1)
        ]


def _counting(progress: Progress | None, number: int, n_movies: int) -> Progress | None:
    """Return `progress` with the number of the movie in its title, if there are several."""
    if progress is None or n_movies == 1:
        return progress
    return lambda done, total, movie: progress(done, total, f"{movie} ({number} of {n_movies})")


def _state(path: str | os.PathLike[str]) -> list[int]:
    """Return the size of a movie file and its time of modification in nanoseconds."""
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns]


def _cut_or_say(
    file: MovieFile, problem: str | None, store: FrameStore, job: Mapping[str, Any], progress: Progress | None
) -> MovieReport:
    """Cut a movie; return a report with the problem of one that lies in a folder of movies and cannot be read."""
    try:
        if problem is None:
            return _cut(file, store, job, progress)
    except MovieError as error:
        if file.is_named:
            raise
        problem = str(error)
    return _not_cut(file, 0, problem)


def _not_cut(file: MovieFile, n_frames: int, problem: str | None = None) -> MovieReport:
    """Return the report of a movie that is not cut in this run: it cannot be, or was cut before."""
    facts = (file.name, file.label, n_frames, 0, 0.0, None, 0, 0, 0, _NO_BARS[1])
    return MovieReport(*facts, problem=problem, is_kept=problem is None)


def _cut(file: MovieFile, store: FrameStore, job: Mapping[str, Any], progress: Progress | None) -> MovieReport:
    cropping = _find_bars(file.path) if job["crop_letterbox"] else _NO_BARS
    per_shot = job["per_shot"]
    slots = _regular_slots(job["every"]) if per_shot is None else _slots_of_shots(file, per_shot, progress)
    with Movie(file.path) as movie, store.staging() as staging:
        times, detector, outcomes = _take(movie, file.name, slots, staging, cropping, progress)
        if not movie.seconds:
            raise MovieError(
                f"frames: no frame of {str(file.path)!r} could be decoded ({movie.damaged} damaged packets or frames); "
                "copy the movie again, or run without it"
            )
        groups = group_names(file.name, times, detector.group_starts, movie.seconds, job["block"])
        report = MovieReport(
            movie=file.name,
            label=file.label,
            n_frames=len(times),
            n_shots=len(detector.starts),
            seconds=movie.seconds,
            duration=movie.duration,
            n_black=outcomes["black"],
            n_repeated=outcomes["repeated"],
            n_damaged=movie.damaged,
            bars=cropping[1],
            processing=tuple(movie.processing),
        )
        store.add(file.name, job, staging, zip(times, groups, strict=True), asdict(report))
    return report


def _report(entry: Mapping[str, Any]) -> MovieReport:
    """Return the report in a JSON entry, in which lists stand for tuples."""
    fields: dict[str, Any] = {name: tuple(value) if type(value) is list else value for name, value in entry.items()}
    return MovieReport(**fields)


def _open_all(movies: Sequence[MovieFile]) -> dict[str, str]:
    """Open every movie once, and return the problems, by name, of those in folders of movies that cannot be read."""
    problems: dict[str, str] = {}
    for file in movies:
        try:
            Movie(file.path).close()
        except MovieError as error:
            if file.is_named:
                raise
            problems[file.name] = str(error)
    if len(problems) == len(movies):
        raise DataError(f"frames: none of the {len(movies)} movies can be read; the first: {problems[movies[0].name]}")
    return problems


def _take(
    movie: Movie,
    name: str,
    slots: Iterator[Interval],
    staging: Path,
    cropping: Cropping,
    progress: Progress | None,
) -> tuple[list[float], ShotDetector, Counter[str]]:
    """Write the first informative frame of each slot; return their times, the shots, and the outcomes of the slots."""
    times: list[float] = []
    detector, seen, outcomes = ShotDetector(), RepeatDetector(), Counter[str]()
    slot, outcome = next(slots), "none"
    for time, frame, (first, last) in _shown(movie):
        if progress:
            progress(time, movie.duration, name)
        small = movie.small(frame)
        detector.push(time, small)
        while last >= slot[0]:
            if first < slot[1] and outcome != "taken":
                outcome = "black" if is_blank(small) else "repeated" if seen.is_repeat(small) else "taken"
                if outcome == "taken":
                    seen.remember(small)
                    times.append(time)
                    encoded = io.BytesIO()  # Pillow's own writing does not report a full disk
                    Image.fromarray(_crop(movie.upright(frame), cropping)).save(encoded, "JPEG", quality=JPEG_QUALITY)
                    with atomic_write(staging / file_name(name, time)) as temporary:
                        temporary.write_bytes(encoded.getvalue())
            if last < slot[1]:
                break
            outcomes[outcome] += 1
            slot, outcome = next(slots), "none"
    outcomes[outcome] += 1
    detector.finish()
    return times, detector, outcomes


def _shown(movie: Movie) -> Iterator[tuple[float, Any, Interval]]:
    """Yield the time of each frame, the frame, and the interval for which it can be taken.

    Half the usual duration of a frame is cut off at both ends, so that the frame nearest to the start of a slot lies in
    it; only a frame that stays on has an interval longer than an instant.
    """
    held: tuple[float, Any] | None = None
    for time, frame in movie.frames():
        if held:
            yield *held, _span(held[0], time, movie.rate)
        held = time, frame
    if held:
        yield *held, _span(held[0], movie.seconds, movie.rate)


def _span(time: float, end: float, rate: float) -> Interval:
    half = 0.5 * min(1 / rate, end - time)
    return time + half, end - half


def _regular_slots(every: float) -> Iterator[Interval]:
    return ((i * every, (i + 1) * every) for i in count())


def _slots_of_shots(file: MovieFile, per_shot: int, progress: Progress | None) -> Iterator[Interval]:
    """Divide each shot into `per_shot` equal parts; yield the second half of each part as a slot."""
    with Movie(file.path) as movie:
        detector = ShotDetector()
        for time, frame in movie.frames():
            if progress:
                progress(time, movie.duration, f"{file.name}, finding shots")
            detector.push(time, movie.small(frame))
        bounds, interval = [*detector.finish(), movie.seconds], 1 / movie.rate
    for start, end in pairwise(bounds):
        step = (end - start) / per_shot
        for i in range(per_shot):
            yield start + i * step + max(0.0, (step - interval) / 2), start + (i + 1) * step
    yield math.inf, math.inf


def _find_bars(path: Path) -> Cropping:
    detector, last, shape = LetterboxDetector(), -math.inf, (0, 0)
    with Movie(path) as movie:
        for time, frame in movie.frames(key_frames_only=True):
            if time >= last + _BETWEEN_LETTERBOX_FRAMES:
                picture = movie.upright(frame)
                detector.push(picture)
                last, shape = time, picture.shape[:2]
    return shape, detector.bars()


def _crop(picture: Array, cropping: Cropping) -> Array:
    shape, (top, bottom, left, right) = cropping
    height, width = picture.shape[:2]
    return picture[top : height - bottom, left : width - right] if (height, width) == shape else picture
