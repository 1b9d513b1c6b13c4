"""The folder that ``scan``, ``train``, ``evaluate`` and ``compare`` read, and how its labels and groups are found."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from framecnn.cli.options import frame_folder, one_of
from framecnn.data import FrameFolder, Labels

__all__ = ["FolderOptions", "SplitOptions", "describe_source", "reads_folder"]

LABELS, PARTS = "Labels and groups", "Parts of a split"
COLUMNS = ("path_column", "label_column", "group_column", "movie_column", "part_column")


@dataclass(frozen=True)
class FolderOptions:
    """A folder of frames, and how its labels, groups and parts are found.

    Parameters
    ----------
    folder : Path
        The folder.
    groups, labels : Path, optional
        CSV files with groups and with labels.
    path_column, label_column, group_column, movie_column, part_column : str, optional
        The names of columns in the file of labels or, without one, in the file of groups.
    label_pattern : str, optional
        A regular expression that finds labels and groups in the names of files.
    group_by : {"movie", "shot"}, optional
        What is the group.
    parts : {"folders", "none"}, optional
        Whether folders such as ``train`` are parts of a split.
    """

    folder: Path
    groups: Path | None = None
    labels: Path | None = None
    path_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    movie_column: str | None = None
    part_column: str | None = None
    label_pattern: str | None = None
    group_by: str | None = None
    parts: str | None = None

    @property
    def elsewhere(self) -> dict[str, Path]:
        """The folders with other parts of the split, by part."""
        return {}

    @property
    def inputs(self) -> list[Path | None]:
        """The files and folders that are read."""
        return [self.folder, self.groups, self.labels, *self.elsewhere.values()]

    def open(
        self, size: tuple[int, int], progress: Callable[[int, int], object] | None = None, min_classes: int = 2
    ) -> FrameFolder:
        """Scan the folder.

        Parameters
        ----------
        size : (int, int)
            Height and width in pixels.
        progress : callable, optional
            Called as ``progress(done, total)`` after each file.
        min_classes : int, default 2
            The smallest number of classes.

        Returns
        -------
        FrameFolder

        Raises
        ------
        BadParameter
            If options exclude each other or lack a table.
        DataError
            If the folder or a table cannot be used.
        """
        if self.labels and self.label_pattern:
            raise typer.BadParameter("expected --labels or --label-pattern, got both")
        columns = {name: getattr(self, name) for name in COLUMNS if getattr(self, name)}
        if columns and not (self.labels or self.groups):
            option = min(columns).replace("_", "-")
            raise typer.BadParameter(f"expected --labels CSV or --groups CSV with --{option}, got neither")
        groups: Path | Labels | None = self.groups
        labels: Path | Labels | None = self.labels
        if self.label_pattern:
            labels = Labels.from_names(self.label_pattern)
        elif self.labels:
            labels = Labels.from_csv(self.labels, **columns)
        elif self.groups:
            groups = Labels.from_csv(self.groups, **columns)
        return FrameFolder(
            self.folder,
            groups,
            size,
            progress,
            min_classes,
            labels=labels,
            group_by=self.group_by,
            parts=self.parts,
            **self.elsewhere,
        )


@dataclass(frozen=True)
class SplitOptions(FolderOptions):
    """A folder of frames, and folders elsewhere that hold parts of its split.

    Parameters
    ----------
    validation, test : Path, optional
        Folders of class folders with the validation and the test frames.
    """

    validation: Path | None = None
    test: Path | None = None

    @property
    def elsewhere(self) -> dict[str, Path]:
        return {
            part: folder
            for part, folder in (("validation", self.validation), ("test", self.test))
            if folder is not None
        }


def _column(field: str, help_text: str) -> Any:
    title = PARTS if field == "part" else LABELS
    return typer.Option(f"--{field}-column", metavar="NAME", show_default=field, help=help_text, rich_help_panel=title)


def _part(part: str) -> Any:
    text = f"A folder with one folder of {part} frames per class."
    return typer.Option(f"--{part}", parser=frame_folder, metavar="FOLDER", help=text, rich_help_panel=PARTS)


_EVALUATED = "framecnn evaluate uses the test part only, or the validation part."
_SHOWN: Mapping[str, Any] = {
    "folder": typer.Argument(
        parser=frame_folder, metavar="FOLDER", help="A folder that contains one folder of frames per class."
    ),
    "groups": typer.Option(
        metavar="CSV",
        help="A table with the group of each frame.",
        rich_help_panel=LABELS,
        show_default="FOLDER/frames.csv",
    ),
    "labels": typer.Option(
        metavar="CSV", help="A table with the label of each frame, instead of class folders.", rich_help_panel=LABELS
    ),
    "path_column": _column("path", "The column of that table with paths, absolute or relative to FOLDER."),
    "label_column": _column("label", "The column with labels."),
    "group_column": _column("group", "The column with groups."),
    "movie_column": _column("movie", "The column with movies."),
    "part_column": _column("part", f"The column with train, validation or test. {_EVALUATED}"),
    "label_pattern": typer.Option(
        metavar="REGEX",
        help="Labels and groups from names of files: '(?P<label>[a-z]+)_(?P<group>.+)_\\d+'. It must match the "
        "whole name, with or without extension: end it with .* if need be.",
        rich_help_panel=LABELS,
    ),
    "group_by": typer.Option(
        **one_of("movie", "shot"),
        help="Keep whole movies or shots together.",
        show_default="movie if a class has several",
        rich_help_panel=LABELS,
    ),
    "parts": typer.Option(
        **one_of("folders", "none"),
        help=f"Folders called train, validation, test are parts of a split, or not. {_EVALUATED}",
        show_default="by their contents",
        rich_help_panel=PARTS,
    ),
    "validation": _part("validation"),
    "test": _part("test"),
}


def reads_folder(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command of Typer with the options of its parameter ``source`` in place of it.

    Parameters
    ----------
    command : callable
        A function with a parameter ``source`` that is annotated as FolderOptions or SplitOptions.

    Returns
    -------
    callable
    """
    kind = get_type_hints(command)["source"]
    shown = []
    for parameter in inspect.signature(command).parameters.values():
        shown += _parameters(kind) if parameter.name == "source" else [parameter.replace(kind=parameter.KEYWORD_ONLY)]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        own = {field.name: arguments.pop(field.name) for field in fields(kind)}
        command(source=kind(**own), **arguments)

    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return run


def _parameters(kind: type[FolderOptions]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=Annotated[hints[field.name], _SHOWN[field.name]],
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(kind)
    ]


def describe_source(frames: FrameFolder) -> dict[str, Any]:
    """Return where labels, groups and parts come from and what the groups mean, ready for JSON."""
    return {
        "labels": frames.label_source,
        "parts": frames.part_source or None,
        "groups": frames.group_source,
        "meaning": frames.group_note,
    }
