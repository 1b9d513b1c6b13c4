"""What the folders of frames stand for: classes, and the parts of a split that is given."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from framecnn.data.decode import SUFFIXES
from framecnn.data.split import PARTS
from framecnn.errors import DataError

__all__ = ["Layout", "find_layout", "part_named", "part_of"]

_PART_NAMES = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_END = re.compile(r"[ _-]?(set|data|images)$")


def part_named(name: str) -> str | None:
    """Return the part of a split that a name stands for, in any case; None if it stands for none.

    Parameters
    ----------
    name : str
        The name of a folder, or a cell of a table. It may end in ``set``, ``data`` or ``images``.

    Returns
    -------
    {"training", "validation", "test"} or None

    Examples
    --------
    >>> part_named("Train"), part_named("test_set"), part_named("trains")
    ('training', 'test', None)
    """
    return _PART_NAMES.get(_END.sub("", name.strip().casefold()))


@dataclass(frozen=True)
class Layout:
    """Which folders in the path of a file name its part and its class.

    Parameters
    ----------
    part_level : {None, 0, 1}
        The level of the folders that name parts: 0 is ``part/class/file``, 1 is ``class/part/file``. None if there are
        no such folders.
    """

    part_level: int | None

    def place(self, path: str) -> tuple[str, str]:
        """Return the part and the class in which a file lies, each empty if no folder names it.

        Parameters
        ----------
        path : str
            Its path, relative to the folder of frames.

        Returns
        -------
        (str, str)

        Examples
        --------
        >>> Layout(0).place("train/cats/1.jpg"), Layout(1).place("cats/Test/1.jpg"), Layout(None).place("cats/1.jpg")
        (('training', 'cats'), ('test', 'cats'), ('', 'cats'))
        """
        folders = path.split("/")[:-1]
        if self.part_level is None:
            return "", "".join(folders[:1])
        part = part_named(folders[self.part_level]) if len(folders) > self.part_level else None
        rest = [folder for level, folder in enumerate(folders) if level != self.part_level]
        return (part, "".join(rest[:1])) if part else ("", "")


def find_layout(
    root: Path,
    files: Sequence[str],
    folders: Collection[str],
    parts: str | None = None,
    has_labels: bool = False,
    has_others: bool = False,
) -> Layout:
    """Return what the folders of frames stand for.

    Parameters
    ----------
    root : Path
        The folder of frames, for messages.
    files : sequence of str
        The paths of its files, relative to `root`.
    folders : collection of str
        The paths of its folders.
    parts : {None, "folders", "none"}, default None
        Whether folders such as ``train`` and ``test`` are parts or classes; None decides by their structure.
    has_labels : bool, default False
        Whether labels come from a table or from names, so that no class folders are needed.
    has_others : bool, default False
        Whether other parts lie elsewhere, so that one folder may be the only part here.

    Returns
    -------
    Layout

    Raises
    ------
    DataError
        If it is not clear whether folders are parts, or there are none although `parts` says so.
    ValueError
        If `parts` has another value.
    """
    if parts not in (None, "folders", "none"):
        raise ValueError(f"FrameFolder: expected parts='folders', parts='none' or no parts, got parts={parts!r}")
    if parts == "none":
        return Layout(None)
    for level in (0, 1):
        named = defaultdict(set)
        for folder in folders:
            name = folder.split("/")[level] if folder.count("/") == level else ""
            if part := part_named(name):
                named[part].add(name)
        if named and (parts == "folders" or not (doubt := _doubt(level, named, files, has_labels, has_others))):
            return Layout(level)
        if named:
            names = ", ".join(repr(name) for name in sorted(set().union(*named.values())))
            raise DataError(
                f"{str(root)!r}: folders are called {names}, and it is not clear whether they are the parts of a split "
                f"({doubt}); give --parts folders (parts='folders') if they are, or --parts none (parts='none') if "
                "they are not"
            )
    if parts == "folders":
        raise DataError(
            f"{str(root)!r}: expected folders called train, validation or test for --parts folders, got "
            f"{', '.join(sorted(folder for folder in folders if '/' not in folder)[:9]) or 'none'}; leave out --parts"
        )
    return Layout(None)


def _doubt(level: int, named: dict[str, set[str]], files: Sequence[str], has_labels: bool, has_others: bool) -> str:
    """Return why folders with the names of parts may be something else; "" if they are parts."""
    layout = Layout(level)
    for path in [path for path in files if path.lower().endswith(SUFFIXES)] or files:
        part, label = layout.place(path)
        if not part:
            return f"{path!r} lies beside them"
        if not label and not has_labels:
            return f"{path!r} lies in no class folder"
    if len(named) == 1 and not has_others:
        return f"there is no other part than {min(named)}"
    if "training" not in named:
        return "there is no training part"
    doubles = [sorted(names) for names in named.values() if len({name.casefold() for name in names}) > 1]
    return f"{doubles[0][0]!r} and {doubles[0][1]!r} name the same part" if doubles else ""


def part_of(cell: str, where: str) -> str:
    """Return the part that a cell of a table or a group of a pattern names; raise DataError if it names none."""
    part = part_named(cell)
    if part is None:
        raise DataError(f"{where}: expected {', '.join(PARTS)} or a name such as train as part, got {cell!r}")
    return part
