"""The movie files in folders, and the label and the unique name of each."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from framecnn.data.listing import skip_by_name
from framecnn.data.movie import MAX_NAME_BYTES, movie_name
from framecnn.data.names import portable_problem
from framecnn.errors import DataError
from framecnn.storage.file_names import same_name_key

__all__ = ["MOVIE_SUFFIXES", "FoundMovies", "MovieFile", "SkippedFile", "find_movies"]

MOVIE_SUFFIXES = (
    *(
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".divx",
        ".dv",
        ".f4v",
        ".flv",
        ".h264",
        ".hevc",
        ".ivf",
        ".m1v",
        ".m2ts",
        ".m2v",
    ),
    *(".m4v", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".rm"),
    *(".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)
"""The suffixes of the files in a folder that count as movies, in lower case."""

_MOST_LISTED = 20  # skipped files that are described
_DIGITS = 8  # of the checksum in a name that is cut short


class MovieFile(NamedTuple):
    """A movie to cut.

    Examples
    --------
    >>> MovieFile(Path("movies/comedy/a.mp4"), "comedy_a", "comedy", is_named=False).label
    'comedy'
    """

    path: Path
    name: str
    """The name in files and groups; no two movies of a call have the same."""
    label: str
    """The class of its frames."""
    is_named: bool
    """Whether the caller named the file itself, not a folder above it."""


class SkippedFile(NamedTuple):
    """A file or folder in a folder of movies that is not used, and why.

    Examples
    --------
    >>> SkippedFile(Path("movies/a.srt"), "not a movie by its suffix").reason
    'not a movie by its suffix'
    """

    path: Path
    reason: str


@dataclass(frozen=True)
class FoundMovies:
    """The movies of a call.

    Parameters
    ----------
    movies : list of MovieFile
        In the order given; those of a folder by path.
    skipped : list of SkippedFile
        The other files and folders of the folders.
    has_class_folders : bool
        Whether the labels of the movies found in folders are the names of folders.

    Examples
    --------
    >>> found = FoundMovies([MovieFile(Path("movies/comedy/a.mp4"), "comedy_a", "comedy", False)], [], True)
    >>> found.describe()
    ['1 movie found; labels by class folder: comedy (1)']
    """

    movies: list[MovieFile]
    skipped: list[SkippedFile]
    has_class_folders: bool

    def describe(self) -> list[str]:
        """Return lines about the movies in folders: how many, where their labels come from, and what is skipped."""
        lines = []
        in_folders = [movie for movie in self.movies if not movie.is_named]
        if in_folders:
            n = len(in_folders)
            counts = Counter(movie.label for movie in in_folders)
            classes = ", ".join(f"{label} ({number})" for label, number in counts.items())
            if self.has_class_folders:
                labels = f"labels by class folder: {classes}"
            elif len(counts) == 1:
                labels = f"label: {classes}"
            else:
                labels = "each is a class of its own, by its name, because they lie in no class folders"
            lines.append(f"{n} {'movie' if n == 1 else 'movies'} found; {labels}")
        lines.extend(f"skipped {str(path)!r}: {reason}" for path, reason in self.skipped[:_MOST_LISTED])
        if self.skipped[_MOST_LISTED:]:
            lines.append(f"skipped: {len(self.skipped) - _MOST_LISTED} more")
        return lines


def find_movies(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None, label: str | None = None
) -> FoundMovies:
    """Return the movies of files and folders; nothing is opened.

    Folders are searched with the folders in them, except links to folders. In a folder the files with a suffix in
    `MOVIE_SUFFIXES` are movies. If all of them lie in folders of the folder, these are class folders: the label of
    ``movies/comedy/a.mp4`` is ``comedy``. If all lie directly in it, the label is the movie's name, as for files.

    A movie's name is made from its file name, and for movies in folders from the path in the folder:
    ``movies/comedy/a.mp4`` is called ``comedy_a``, so that files of the same name in two folders have two names.

    Parameters
    ----------
    paths : sequence of path
        Movie files, and folders of movies.
    out : path, optional
        A folder that is not searched.
    label : str, optional
        The class of all movies.

    Returns
    -------
    FoundMovies

    Raises
    ------
    DataError
        If there is no movie, a folder cannot be read or holds movies both directly and in folders, a class folder has
        a name that cannot be a label, or two movies have the same name or are the same file.

    Examples
    --------
    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("comedy/a.mp4", "drama/a.mp4", "drama/a.srt"):
    ...     (root / name).parent.mkdir(exist_ok=True)
    ...     (root / name).touch()
    >>> found = find_movies([root])
    >>> [(movie.name, movie.label) for movie in found.movies]
    [('comedy_a', 'comedy'), ('drama_a', 'drama')]
    >>> [skipped.path.name for skipped in found.skipped]
    ['a.srt']
    """
    if not paths:
        raise DataError("frames: expected at least one movie, got none")
    if label is not None and (problem := portable_problem(label)):
        raise DataError(
            f"frames: expected the name of a folder as label, got {label!r}: {problem}; choose another name"
        )
    movies: list[MovieFile] = []
    skipped: list[SkippedFile] = []
    has_class_folders = False
    for path in map(Path, paths):
        if path.is_dir():
            found = _search(path, None if out is None else Path(out), skipped)
            in_classes = label is None and _has_class_folders(path, found)
            has_class_folders |= in_classes
            movies += [_found(path, name, label, in_classes) for name in found]
        else:
            name = movie_name(path)
            movies.append(MovieFile(path, name, name if label is None else label, True))
    _check_different(movies)
    return FoundMovies(movies, skipped, has_class_folders)


def _search(root: Path, out: Path | None, skipped: list[SkippedFile]) -> list[str]:
    """Return the paths of the movies in a folder, relative to it, with ``/``, sorted; add the others to `skipped`."""

    def refuse(error: OSError) -> None:
        if error.filename == str(root):
            raise DataError(f"frames: cannot read the folder {str(root)!r} ({error.strerror}); check its permissions")
        skipped.append(SkippedFile(Path(error.filename), f"cannot be read ({error.strerror})"))

    n_before, found = len(skipped), []
    for folder, folders, files in os.walk(root, onerror=refuse):
        here = Path(folder)
        inside = [here / name for name in sorted(folders) if out is None or not _is_same(here / name, out)]
        problems = {path: _problem_of_folder(path) for path in inside}
        folders[:] = [path.name for path in inside if not problems[path]]
        problems |= {here / name: _problem_of_file(here / name) for name in sorted(files)}
        skipped.extend(SkippedFile(path, problem) for path, problem in problems.items() if problem)
        found += [(here / name).relative_to(root).as_posix() for name in files if not problems[here / name]]
    if not found:
        others = skipped[n_before:]
        first = f"; skipped: {len(others)} (first: {str(others[0].path)!r})" if others else ""
        raise DataError(
            f"frames: no movie in the folder {str(root)!r}{first}; expected files such as a.mp4 or b.mkv in it or in "
            "folders of it; name a movie with an unusual suffix itself"
        )
    return sorted(found)


def _problem_of_folder(path: Path) -> str | None:
    if path.is_symlink():
        return "a link to a folder"
    by_name = skip_by_name(path.name)
    return by_name and by_name[1]


def _problem_of_file(path: Path) -> str | None:
    if by_name := skip_by_name(path.name):
        return by_name[1]
    if path.suffix.lower() not in MOVIE_SUFFIXES:
        return "its suffix is not that of a movie"
    return None if path.is_file() else "not a regular file"


def _is_same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _has_class_folders(root: Path, found: Sequence[str]) -> bool:
    """Return whether the movies found in a folder lie in class folders, rather than directly in it."""
    loose = [path for path in found if "/" not in path]
    if loose and len(loose) < len(found):
        raise DataError(
            f"frames: expected the movies of {str(root)!r} all in class folders or all directly in it, got "
            f"{len(loose)} directly in it (first: {loose[0]!r}) and {len(found) - len(loose)} in folders; move them, "
            "or give all the same class (--label, label=...)"
        )
    return not loose


def _found(root: Path, relative: str, label: str | None, in_classes: bool) -> MovieFile:
    flat = relative.replace("/", "_")
    if len(os.fsencode(Path(flat).stem)) > MAX_NAME_BYTES:  # the end, which is cut off, may be what differs
        checksum = hashlib.sha256(os.fsencode(relative)).hexdigest()[:_DIGITS]
        start = os.fsencode(flat)[: MAX_NAME_BYTES - 1 - _DIGITS].decode(errors="ignore")
        flat = f"{start}_{checksum}{Path(flat).suffix}"
    name = movie_name(flat)
    if label is None:
        label = relative.split("/", 1)[0] if in_classes else name
        if problem := portable_problem(label):
            raise DataError(
                f"frames: the folder {str(root / label)!r} cannot be a class: {problem}; rename it, or give all movies "
                "the same class (--label, label=...)"
            )
    return MovieFile(root / relative, name, label, is_named=False)


def _check_different(movies: Sequence[MovieFile]) -> None:
    files: dict[str, Path] = {}
    names: dict[str, Path] = {}
    for path, name, *_ in movies:
        file, key = os.path.realpath(path), same_name_key(name)
        if file in files:
            raise DataError(
                f"frames: {str(files[file])!r} and {str(path)!r} are the same movie file; leave out one of them"
            )
        if key in names:
            raise DataError(
                f"frames: two movies are called {name!r}: {str(names[key])!r} and {str(path)!r}; rename one of the "
                "files, or give the folder above both, whose folders are then part of the names"
            )
        files[file] = names[key] = path
