"""What ``framecnn predict`` says about pictures, movies and files that cannot be read."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.data import SkippedFrame, decode
from framecnn.data.loader import map_ahead
from framecnn.data.prediction_table import PredictionRow
from framecnn.errors import DataError, MissingExtraError
from framecnn.execution import check_cancelled, get_executor
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array

__all__ = ["Predictions", "predict_all", "predict_pictures", "table_row"]

BATCH = 32
PER_TASK = 256  # pictures, on a cluster
SAMPLE = 8  # pictures that all workers must see
Row = dict[str, Any]


@dataclass
class Predictions:
    """The predictions of all files, each a mapping that is ready for JSON.

    Attributes
    ----------
    classes : list of str
    pictures : list of dict
        ``path``, ``label``, ``probability``, ``outlier_score``, ``out_of_distribution``, ``nearest_training_path``
        (None if the model does not know the names of its training frames) and ``probabilities`` of each picture.
    movies : list of dict
        ``path``, ``seconds``, and the votes of the movie; ``shots`` (``start`` and ``end`` in seconds, and the votes of
        each) and ``frames`` (``time``, ``shot``, and the keys of a picture but ``path``). Votes are ``label`` (of most
        frames), ``share`` (of the frames with this label), ``out_of_distribution`` (the share of frames that are) and
        ``n_frames``; a shot without a frame has no label.
    skipped : list of dict
        ``path`` and the ``reason`` why the file has no prediction.
    """

    classes: list[str]
    pictures: list[Row] = field(default_factory=list)
    movies: list[Row] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    @property
    def totals(self) -> dict[str, int]:
        """The number of pictures by label, the most frequent first."""
        return dict(Counter(row["label"] for row in self.pictures).most_common())

    def table_rows(self) -> Iterator[PredictionRow]:
        """Yield the rows of a table of predictions; the group of a movie's frame is its shot."""
        for row in self.pictures:
            yield table_row(self.classes, row["path"], row)
        for movie in self.movies:
            for row in movie["frames"]:
                yield table_row(self.classes, frame_path(movie, row), row, f"shot{row['shot']:03d}")


def table_row(classes: Sequence[str], path: str, row: Mapping[str, Any], group: str = "") -> PredictionRow:
    """Return the row of a picture in a table of predictions."""
    shares = np.array([row["probabilities"][name] for name in classes])
    return PredictionRow(path, shares, row["out_of_distribution"], row["nearest_training_path"] or "", group=group)


def frame_path(movie: Mapping[str, Any], frame: Mapping[str, Any]) -> str:
    """Return the path of a movie and the time of a frame in seconds, as a media fragment."""
    return f"{movie['path']}#t={frame['time']:.3f}"


def predict_all(
    classifier: Any, pictures: Sequence[Path], movies: Sequence[Path], every: float, update: console.Update
) -> Predictions:
    """Return the predictions of pictures and movies; files that cannot be read are skipped with a reason.

    Parameters
    ----------
    classifier : FrameClassifier
        One of 8-bit colour frames.
    pictures, movies : sequence of Path
    every : float
        Seconds between the frames of a movie.
    update : callable
        As :func:`framecnn.cli.console.progress` yields it.

    Returns
    -------
    Predictions
    """
    found = Predictions([str(label) for label in classifier.classes_])
    size = tuple(classifier.features_.frame_shape_[:2])
    for path, row in predict_pictures(classifier, pictures, update):
        if isinstance(row, str):
            found.skipped.append({"path": str(path), "reason": row})
        else:
            found.pictures.append({"path": str(path), **row})
    for path in movies:
        try:
            found.movies.append(_movie(classifier, found.classes, path, every, size, update))
        except (DataError, MissingExtraError, SkippedFrame) as error:
            reason = str(error).removeprefix(f"movie {str(path)!r}: ")
            found.skipped.append({"path": str(path), "reason": reason})
    return found


def predict_pictures(
    classifier: Any, pictures: Sequence[Path], update: console.Update
) -> Iterator[tuple[Path, Row | str]]:
    """Yield each picture with its prediction, or the reason why there is none, while they are made."""
    classes, size = [str(label) for label in classifier.classes_], tuple(classifier.features_.frame_shape_[:2])
    executor = get_executor()
    executor.check_files(pictures[:: 1 + len(pictures) // SAMPLE])
    paths = [os.path.abspath(path) for path in pictures] if executor.is_remote else pictures
    tasks = ((portion,) for portion in executor.portions(paths, PER_TASK))
    rows = chain.from_iterable(executor.map(_predict_pictures, (classifier, classes, size), tasks))
    for done, (path, row) in enumerate(zip(pictures, rows, strict=True), start=1):
        yield path, row
        if done % BATCH == 0 or done == len(pictures):
            update(done, len(pictures))


def _predict_pictures(
    shared: tuple[Any, Sequence[str], tuple[int, int]], paths: Sequence[str | Path]
) -> Iterator[Row | str]:
    """Yield the prediction of each picture, or the reason why there is none."""
    classifier, classes, size = shared
    decoded = map_ahead(lambda path: _pixels(path, size), paths, get_num_threads(), BATCH)
    while some := list(islice(decoded, BATCH)):
        check_cancelled()
        rows = iter(_label(classifier, classes, [found for found in some if not isinstance(found, str)]))
        yield from (found if isinstance(found, str) else next(rows) for found in some)


def _pixels(path: str | Path, size: tuple[int, int]) -> Any:
    """Return the frame of a file, or the reason why there is none."""
    try:
        return decode(path, size).pixels
    except SkippedFrame as skipped:
        return "there is no such file; check the path" if skipped.reason == "vanished" else str(skipped)


def _label(classifier: Any, classes: Sequence[str], frames: Sequence[Array]) -> list[Row]:
    """Return label, probabilities and nearest training frame of each frame, and whether it is out-of-distribution."""
    if not frames:
        return []
    found, names = classifier.predict_details(np.stack(frames)), classifier.training_names_
    rows = []
    details = found.probabilities, found.outlier_scores, found.out_of_distribution, found.nearest
    for shares, score, is_far, near in zip(*details, strict=True):
        best = int(shares.argmax())
        rows.append(
            {
                "label": classes[best],
                "probability": round(float(shares[best]), 6),
                "outlier_score": round(float(score), 6),
                "out_of_distribution": bool(is_far),
                "nearest_training_path": None if names is None else str(names[near[0]]),
                "probabilities": {name: round(float(p), 6) for name, p in zip(classes, shares, strict=True)},
            }
        )
    return rows


def _movie(
    classifier: Any, classes: Sequence[str], path: Path, every: float, size: tuple[int, int], update: console.Update
) -> Row:
    """Return the predictions of the frames of a movie, and the votes of its shots and of the movie."""
    from framecnn.data.movie_frames import MovieFrames

    update(0, None, f"reading {path.name}")
    movie = MovieFrames(path, every, size, update)
    rows: list[Row] = []
    times: list[float] = []
    batch: list[tuple[float, Array]] = []

    def label() -> None:
        labelled = _label(classifier, classes, [pixels for _, pixels in batch])
        rows.extend({"time": round(time, 3), **row} for (time, _), row in zip(batch, labelled, strict=True))
        batch.clear()

    for time, pixels in movie:
        times.append(time)
        batch.append((time, pixels))
        if len(batch) == BATCH:
            label()
    label()
    if not rows:
        raise DataError("every frame is blank (black or of one colour)")
    starts = [start for start, _ in movie.shots]
    for row, shot in zip(rows, np.searchsorted(starts, times, side="right") - 1, strict=True):
        row["shot"] = max(int(shot), 0)
    shots = [
        {"start": round(start, 3), "end": round(end, 3), **_votes([row for row in rows if row["shot"] == number])}
        for number, (start, end) in enumerate(movie.shots)
    ]
    return {"path": str(path), "seconds": shots[-1]["end"], **_votes(rows), "shots": shots, "frames": rows}


def _votes(frames: Sequence[Row]) -> Row:
    """Return the label of most frames, with their share; of labels with as many votes, the more probable one."""
    counts = Counter(row["label"] for row in frames)
    if not counts:
        return {"label": None, "share": None, "out_of_distribution": None, "n_frames": 0}
    label = max(counts, key=lambda name: (counts[name], sum(row["probabilities"][name] for row in frames)))
    n_far = sum(row["out_of_distribution"] for row in frames)
    shares = {"share": round(counts[label] / len(frames), 6), "out_of_distribution": round(n_far / len(frames), 6)}
    return {"label": label, **shares, "n_frames": len(frames)}
