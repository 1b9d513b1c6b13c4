r"""What is known about frames apart from their folders: from a CSV file, such as ``frames.csv``, or from file names."""

import csv
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from framecnn.data.manifest import MANIFEST_COLUMNS
from framecnn.data.names import portable_path, same_name
from framecnn.data.prediction_table import PREDICTION_COLUMNS
from framecnn.data.tables import read_table, text_of_cell
from framecnn.errors import DataError
from framecnn.text import did_you_mean

__all__ = ["GROUPS_FILE", "FrameFacts", "Labels"]

GROUPS_FILE = "frames.csv"
"""The name of the table of groups inside a folder of frames."""

_MOST_COMPARED = 5000  # paths among which a similar one is looked for


class FrameFacts(NamedTuple):
    """What a table or a file name says about one frame; a fact that it does not say is empty.

    Parameters
    ----------
    label : str
        The class.
    group : str
        The frames that stay on one side of a split, such as a shot.
    movie : str
        The movie from which the frame was cut.
    part : str
        The part of a given split, such as ``train``, as it is written.
    """

    label: str = ""
    group: str = ""
    movie: str = ""
    part: str = ""


@dataclass(frozen=True)
class Labels:
    r"""Labels, groups, movies and parts of frames; :meth:`from_csv` and :meth:`from_names` make one.

    Parameters
    ----------
    source : str
        Where they come from, such as ``labels.csv``.
    fields : frozenset of str
        Which of the fields of FrameFacts are given.
    rows : mapping of str to FrameFacts, optional
        The facts by path, relative to the folder of frames.
    pattern : re.Pattern, optional
        The expression that finds the facts in a name; there are no `rows` then.
    path : Path, optional
        The file that was read, with all links followed.

    Raises
    ------
    ValueError
        If there are neither rows nor a pattern.

    Examples
    --------
    >>> labels = Labels.from_names(r"(?P<label>[a-z]+)_(?P<group>[a-z0-9]+)_\d+")
    >>> labels.match(["cat_film1_001.jpg", "notes.jpg"])
    {'cat_film1_001.jpg': FrameFacts(label='cat', group='film1', movie='', part='')}
    """

    source: str
    fields: frozenset[str] = frozenset()
    rows: Mapping[str, FrameFacts] = field(default_factory=dict)
    pattern: re.Pattern[str] | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if not self.rows and self.pattern is None:
            raise ValueError(f"Labels: expected rows or a pattern, got only {self.source!r}; use Labels.from_csv")

    @classmethod
    def from_csv(
        cls,
        file: str | os.PathLike[str],
        path_column: str = "path",
        *,
        label_column: str | None = None,
        group_column: str | None = None,
        movie_column: str | None = None,
        part_column: str | None = None,
    ) -> "Labels":
        r"""Read a CSV file with a header and a row for each frame.

        Parameters
        ----------
        file : path
            UTF-8 or UTF-16, with commas, semicolons or tabs.
        path_column : str, default "path"
            The column with the path of each frame, relative to the folder of frames, or absolute.
        label_column, group_column, movie_column, part_column : str, optional
            The names of other columns. One that is not given is the column ``label``, ``group``, ``movie`` or ``part``,
            if there is one. Names match in any case. Other columns, such as ``time_s`` of ``frames.csv``, are ignored;
            and so are ``group`` and ``part`` of a table of predictions unless they are given, because they say how the
            frames were divided in one run.

        Returns
        -------
        Labels

        Raises
        ------
        DataError
            If the file cannot be read, lacks a column or has it twice, has no rows, or has a row without a path or with
            an empty group or part, or that ends before its label; or if two rows of a path differ.

        Examples
        --------
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "labels.csv")
        >>> _ = path.write_text("file,class,film\ncats/1.jpg,cat,f1\n")
        >>> Labels.from_csv(path, "file", label_column="class", group_column="film").rows
        {'cats/1.jpg': FrameFacts(label='cat', group='f1', movie='', part='')}
        """
        table = os.fspath(file)
        given = {"label": label_column, "group": group_column, "movie": movie_column, "part": part_column}
        columns = {field: column for field, column in given.items() if column is not None}
        cell_of, rows = _read(table, {"path": path_column, **columns})
        found: dict[str, FrameFacts] = {}
        for line, cells in rows:
            row = {field: cells[cell] if cell < len(cells) else "" for field, cell in cell_of.items()}
            path_cell = row.pop("path")
            facts = FrameFacts(**row)
            facts = facts._replace(label=facts.label.strip(), part=facts.part.strip())
            needed = {"path": path_cell, "group": row.get("group", "-"), "part": row.get("part", "-").strip()}
            if cell_of.get("label", 0) >= len(cells):
                needed["label"] = ""
            if empty := [field for field, text in needed.items() if not text]:
                raise DataError(
                    f"table: line {line} of {table!r} has no {' and no '.join(empty)}; fill it in or remove the line"
                )
            _add(found, str(PurePosixPath(path_cell)), facts, f"line {line} of {table!r}")
        return cls(Path(table).name, frozenset(cell_of) - {"path"}, found, path=Path(os.path.realpath(table)))

    @classmethod
    def from_names(cls, pattern: str) -> "Labels":
        r"""Find labels and groups in the names of files.

        Parameters
        ----------
        pattern : str
            A regular expression with at least one of the named groups ``label``, ``group``, ``movie`` and ``part``. It
            must match the whole name of a file, with or without its extension; with a ``/`` in it, the whole path below
            the folder of frames.

        Returns
        -------
        Labels

        Raises
        ------
        DataError
            If it is not a regular expression, or names none of the fields.

        Examples
        --------
        >>> Labels.from_names(r"(?P<movie>[^/]+)/.*").match(["orion/001.jpg"])["orion/001.jpg"].movie
        'orion'
        """
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise DataError(
                f"label pattern: expected a regular expression such as '(?P<label>[a-z]+)_(?P<group>.+)_\\d+', "
                f"got {pattern!r} ({error})"
            ) from None
        unknown = sorted(set(compiled.groupindex) - set(FrameFacts._fields))
        if unknown or not compiled.groupindex:
            names = ", ".join(f"(?P<{field}>...)" for field in FrameFacts._fields)
            given = f"(?P<{unknown[0]}>...)" if unknown else "none"
            hint = did_you_mean(unknown[0], FrameFacts._fields) if unknown else ""
            raise DataError(f"label pattern: expected named groups among {names}, got {given} in {pattern!r}{hint}")
        return cls("file names", frozenset(compiled.groupindex), {}, compiled)

    def without_labels(self) -> "Labels":
        """Return the same groups, movies and parts without labels."""
        rows = {path: facts._replace(label="") for path, facts in self.rows.items()}
        return replace(self, fields=self.fields - {"label"}, rows=rows)

    def inside(self, root: Path) -> "Labels":
        """Return the same labels, with paths relative to a folder in place of absolute ones that lead into it.

        Parameters
        ----------
        root : Path
            The folder; no part of its path is a link.

        Returns
        -------
        Labels
        """
        if not any(map(os.path.isabs, self.rows)):
            return self
        rows: dict[str, FrameFacts] = {}
        for path, facts in self.rows.items():
            _add(rows, _below(root, path), facts, f"another spelling in {self.source!r}")
        return replace(self, rows=rows)

    def match(self, found: Sequence[str]) -> dict[str, FrameFacts]:
        r"""Return the facts about files, by their paths.

        Paths of a table are matched as they are, else with ``/`` for backslashes and composed accents.

        Parameters
        ----------
        found : sequence of str
            Paths of files, relative to the folder of frames.

        Returns
        -------
        dict of str to FrameFacts
            The facts about each file of which there are any.

        Raises
        ------
        DataError
            If there are none about any file, or two rows of a table lead to one file and differ.
        """
        known = self._match_names(found) if self.pattern is not None else self._match_rows(found)
        if found and not known:
            raise DataError(
                f"label pattern: expected it to match the names of files, such as {min(found)!r}, got "
                f"{self.pattern.pattern!r}, which matches none of {len(found):,}"
                if self.pattern is not None
                else f"table: no path of {self.source!r} leads to a file of the folder: expected paths such as "
                f"{min(found)!r}, got {min(self.rows)!r}; correct them, or name another table"
                f"{did_you_mean(min(self.rows), found[:_MOST_COMPARED])}"
            )
        return known

    def _match_rows(self, found: Sequence[str]) -> dict[str, FrameFacts]:
        files = {portable_path(path): path for path in found}
        known = {path: self.rows[path] for path in found if path in self.rows}
        exact = set(known)
        for path in sorted(set(self.rows) - exact):
            file = files.get(portable_path(path))
            if file is not None and file not in exact:
                _add(known, file, self.rows[path], f"another spelling in {self.source!r}")
        return known

    def _match_names(self, found: Iterable[str]) -> dict[str, FrameFacts]:
        assert self.pattern is not None
        known = {}
        for path in found:
            name = path if "/" in self.pattern.pattern else path.rpartition("/")[2]
            if match := self.pattern.fullmatch(os.path.splitext(name)[0]) or self.pattern.fullmatch(name):
                facts = FrameFacts(**{field: text or "" for field, text in match.groupdict().items()})
                known[path] = facts._replace(label=facts.label.strip())
        return known

    def warnings(self, found: Sequence[str], known: Mapping[str, FrameFacts]) -> list[str]:
        """Return a warning for each kind of difference between these labels and the files.

        Parameters
        ----------
        found : sequence of str
            Paths of the files, sorted.
        known : mapping
            What :meth:`match` returned for them.

        Returns
        -------
        list of str
            Up to two: rows that lead to no file, and files about which nothing is known.
        """
        files = {portable_path(path) for path in known}
        gone = sorted(path for path in self.rows if path not in known and portable_path(path) not in files)
        unnamed = [path for path in found if path not in known]
        warnings = []
        if gone:
            hint = did_you_mean(gone[0], unnamed[:_MOST_COMPARED])
            warnings.append(f"paths in {self.source} that lead to no file: {len(gone)} (first: {gone[0]!r}){hint}")
        if unnamed and self.pattern is not None:
            warnings.append(
                f"files skipped because the label pattern does not match their names: {len(unnamed)} "
                f"(first: {unnamed[0]!r})"
            )
        elif unnamed:
            warnings.append(
                f"files skipped because {self.source} has no row for them: {len(unnamed)} (first: {unnamed[0]!r}); "
                "add rows for them to use them"
            )
        return warnings


def _below(root: Path, path: str) -> str:
    """Return an absolute path that leads into a folder relative to it, and any other path as it is."""
    if not os.path.isabs(path):
        return path
    real = Path(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return real.relative_to(root).as_posix() if real.is_relative_to(root) else path


def _add(rows: dict[str, FrameFacts], path: str, facts: FrameFacts, where: str) -> None:
    """Add the facts about a path; raise DataError if others about it are there."""
    for name, before, now in zip(FrameFacts._fields, rows.setdefault(path, facts), facts, strict=True):
        if before != now:
            raise DataError(
                f"table: {path!r} has two {name}s, {before!r} and {now!r} ({where}); a frame has one {name}"
            )


def _read(table: str, named: Mapping[str, str]) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """Return the number of the column of each field, `named` or of its own name, and the rows with their lines."""
    try:
        header, rows = read_table(table, named.values())
    except OSError as error:
        raise DataError(
            f"table: cannot read {table!r} ({error.strerror}); name a CSV file, or leave out the option"
        ) from None
    except csv.Error as error:
        raise DataError(f"table: {table!r} is not a CSV file ({error}); save it as comma-separated UTF-8") from None
    if not header and not rows:
        raise DataError(f"table: {table!r} is empty; add a header line, and a row for each frame")
    is_of_predictions = set(PREDICTION_COLUMNS) <= set(header)
    if is_of_predictions or set(MANIFEST_COLUMNS) <= set(header):
        rows = [(line, [text_of_cell(cell) for cell in cells]) for line, cells in rows]
    cell_of = {}
    for name in ("path", *FrameFacts._fields):
        if is_of_predictions and name in ("group", "part") and name not in named:
            continue
        column = same_name(named.get(name, name), header)
        if column is not None and header.count(column) > 1:
            raise DataError(f"table: {table!r} has {header.count(column)} columns {column!r}; rename one")
        if column is not None:
            cell_of[name] = header.index(column)
        elif name in named:
            raise DataError(
                f"table: expected a column {named[name]!r} in {table!r}, got {header}; name the columns, or add a "
                f"header line{did_you_mean(named[name], header)}"
            )
    if not rows:
        raise DataError(f"table: {table!r} has no rows; add a row for each frame, or remove the file")
    return cell_of, rows
