"""Which frames stay on one side of a split: those of a shot or, in classes that span several movies, of a movie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from framecnn.errors import DataError
from framecnn.text import counted, listed
from framecnn.typing import Array

__all__ = ["NEAR_DUPLICATES", "Grouping", "check_group_by", "group_frames"]

NEAR_DUPLICATES = "clusters of near-duplicates"
"""The groups of frames without a table of groups."""

_NEW_GROUPS = "expect this accuracy on groups that were not trained on"
_GROUPS = (
    f"{_NEW_GROUPS}; if several groups are from one film, add a column movie, "
    "else the model may only recognise the film"
)
_NEAR_DUPLICATES = (
    "expect this accuracy on pictures that are no near-duplicates of training pictures; on new films, places or series "
    "it will be lower"
)
_ALTHOUGH = (
    ", although classes hold several movies: frames of one movie are on both sides of the split; expect a lower "
    "accuracy on movies that were not seen"
)
_LEAK = (
    "groups are clusters of near-duplicates, not shots: the accuracy is too high if frames of one shot are on both "
    "sides of the split"
)


@dataclass(frozen=True)
class Grouping:
    """The groups of frames, and what an accuracy by these groups says.

    Parameters
    ----------
    groups : array of str, shape (n,)
        The group of each frame: its shot or its movie.
    by_movie : frozenset of str
        The classes whose groups are movies.
    note : str
        What an accuracy on held-out groups says, in words.
    warnings : tuple of str
        What it does not say, and frames without a movie.
    """

    groups: Array
    by_movie: frozenset[str]
    note: str
    warnings: tuple[str, ...]


def check_group_by(by: str | None, movies: Sequence[str], shots: Sequence[str]) -> None:
    """Raise if frames cannot be grouped like this.

    Parameters
    ----------
    by : {None, "movie", "shot"}
        What is to be the group; None decides for each class.
    movies : sequence of str
        The movie of each frame, empty where it is unknown.
    shots : sequence of str
        The shot of each frame, empty where it is unknown.

    Raises
    ------
    DataError
        If `by` is ``"movie"`` or ``"shot"``, and that of a frame is unknown.
    ValueError
        If `by` has another value.
    """
    if by not in (None, "movie", "shot"):
        raise ValueError(f"FrameFolder: expected group_by='movie' or group_by='shot', got group_by={by!r}")
    known = movies if by == "movie" else shots
    if by and "" in known:
        column = "movie" if by == "movie" else "group"
        raise DataError(
            f"FrameFolder: expected a {by} for each frame to group by (--group-by {by}), got none for "
            f"{known.count(''):,} of {counted(len(known), 'frame')}; add a column {column} to the table of groups, as "
            "framecnn frames writes it"
        )


def group_frames(
    classes: Sequence[str], targets: Array, shots: Array, movies: Array | None, by: str | None, has_groups: bool
) -> Grouping:
    """Return the groups of frames.

    Where a class holds frames of several movies, the movie is the group, since the class must hold on a movie that was
    not seen; also for the frames of that movie in other classes. In a class of one movie, the shot is the group.

    Parameters
    ----------
    classes : sequence of str
        The names of the classes.
    targets : array of int, shape (n,)
        The class of each frame.
    shots : array of str, shape (n,)
        The shot of each frame or, more generally, its group if movies do not count.
    movies : array of str, shape (n,), optional
        The movie of each frame, empty where it is unknown.
    by : {None, "movie", "shot"}
        What is the group in every class; None decides for each class.
    has_groups : bool
        Whether `shots` come from a table or from names; otherwise they are clusters of near-duplicates.

    Returns
    -------
    Grouping

    Examples
    --------
    >>> targets, movies = np.array([0, 0, 1, 1]), np.array(["m1", "m2", "m3", "m3"])
    >>> found = group_frames(["cat", "dog"], targets, np.array(["s1", "s2", "s3", "s4"]), movies, None, True)
    >>> found.groups.tolist(), sorted(found.by_movie)
    (['m1', 'm2', 's3', 's4'], ['cat'])
    """
    if movies is None:
        return Grouping(shots, frozenset(), _GROUPS if has_groups else _NEAR_DUPLICATES, ())
    movies_of = {name: np.unique(movies[targets == target]).tolist() for target, name in enumerate(classes)}
    unknown = [name for name, found in movies_of.items() if "" in found]
    several = [name for name, found in movies_of.items() if len(found) > 1 and name not in unknown]
    held = {None: several, "movie": classes, "shot": []}[by]
    whole = {movie for name in held for movie in movies_of[name]}
    by_movie = frozenset(name for name, found in movies_of.items() if whole.issuperset(found))
    single = [name for name in classes if name not in (*several, *unknown)]
    warnings = []
    shot = "shot" if has_groups else "cluster of near-duplicates"
    if unknown:
        warnings.append(
            f"frames without a movie in the table of groups: {(movies == '').sum():,} (of {listed(unknown, 5)}); in "
            f"these classes the {shot} is the group"
        )
    if several and by == "shot":
        note = f"groups are {'shots' if has_groups else 'clusters of near-duplicates'}{_ALTHOUGH}"
        return Grouping(shots, by_movie, note, (*warnings, note))
    if several and single:
        warnings.append(
            f"no evidence how well {listed(single, 5)} would hold on a movie that was not seen: such a class holds one "
            "movie, others hold several; add frames of at least two other movies"
        )
    says = {
        "several movies, which stay whole: expect this accuracy on movies that were not seen": several,
        "one movie, which stays whole: there is no evidence how well it holds on a movie that was not seen": [
            name for name in single if name in by_movie
        ],
        f"one movie: expect this accuracy {_of_one_movie(single, movies_of, has_groups)}, not on movies that were not "
        "seen": [name for name in single if name not in by_movie],
        f"frames of unknown movies: {_NEW_GROUPS}": unknown,
    }
    note = "; ".join(f"{_each(names, classes)} holds {what}" for what, names in says.items() if names)
    if not has_groups and len(by_movie) < len(classes):
        note += f"; {_LEAK}"
    return Grouping(np.where(np.isin(movies, sorted(whole)), movies, shots), by_movie, note, tuple(warnings))


def _of_one_movie(names: Sequence[str], movies_of: Mapping[str, Sequence[str]], has_groups: bool) -> str:
    """Return where an accuracy on classes of one movie holds: where these are told apart, or on shots of one movie."""
    is_apart = len({movie for name in names for movie in movies_of[name]}) == len(names)
    unit = "shots" if has_groups else "frames"
    return "in telling these movies apart" if is_apart else f"on other {unit} of that movie"


def _each(names: Sequence[str], classes: Sequence[str]) -> str:
    if len(names) == len(classes):
        return "each class"
    return names[0] if len(names) == 1 else f"each of {listed(names, 5)}"
