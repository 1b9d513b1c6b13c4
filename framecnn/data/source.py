"""The files of folders of frames with their classes, parts, groups and movies, before any file is decoded."""

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from framecnn.data.decode import SUFFIXES
from framecnn.data.labels import GROUPS_FILE, FrameFacts, Labels
from framecnn.data.layout import Layout, find_layout, part_of
from framecnn.data.listing import list_files, structure_error
from framecnn.data.names import name_key, same_name
from framecnn.data.reasons import Reason, Skip
from framecnn.errors import DataError
from framecnn.text import counted, did_you_mean, listed

__all__ = ["CLASS_FOLDERS", "PlacedFile", "Source", "Table", "read_source"]

CLASS_FOLDERS = "names of the class folders"
"""Where labels come from, if neither from a table nor from the names of files."""

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
    parts : set of str
        The parts that are given, also empty ones.
    labels_from, groups_from, movies_from, parts_from : str
        Where they come from; all but the first are empty if no table has them, and if no parts are given.
    warnings : list of str
        Differences between tables and files, and between the names of classes.
    """

    files: list[PlacedFile]
    skipped: list[Skip]
    label_of: dict[str, str]
    classes: set[str]
    parts: set[str]
    labels_from: str
    groups_from: str
    movies_from: str
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
    for part, folder in given.items():
        if [root, *given.values()].count(folder) > 1:
            raise DataError(f"FrameFolder: expected another folder as {part} part, got {str(folder)!r} twice")
    source = _read_root(root, groups, labels, parts, list(given.values()))
    if given and not source.parts_from:
        source.files = [replace(file, part="training") for file in source.files]
        source.parts = {"training"}
    for part, folder in given.items():
        if any(file.part == part for file in source.files):
            raise DataError(
                f"FrameFolder: {str(root)!r} holds a {part} part already; leave out --{part}, or name the folder of "
                "its training part"
            )
        names = labels if isinstance(labels, Labels) and labels.pattern is not None else None
        other = _read_root(folder, None, names, "none" if parts == "none" else None, [root])
        _add(source, root, part, folder, other, names is not None and "group" in names.fields)
    if source.parts_from:
        _match_classes(source)
    source.warnings += _similar_labels(source.classes)
    return source


def _read_root(
    root: Path, groups: Table | None, labels: Table | None, parts: str | None, left_out: Collection[Path]
) -> Source:
    if groups is None and (root / GROUPS_FILE).is_file():
        groups = root / GROUPS_FILE
    grouped, labelled = _open(groups, "group", "movie", "part"), _open(labels, "label")
    has_labels = labelled is not None and "label" in labelled.fields
    if grouped is not None and has_labels:
        grouped = grouped.without_labels()
    tables = [table for table in (labelled, grouped) if table is not None]
    read = [table.path for table in tables if table.path is not None]
    files, folders, skipped = list_files(root, [*read, *left_out])
    layout = find_layout(root, files, folders, parts, has_labels, has_others=bool(left_out))
    found = files if has_labels else _in_class_folders(root, files, layout, skipped)
    warnings: list[str] = []
    facts = _facts_about(root, found, tables, skipped, warnings)
    if grouped is not None and not has_labels:
        warnings += _other_labels(grouped, layout, facts)
    parts_in = next((table.source for table in tables if "part" in table.fields), "")
    placed, unlabelled = [], []
    for path, (label, group, movie, cell) in facts.items():
        part, folder = layout.place(path)
        label = label if has_labels else folder
        if label:
            placed.append(
                PlacedFile(
                    path,
                    label,
                    part_of(cell, f"table: part of {path!r} in {parts_in!r}") if cell else part,
                    group,
                    movie,
                )
            )
        else:
            unlabelled.append(path)
    skipped += [Skip(path, "no-label", "its label is empty") for path in unlabelled]
    if unlabelled and labelled is not None:
        warnings.append(
            f"files skipped because their label in {labelled.source} is empty: {len(unlabelled)} "
            f"(first: {unlabelled[0]!r})"
        )
    if labelled is not None and labelled.pattern is not None:
        warnings += _groups_of_several_classes(placed)
    if len({bool(file.part) for file in placed}) == 2:
        first = min(file.path for file in placed if not file.part)
        raise DataError(f"table: expected a part for every frame or for none, got none for {first!r}; fill it in")
    label_of = {file.path: file.label for file in placed}
    for skip in skipped:
        inside = f"{skip.path}/" if skip.path in folders else skip.path
        label_of[skip.path] = "" if has_labels else layout.place(inside)[1]
    classes = {file.label for file in placed}
    places = {layout.place(f"{folder}/") for folder in folders}
    if not has_labels:
        named = {label for _, label in places} - {"", *classes}
        empty, others = _classes_without_files(named, label_of, skipped)
        classes |= empty
        warnings += others
    return Source(
        files=placed,
        skipped=skipped,
        label_of=label_of,
        classes=classes,
        parts={file.part for file in placed if file.part} | {part for part, label in places if part and label},
        labels_from=labelled.source if labelled and has_labels else CLASS_FOLDERS,
        groups_from=_first_with("group", tables),
        movies_from=_first_with("movie", tables),
        parts_from=_first_with("part", tables) or ("" if layout.part_level is None else "names of folders"),
        warnings=warnings,
    )


def _first_with(name: str, tables: list[Labels]) -> str:
    """Return where the first table with a field comes from; empty if there is none."""
    return next((table.source for table in tables if name in table.fields), "")


def _facts_about(
    root: Path, found: list[str], tables: list[Labels], skipped: list[Skip], warnings: list[str]
) -> dict[str, FrameFacts]:
    """Return the facts about the files that all tables name; the first table counts. Add the others to `skipped`."""
    facts = dict.fromkeys(found, FrameFacts())
    for table in tables:
        table = table.inside(root)
        known = table.match(list(facts))
        warnings += table.warnings(list(facts), known)
        reason: Reason = "not-in-csv" if table.pattern is None else "no-label"
        detail = (
            f"{table.source} has no row for it"
            if table.pattern is None
            else "the label pattern does not match its name"
        )
        skipped += [Skip(path, reason, detail) for path in facts if path not in known]
        facts = {
            path: FrameFacts(*(before or now for before, now in zip(facts[path], known[path], strict=True)))
            for path in facts
            if path in known
        }
    return facts


def _classes_without_files(
    named: set[str], label_of: Mapping[str, str], skipped: list[Skip]
) -> tuple[set[str], list[str]]:
    """Return the class folders of which no file is decoded, and a warning for each folder that is none.

    A folder that holds only files that are no pictures, such as annotations, is no class.
    """
    reasons = defaultdict(set)
    companions = {}
    for skip in skipped:
        reasons[label_of[skip.path]].add(skip.reason)
        if skip.reason == "not-a-picture":
            companions[label_of[skip.path]] = skip.path
    others = {name for name in named & set(companions) if reasons[name] <= {"not-a-picture", "hidden", "system"}}
    return named - others, [
        f"folder {name!r} holds no pictures, only files such as {companions[name]!r}: it is not a class"
        for name in sorted(others)
    ]


def _open(table: Table | None, *needed: str) -> Labels | None:
    """Return labels or groups, read if they are a path; raise DataError if they have none of the `needed` fields."""
    if table is None:
        return None
    if not isinstance(table, Labels | str | os.PathLike):
        raise TypeError(
            f"FrameFolder: expected a CSV file or Labels, got {type(table).__name__}; write a CSV file with the "
            f"columns path and {needed[0]}"
        )
    labels = table if isinstance(table, Labels) else Labels.from_csv(table)
    if labels.pattern is None and not labels.fields & set(needed):
        raise DataError(
            f"table: expected a column {' or '.join(needed)} in {labels.source!r}, got none to use; "
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


def _other_labels(groups: Labels, layout: Layout, facts: Mapping[str, FrameFacts]) -> list[str]:
    """Return a warning if a table of groups has labels that differ from the class folders."""
    moved = sorted(path for path, own in facts.items() if own.label not in ("", layout.place(path)[1]))
    if not moved:
        return []
    return [
        f"frames whose label in {groups.source} differs from their folder: {len(moved)} (first: {moved[0]!r}, "
        f"labelled {facts[moved[0]].label!r}); the folder counts (--labels makes the table count)"
    ]


def _groups_of_several_classes(files: Sequence[PlacedFile]) -> list[str]:
    """Return a warning if groups that a pattern finds in names hold frames of several classes."""
    labels = defaultdict(set)
    for file in files:
        labels[file.group].add(file.label)
    shared = sorted(group for group, names in labels.items() if group and len(names) > 1)
    if not shared:
        return []
    return [
        f"groups in file names that hold frames of several classes: {len(shared)} (first: {shared[0]!r} of "
        f"{listed(sorted(labels[shared[0]]), 5)}); if these are different series, let (?P<group>...) include the label"
    ]


def _similar_labels(classes: Collection[str]) -> list[str]:
    """Return a warning for each pair of classes whose names differ only in case or blanks."""
    by_key = defaultdict(list)
    for name in sorted(classes):
        by_key[name_key(name)].append(name)
    return [
        f"classes whose names differ only in case or blanks: {', '.join(map(repr, names))}; they are different classes"
        for names in by_key.values()
        if len(names) > 1
    ]


def _add(source: Source, root: Path, part: str, folder: Path, other: Source, shares_groups: bool) -> None:
    """Add the files of another folder as a part of the split.

    Groups of two folders that are called the same are the same if `shares_groups`, or if they are of one movie.
    """
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
    movies_of = defaultdict(set)
    for file in source.files:
        movies_of[file.group].add(file.movie)
    for file in other.files:
        taken = file.group in movies_of and not (file.movie and file.movie in movies_of[file.group])
        group = f"{prefix}/{file.group}" if file.group and taken and not shares_groups else file.group
        source.files.append(replace(file, path=f"{prefix}/{file.path}", part=part, group=group))
    source.skipped += [replace(skip, path=f"{prefix}/{skip.path}") for skip in other.skipped]
    source.label_of |= {f"{prefix}/{path}": label for path, label in other.label_of.items()}
    source.classes |= other.classes
    source.parts |= {part}
    source.warnings += [f"{folder.name}: {warning}" for warning in other.warnings]
    source.parts_from = f"{source.parts_from}, --{part} {folder.name}".removeprefix(", ")


def _match_classes(source: Source) -> None:
    """Give the classes of all parts the names of the training part; skip frames of classes that it does not have."""
    trained = {file.label for file in source.files if file.part == "training"}
    if not trained:
        return
    others = Counter((file.part, file.label) for file in source.files if file.part != "training")
    names = {name: same_name(name, trained) for _, name in others} | {name: name for name in trained}
    for part in sorted({part for part, _ in others}):
        own = [name for other, name in sorted(others) if other == part]
        if renamed := [name for name in own if names[name] not in (None, name)]:
            source.warnings.append(
                f"classes of the {part} part whose names differ in case or blanks from the training part: "
                f"{len(renamed)} (first: {renamed[0]!r}, taken as {names[renamed[0]]!r})"
            )
        if foreign := [name for name in own if names[name] is None]:
            n = sum(others[part, name] for name in foreign)
            source.warnings.append(
                f"classes of the {part} part that the training part does not have: {listed(foreign, 5)}; skipped "
                f"{counted(n, 'file')}{did_you_mean(foreign[0], trained)}"
            )
    files = source.files
    source.files = [replace(file, label=label) for file in files if (label := names[file.label]) is not None]
    unknown = [file for file in files if names[file.label] is None]
    source.skipped += [Skip(file.path, "unknown-class", "its class has no training frames") for file in unknown]
    source.label_of |= {file.path: file.label for file in source.files}
    for part in sorted({part for part, _ in others} - {file.part for file in source.files}):
        raise DataError(
            f"FrameFolder: expected classes of the training part ({listed(sorted(trained), 9)}) in the {part} part, "
            f"got {listed(sorted(name for other, name in others if other == part), 9)}; name its folders as in the "
            "training part"
        )
    source.classes = set(trained)
