"""The folder that frames of movies go to: a folder per class, and the table that says which frames belong together."""

import csv
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from framecnn.atomic import atomic_write
from framecnn.data.groups import GROUPS_FILE
from framecnn.data.tables import format_table, read_table
from framecnn.errors import DataError

__all__ = ["FrameStore", "file_name"]

_COLUMNS = ("path", "label", "group", "time_s")


def file_name(movie: str, time: float) -> str:
    """Name the file of a frame.

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
    """A folder of frames that movies are added to, each as a whole.

    Parameters
    ----------
    root : Path
        The folder; made by `check`.
    """

    root: Path

    def check(self, labels: Mapping[str, str], replace: bool) -> None:
        """Find out, before any work, whether these movies can be added.

        Parameters
        ----------
        labels : mapping of str to str
            The label of each movie's name.
        replace : bool
            Whether movies that are here already may be replaced.

        Raises
        ------
        DataError
            If the folder, or a folder above or in it, is a file; if it cannot be written to; if its table cannot be
            read; if it holds one of the movies already.
        """
        try:
            for path in (self.root, *self.root.parents, *(self.root / label for label in labels.values())):
                if path.exists() and not path.is_dir():
                    raise DataError(f"frames: {str(path)!r} is a file, expected a folder to write to; choose another")
            self.root.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.root).close()
        except OSError as error:
            raise DataError(
                f"frames: cannot write to the folder {str(self.root)!r} ({error.strerror}); choose another folder"
            ) from None
        known = {_movie_of(row) for row in self._read_table()[1]}
        for movie, label in labels.items():
            if not replace and (movie in known or self._files_of(movie, label)):
                raise DataError(
                    f"frames: {str(self.root)!r} already holds frames of a movie {movie!r}; to put new ones in their "
                    "place give --replace (replace=True); another movie needs another file name, or another folder"
                )

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a hidden folder in the root to write frames to; it is gone afterwards, with what is still in it."""
        folder = Path(tempfile.mkdtemp(dir=self.root, prefix=".frames-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, movie: str, label: str, staging: Path, frames: Iterable[tuple[float, str]]) -> None:
        """Add a movie: move its frames to their folder, then write the table, then drop the files this replaces.

        A folder that has no file left then is removed: a class without frames is no class.

        Parameters
        ----------
        movie, label : str
            Names of the movie and of its class.
        staging : Path
            Where the frames are, under their `file_name`.
        frames : iterable of (float, str)
            Time in seconds and group of each.
        """
        columns, rows = self._read_table()
        old = {row["path"] for row in rows if _movie_of(row) == movie}
        rows = [row for row in rows if _movie_of(row) != movie]
        for time, group in frames:
            name = file_name(movie, time)
            (self.root / label).mkdir(exist_ok=True)
            os.replace(staging / name, self.root / label / name)
            rows.append(dict(zip(_COLUMNS, (f"{label}/{name}", label, group, f"{time:.3f}"), strict=True)))
        with atomic_write(self.root / GROUPS_FILE) as temporary:
            _write_table(temporary, columns, rows)
        old -= {row["path"] for row in rows}
        for folder in self.root.iterdir():
            for path in self._files_of(movie, folder.name):
                if f"{folder.name}/{path.name}" in old:
                    path.unlink()
                    with suppress(OSError):  # other files are in it
                        folder.rmdir()

    def _files_of(self, movie: str, label: str) -> list[Path]:
        name = re.compile(re.escape(movie) + r"_\d{4,}\.\d{3}s\.jpg")
        return [path for path in (self.root / label).glob("*.jpg") if name.fullmatch(path.name)]

    def _read_table(self) -> tuple[list[str], list[dict[str, str]]]:
        """Read columns and rows; without a table, our columns and no rows."""
        path = self.root / GROUPS_FILE
        if not path.exists():
            return list(_COLUMNS), []
        try:
            columns, rows = read_table(path, _COLUMNS)
        except (OSError, csv.Error) as error:
            raise DataError(f"frames: cannot read {str(path)!r} ({error}); mend it or choose another folder") from None
        if not set(_COLUMNS) <= set(columns) or any(len(row) != len(columns) for _, row in rows):
            raise DataError(
                f"frames: expected {str(path)!r} to have the columns {', '.join(_COLUMNS)} and all of them in every "
                "line; mend it or choose another folder"
            )
        return columns, [dict(zip(columns, row, strict=True)) for _, row in rows]


def _movie_of(row: Mapping[str, str]) -> str:
    return re.sub(r"_shot\d+(_(block)?\d+)?$", "", row["group"])


def _write_table(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    path.write_bytes(format_table([columns, *([row.get(column, "") for column in columns] for row in rows)]))
