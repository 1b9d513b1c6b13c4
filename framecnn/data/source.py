"""The files of folders of frames with their classes, parts, groups and movies, before any file is decoded."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from framecnn.data.decode import SUFFIXES
from framecnn.data.labels import GROUPS_FILE, FrameFacts, Labels
from framecnn.data.layout import Layout, find_layout, part_of
from framecnn.data.listing import list_files, structure_error
from framecnn.data.reasons import Skip
from framecnn.errors import DataError
from framecnn.text import counted, did_you_mean

__all__ = ["PlacedFile", "Source", "Table", "read_source"]

Table = Labels | str | os.PathLike[str]
"""Labels, or the path of a CSV file with the columns of ``frames.csv``."""


@dataclass(frozen=True)
class PlacedFile:
    """A file that may be a frame, and what is known about it before it is decoded.

    Parameters
    ----------
    path : str
        Its path, relative to the folder of frames; it begins with ``../`` if it lies in another folder.
    label : str
        Its class.
    part : str
        ``training``, ``validation`` or ``test``; empty if the data does not say.
    group, movie : str
        Its group and its movie, each empty if unknown.
    """

    path: str
    label: str
    part: str
    group: str
    movie: str


@dataclass
class Source:
    """The files of a folder of frames, and where the facts about them come from.

    Parameters
    ----------
    files : list of PlacedFile
        The files that may be frames, sorted by path.
    skipped : list of Skip
        The other files.
    label_of : dict of str to str
        The class of each file, used or skipped; empty if it has none.
    classes : set of str
        All classes, also those of empty folders.
    labels_from, groups_from, parts_from : str
        Where they come from; the last two are empty if no table has groups, and if no parts are given.
    warnings : list of str
        Differences between tables and files, and between the names of classes.
    """

    files: list[PlacedFile]
    skipped: list[Skip]
    label_of: dict[str, str]
    classes: set[str]
    labels_from: str
    groups_from: str
    parts_from: str
    warnings: list[str] = field(default_factory=list)


def read_source(
    root: Path, groups: Table | None, labels: Table | None, parts: str | None, given: Mapping[str, Path]
) -> Source:
    """Return the files of a folder of frames, and of the folders with other parts of the split; none is decoded.

    Parameters
    ----------
    root : Path
        The folder; no part of its path is a link.
    groups : Labels or path, optional
        The groups. If None, ``root/frames.csv`` if it exists.
    labels : Labels or path, optional
        The labels. If None, the names of the class folders.
    parts : {None, "folders", "none"}
        Whether folders such as ``train`` are parts; None decides by their structure.
    given : mapping of str to Path
        Folders elsewhere, by the part (``validation``, ``test``) that they are; no part of their paths is a link.

    Returns
    -------
    Source

    Raises
    ------
    DataError
        If pictures lie beside class folders, a table cannot be used, it is not clear what folders stand for, or a part
        is given twice or has no class of the training part.
    """
    source = _read_root(root, groups, labels, parts, given.values())
    if given and not source.parts_from:
        source.files = [replace(file, part="training") for file in source.files]
    for part, folder in given.items():
        if any(file.part == part for file in source.files):
            raise DataError(
                f"FrameFolder: {str(root)!r} holds a {part} part already; leave out --{part}, or name the folder of "
                "its training part"
            )
        names = labels if isinstance(labels, Labels) and labels.pattern is not None else None
        _add(source, root, part, folder, _read_root(folder, None, names, parts, [root]))
    if source.parts_from:
        _match_classes(source)
    return source


def _read_root(
    root: Path, groups: Table | None, labels: Table | None, parts: str | None, left_out: Collection[Path]
) -> Source:
    if groups is None and (root / GROUPS_FILE).is_file():
        groups = root / GROUPS_FILE
    tables = [Path(os.path.realpath(table)) for table in (groups, labels) if isinstance(table, str | os.PathLike)]
    grouped, labelled = _open(groups, "group", "movie", "part"), _open(labels, "label")
    has_labels = labelled is not None and "label" in labelled.fields
    files, folders, skipped = list_files(root, {*tables, *left_out})
    layout = find_layout(root, files, folders, parts, has_labels)
    found = files if has_labels else _in_class_folders(root, files, layout, skipped)
    warnings: list[str] = []
    facts = dict.fromkeys(found, FrameFacts())
    for table in (grouped, labelled):
        if table is not None:
            known = table.match(found)
            warnings += table.warnings(found, known)
            skipped += [_unknown(table, path) for path in found if path not in known]
            found = [path for path in found if path in known]
            if table is grouped:
                warnings += [] if has_labels else _other_labels(layout, known)
                known = {path: known[path]._replace(label="") for path in found}
            facts = {path: _joined(known[path], facts[path]) for path in found}
    placed = []
    for path in found:
        part, folder = layout.place(path)
        label, group, movie, cell = facts[path]
        if label or (folder and not has_labels):
            part = part_of(cell, repr(path)) if cell else part
            placed.append(PlacedFile(path, label or folder, part, group, movie))
        else:
            skipped.append(Skip(path, "no-label", "its label is empty"))
    if len({bool(file.part) for file in placed}) == 2:
        first = min(file.path for file in placed if not file.part)
        raise DataError(f"table: expected a part for every frame or for none, got none for {first!r}; fill it in")
    label_of = {file.path: file.label for file in placed}
    label_of |= {skip.path: "" if has_labels else layout.place(skip.path)[1] for skip in skipped}
    classes = {file.label for file in placed}
    if not has_labels:
        empty = {layout.place(f"{folder}/")[1] for folder in folders} - {"", *classes}
        without = {label_of[skip.path]: skip.path for skip in skipped if skip.reason == "not-a-picture"}
        warnings += [
            f"folder {name!r} holds no pictures, only files such as {without[name]!r}: it is not a class"
            for name in sorted(empty & set(without))
        ]
        classes |= empty - set(without)
    by_table = next((table.source for table in (labelled, grouped) if table and "part" in table.fields), "")
    grouping = next((table.source for table in (labelled, grouped) if table and table.fields & {"group", "movie"}), "")
    return Source(
        files=placed,
        skipped=skipped,
        label_of=label_of,
        classes=classes,
        labels_from=labelled.source if labelled and has_labels else "names of the class folders",
        groups_from=grouping,
        parts_from=by_table or ("" if layout.part_level is None else "names of folders"),
        warnings=warnings + _similar_labels(classes),
    )


def _open(table: Table | None, *needed: str) -> Labels | None:
    """Return labels or groups, read if they are a path; raise DataError if they have none of the `needed` fields."""
    if table is None:
        return None
    labels = table if isinstance(table, Labels) else Labels.from_csv(table)
    if labels.pattern is None and not labels.fields & set(needed):
        raise DataError(
            f"table: expected a column {' or '.join(needed)} in {labels.source!r}, got none of these names; "
            f"name the column (--{needed[0]}-column)"
        )
    return labels


def _in_class_folders(root: Path, files: list[str], layout: Layout, skipped: list[Skip]) -> list[str]:
    """Return the files that lie in a class folder; add the others to `skipped`."""
    found = [path for path in files if layout.place(path)[1]]
    others = sorted(set(files) - set(found))
    loose = [path for path in others if "/" not in path and path.lower().endswith(SUFFIXES)]
    if loose and layout.part_level is None:
        raise structure_error(root, f"pictures beside the class folders: {len(loose)} (first: {loose[0]!r})")
    skipped += [Skip(path, "not-in-class", "it lies beside the class folders") for path in others]
    return found


def _unknown(table: Labels, path: str) -> Skip:
    if table.pattern is not None:
        return Skip(path, "no-label", "the label pattern does not match its name")
    return Skip(path, "not-in-csv", f"{table.source} has no row for it")


def _joined(facts: FrameFacts, others: FrameFacts) -> FrameFacts:
    return FrameFacts(*(fact or other for fact, other in zip(facts, others, strict=True)))


def _other_labels(layout: Layout, known: Mapping[str, FrameFacts]) -> list[str]:
    """Return a warning if a table of groups has labels that differ from the class folders."""
    moved = sorted(path for path, facts in known.items() if facts.label not in ("", layout.place(path)[1]))
    if not moved:
        return []
    return [
        f"frames whose label in the table of groups differs from their folder: {len(moved)} (first: {moved[0]!r}, "
        f"labelled {known[moved[0]].label!r}); the folder counts (--labels makes the table count)"
    ]


def _key(name: str) -> str:
    return name.strip().casefold()


def _similar_labels(classes: Collection[str]) -> list[str]:
    """Return a warning for each pair of classes whose names differ only in case or blanks."""
    by_key = defaultdict(list)
    for name in sorted(classes):
        by_key[_key(name)].append(name)
    return [
        f"classes whose names differ only in case or blanks: {', '.join(map(repr, names))}; they are different classes"
        for names in by_key.values()
        if len(names) > 1
    ]


def _add(source: Source, root: Path, part: str, folder: Path, other: Source) -> None:
    """Add the files of another folder as a part of the split."""
    if other.parts_from:
        raise DataError(
            f"FrameFolder: expected class folders in {str(folder)!r}, got parts of a split; name the folder of its "
            f"{part} part"
        )
    if not other.files:
        raise structure_error(folder, "no class folder with a picture, at least one is needed")
    try:
        prefix = Path(os.path.relpath(folder, root)).as_posix()
    except ValueError:  # another drive
        prefix = folder.as_posix()
    source.files += [replace(file, path=f"{prefix}/{file.path}", part=part) for file in other.files]
    source.skipped += [replace(skip, path=f"{prefix}/{skip.path}") for skip in other.skipped]
    source.label_of |= {f"{prefix}/{path}": label for path, label in other.label_of.items()}
    source.classes |= other.classes
    source.warnings += [f"{folder.name}: {warning}" for warning in other.warnings]
    source.parts_from = f"{source.parts_from}, --{part} {folder.name}".removeprefix(", ")


def _match_classes(source: Source) -> None:
    """Give the classes of all parts the names of the training part; skip frames of classes that it does not have."""
    trained = {file.label for file in source.files if file.part == "training"}
    if not trained:
        return
    by_key = defaultdict(list)
    for name in sorted(trained):
        by_key[_key(name)].append(name)
    others = Counter((file.part, file.label) for file in source.files if file.part != "training")
    names = {name: name for name in trained}
    for part, name in sorted(others):
        same, n = by_key[_key(name)], others[part, name]
        if name in trained:
            continue
        if len(same) == 1:
            names[name] = same[0]
            source.warnings.append(
                f"class {name!r} of the {part} part is taken as class {same[0]!r} of the training part"
            )
        else:
            source.warnings.append(
                f"class {name!r} of the {part} part is not a class of the training part: its {counted(n, 'file')} "
                f"{'is' if n == 1 else 'are'} skipped{did_you_mean(name, trained)}"
            )
    unknown = [file for file in source.files if file.label not in names]
    source.skipped += [Skip(file.path, "unknown-class", "its class has no training frames") for file in unknown]
    source.files = [replace(file, label=names[file.label]) for file in source.files if file.label in names]
    source.label_of |= {file.path: file.label for file in source.files}
    for part in sorted({part for part, _ in others} - {file.part for file in source.files}):
        raise DataError(
            f"FrameFolder: expected classes of the training part ({', '.join(sorted(trained)[:9])}) in the {part} "
            f"part, got {', '.join(sorted(name for other, name in others if other == part)[:9])}; name its folders as "
            "in the training part"
        )
    source.classes = set(trained)
