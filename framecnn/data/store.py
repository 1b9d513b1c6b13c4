"""The folder of frames that are cut from movies: a folder per class, and the table with the group of each frame."""

import csv
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framecnn.data.labels import GROUPS_FILE
from framecnn.data.tables import format_table, read_table
from framecnn.errors import DataError
from framecnn.storage.atomic import atomic_write, hidden_path, naming_users_files, temporary_path
from framecnn.storage.file_names import same_name_key
from framecnn.storage.output_lock import lock_outputs
from framecnn.storage.output_set import settle, switch

__all__ = ["FrameStore", "file_name"]

_COLUMNS = ("path", "label", "group", "movie", "time_s")
_GROUP = re.compile(r"(.+)_shot\d+(_(block)?\d+)?", re.DOTALL)  # of framecnn's own: its movie comes first
_TIME_AND_SUFFIX = r"_\d{4,}\.\d{3}s\.jpg"


def file_name(movie: str, time: float) -> str:
    """Return the file name of a frame.

    Parameters
    ----------
    movie : str
        Name of the movie.
    time : float
        Seconds since its first frame.

    Returns
    -------
    str

    Examples
    --------
    >>> file_name("orion", 12.5)
    'orion_0012.500s.jpg'
    """
    return f"{movie}_{time:08.3f}s.jpg"


@dataclass(frozen=True)
class FrameStore:
    """A folder of frames to which movies are added, each as a whole.

    Parameters
    ----------
    root : Path
        The folder; created by `run`.
    """

    root: Path

    def held(self, labels: Mapping[str, str]) -> dict[str, int]:
        """Return the number of frames of each of these movies that finished runs have cut with this class.

        Parameters
        ----------
        labels : mapping of str to str
            The class of each movie.

        Returns
        -------
        dict of str to int
            Without movies of which a frame is missing.
        """
        record, found = self._read_record(), {}
        rows = self._read_table()[1]
        for movie in labels.keys() - record.keys():
            own = [row for row in rows if row["movie"] == movie]
            same = all(row["label"] == labels[movie] and (self.root / row["path"]).is_file() for row in own)
            if own and same:
                found[movie] = len(own)
        return found

    @contextmanager
    def run(self, jobs: Mapping[str, Mapping[str, Any]], replace: bool) -> Iterator[dict[str, dict[str, Any]]]:
        """Lock the folder, clean up after killed runs, and find the movies that an earlier run finished.

        An unfinished run leaves a hidden record of its finished movies, from which the next run of the same jobs
        resumes. The record of these movies is removed when the with statement ends without an error, if all were added.

        Parameters
        ----------
        jobs : mapping of str to mapping
            The settings that define the frames of each movie, by its name: ``label`` and others, ready for JSON.
        replace : bool
            Whether to replace movies that the folder already holds.

        Yields
        ------
        dict
            The reports of the movies that an earlier run finished, by name.

        Raises
        ------
        DataError
            If another run adds to the folder; if the folder, or a folder above or in it, is a file; if it cannot be
            written to; if its table cannot be read; if it already holds one of the movies, cut by another job.
        """
        self._make([job["label"] for job in jobs.values()])
        with lock_outputs([self._table]):
            self._drop_empty(settle(self._table, [self._record], self._is_picture))
            done = self._finished(jobs, replace)
            self._check_new({movie: job["label"] for movie, job in jobs.items() if movie not in done}, replace)
            yield done
            record = self._read_record()
            if jobs.keys() <= record.keys():  # otherwise the same jobs again add the movies that are missing
                with self.staging() as staging:
                    rest = {movie: entry for movie, entry in record.items() if movie not in jobs}
                    switch(self._table, self._stage_record(staging, rest), staging)

    def _make(self, labels: Iterable[str]) -> None:
        try:
            for path in (self.root, *self.root.parents, *(self.root / label for label in labels)):
                if path.exists() and not path.is_dir():
                    raise DataError(f"frames: {str(path)!r} is a file, expected a folder to write to; choose another")
            if self._table.is_symlink():
                raise DataError(
                    f"frames: expected {str(self._table)!r} to be a file of this folder, got a link, which would be "
                    "replaced; put the file itself there, or choose another folder"
                )
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()
        except OSError as error:
            raise DataError(
                f"frames: cannot write to the folder {str(self.root)!r} ({error.strerror}); choose another folder"
            ) from None

    def _finished(self, jobs: Mapping[str, Mapping[str, Any]], replace: bool) -> dict[str, dict[str, Any]]:
        """Return the reports of the movies that an unfinished run finished, if all their frames exist."""
        record, done = self._read_record(), {}
        rows = self._read_table()[1]
        for movie, job in jobs.items():
            entry = record.get(movie)
            if entry is None:
                continue
            other = sorted(name for name in job.keys() | entry["job"].keys() if job.get(name) != entry["job"].get(name))
            if other and not replace:
                raise DataError(
                    f"frames: a run into {str(self.root)!r} that was interrupted cut {movie!r} with different settings "
                    f"({'; '.join(_difference(name, entry['job'].get(name)) for name in other)}); repeat it with its "
                    "settings to finish it, or use --replace (replace=True) to cut the movie again"
                )
            paths = [row["path"] for row in rows if row["movie"] == movie]
            if not other and all((self.root / path).is_file() for path in paths) and len(paths) == entry["n_frames"]:
                done[movie] = entry["report"]
        return done

    def _check_new(self, labels: Mapping[str, str], replace: bool) -> None:
        record = self._read_record()
        known = {row["movie"] for row in self._read_table()[1]}
        folders = {path.name for path in self.root.iterdir() if path.is_dir()}
        for movie, label in labels.items():
            self._check_case(movie, known)
            self._check_case(label, folders | set(labels.values()))
            if not replace and movie not in record and (movie in known or self._files_of(movie, label)):
                raise DataError(
                    f"frames: {str(self.root)!r} already holds frames of a movie {movie!r}; to put new ones in their "
                    "place use --replace (replace=True); a different movie needs a different file name or folder"
                )

    def _check_case(self, name: str, others: Iterable[str]) -> None:
        """Raise DataError if macOS or Windows treat the name as one of the others, so that frames would be lost."""
        for other in sorted(others):
            if other != name and same_name_key(other) == same_name_key(name):
                raise DataError(
                    f"frames: {str(self.root)!r} holds {other!r}, which is the same name as {name!r} on macOS and "
                    f"Windows; use {other!r} for the new one too, or another name"
                )

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a hidden folder in the root for new frames; it is removed afterwards, with what is still in it."""
        folder = temporary_path(self._table).with_suffix("")
        try:
            with naming_users_files(self.root):
                folder.mkdir()
                yield folder
        finally:
            if not hidden_path(self._table, ".journal").exists():  # the next run finishes its work
                shutil.rmtree(folder, ignore_errors=True)

    def add(
        self,
        movie: str,
        job: Mapping[str, Any],
        staging: Path,
        frames: Iterable[tuple[float, str]],
        report: Mapping[str, Any],
    ) -> None:
        """Add a movie as a whole: its frames, their rows in the table, and its record; its old frames are removed.

        A folder that is left without files is removed too, because a class needs frames.

        Parameters
        ----------
        movie : str
            Name of the movie.
        job : mapping
            Its settings, as for :meth:`run`.
        staging : Path
            The folder with the new frames, under their `file_name`, flushed to disk.
        frames : iterable of (float, str)
            Time in seconds and group of each frame.
        report : mapping
            The report of the movie for a run that resumes, ready for JSON.
        """
        label = job["label"]
        columns, rows = self._read_table()
        old = {row["path"] for row in rows if row["movie"] == movie}
        rows = [row for row in rows if row["movie"] != movie]
        changes: dict[Path, Path | None] = {}
        for time, group in frames:
            name = file_name(movie, time)
            changes[self.root / label / name] = staging / name
            rows.append(dict(zip(_COLUMNS, (f"{label}/{name}", label, group, movie, f"{time:.3f}"), strict=True)))
        n_frames = len(changes)
        old -= {row["path"] for row in rows}
        stale = [path for path in self._all_files_of(movie) if f"{path.parent.name}/{path.name}" in old]
        changes |= dict.fromkeys(stale)
        with atomic_write(staging / GROUPS_FILE) as temporary:
            _write_table(temporary, columns, rows)
        entry = {"job": dict(job), "n_frames": n_frames, "report": dict(report)}
        changes[self._table] = staging / GROUPS_FILE
        changes |= self._stage_record(staging, self._read_record() | {movie: entry})
        if n_frames:
            (self.root / label).mkdir(exist_ok=True)
        try:
            switch(self._table, changes, staging)
        finally:
            self._drop_empty(changes)

    def _drop_empty(self, paths: Iterable[Path]) -> None:
        """Remove the parent folders of these paths if they are empty."""
        for folder in {path.parent for path in paths} - {self.root}:
            with suppress(OSError):  # other files are in it
                folder.rmdir()

    @property
    def _table(self) -> Path:
        return self.root / GROUPS_FILE

    @property
    def _record(self) -> Path:
        """The file that records the movies that unfinished runs finished."""
        return hidden_path(self._table, ".json")

    def _read_record(self) -> dict[str, dict[str, Any]]:
        if not self._record.exists():
            return {}
        with suppress(OSError, ValueError, RecursionError):
            record = json.loads(self._record.read_bytes())
            if isinstance(record, dict) and all(map(_is_entry, record.values())):
                return record
        raise DataError(
            f"frames: expected {str(self._record)!r} to be the record of an interrupted run, but it is damaged; "
            "delete it, and use --replace (replace=True) for the movies to cut again"
        )

    def _stage_record(self, staging: Path, record: Mapping[str, Any]) -> dict[Path, Path | None]:
        """Return the change of the record: a new file in the staging folder, or removal if nothing is unfinished."""
        if not record:
            return {self._record: None}
        with atomic_write(staging / self._record.name) as temporary:
            temporary.write_text(json.dumps(record), encoding="ascii")
        return {self._record: staging / self._record.name}

    def _all_files_of(self, movie: str) -> Iterator[Path]:
        for folder in self.root.iterdir():
            yield from self._files_of(movie, folder.name)

    def _files_of(self, movie: str, label: str) -> list[Path]:
        name = re.compile(re.escape(movie) + _TIME_AND_SUFFIX)
        return [path for path in (self.root / label).glob("*.jpg") if name.fullmatch(path.name)]

    def _is_picture(self, path: Path) -> bool:
        """Return whether a resolved path can be that of a frame of the store."""
        in_class = path.parent.parent == Path(os.path.realpath(self.root))
        return in_class and re.fullmatch(r".+" + _TIME_AND_SUFFIX, path.name, re.DOTALL) is not None

    def _read_table(self) -> tuple[list[str], list[dict[str, str]]]:
        """Return columns and rows of the table; without a table, the default columns and no rows."""
        path = self.root / GROUPS_FILE
        if not path.exists():
            return list(_COLUMNS), []
        try:
            columns, rows = read_table(path, _COLUMNS)
        except (OSError, csv.Error) as error:
            raise DataError(
                f"frames: cannot read {str(path)!r} ({error}); correct it or choose another folder"
            ) from None
        if not {*_COLUMNS} - {"movie"} <= {*columns} or any(len(row) != len(columns) for _, row in rows):
            raise DataError(
                f"frames: expected {str(path)!r} to have the columns {', '.join(_COLUMNS)} and all of them in every "
                "line; correct it or choose another folder"
            )
        table = [dict(zip(columns, row, strict=True)) for _, row in rows]
        if "movie" not in columns:  # framecnn 0.1 wrote none
            columns.insert(columns.index("group") + 1, "movie")
            for row in table:
                if not (group := _GROUP.fullmatch(row["group"])):
                    raise DataError(
                        f"frames: {str(path)!r} has no column movie, and the group {row['group']!r} of {row['path']!r} "
                        "does not begin with the name of a movie; add a column movie with the movie of each frame, or "
                        "choose another folder"
                    )
                row["movie"] = group[1]
        return columns, table


def _is_entry(entry: Any) -> bool:
    kinds = {"job": dict, "n_frames": int, "report": dict}
    return isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in kinds.items())


def _difference(name: str, before: Any) -> str:
    return {
        "movie": "the movie file has changed since",
        "framecnn": f"with framecnn {before or 'of another version'}",
        "replace": "with --replace, or of other movies" if before else "without --replace",
    }.get(name, f"differs: {name}")


def _write_table(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    path.write_bytes(format_table([columns, *([row.get(column, "") for column in columns] for row in rows)]))
