"""A folder of frames with one folder per class: its frames, their groups, and how it is split."""

import copy
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from framecnn.data.decode import DEFAULT_SIZE, check_size
from framecnn.data.groups import NEAR_DUPLICATES, check_group_by, group_frames
from framecnn.data.listing import structure_error
from framecnn.data.manifest import write_manifest
from framecnn.data.near_duplicates import LABEL_CONFLICT, near_duplicate_clusters, same_pixels_in_two_classes
from framecnn.data.reasons import Skip
from framecnn.data.scan import Scanned, scan
from framecnn.data.source import PlacedFile, Source, Table, read_source
from framecnn.data.split import PARTS
from framecnn.data.splittable import SplittableFrames
from framecnn.errors import DataError
from framecnn.text import counted

__all__ = ["FrameFolder"]


class FrameFolder(SplittableFrames):
    """The frames of a folder that holds one folder per class; every file is used, or skipped with a reason.

    Creating one decodes every file once, in threads, to find out whether it can be used. Files are only read. Folders
    inside a class folder belong to that class. Names that start with a dot, files of a NAS or an operating system
    (``@eaDir``, ``__MACOSX``, ``Thumbs.db``), and files that are not pictures by their extension (``.txt``, ``.xml``,
    ``.json``) are skipped. Links are followed to files inside the folder only.

    Folders such as ``train``, ``val`` and ``test``, in any case, above the class folders or inside them, are the parts
    of a split that is given. Other folders of class folders can be given as `validation` and `test`. The names of their
    classes are compared with those of the training part without regard to case and surrounding blanks.

    A group is a set of frames that must stay on one side of a split: the frames of a shot or of a movie. A file of a
    folder with a table of groups is skipped if the table does not name it, because its group is unknown; rows without a
    file are counted in ``warnings``. Without groups in a table or in names, the groups are clusters of near-duplicates,
    in which flat frames (black, white) are alone. Where a class holds frames of several movies, the movie is the group;
    in a class of one movie, it is the shot.

    Parameters
    ----------
    root : path
        The folder.
    groups : path or Labels, optional
        A CSV file with the columns ``path``, ``group`` and, optionally, ``label``, ``movie`` and ``part``. If None,
        ``root/frames.csv`` if it exists.
    size : (int, int), default (240, 360)
        Height and width in pixels to which every frame is stretched.
    progress : callable, optional
        Called as ``progress(done, total)`` after each file.
    min_classes : int, default 2
        The smallest number of classes: 1 for frames that are only evaluated.
    labels : path or Labels, optional
        A CSV file with the columns ``path`` and ``label`` and, optionally, ``group``, ``movie`` and ``part``. Its
        labels replace those of class folders, which are then not needed. :class:`Labels` reads other columns, or the
        names of files.
    group_by : {"movie", "shot"}, optional
        What is the group in all classes.
    parts : {"folders", "none"}, optional
        Whether folders such as ``train`` are parts, or classes as others. If None, their structure tells; where it does
        not, DataError is raised.
    validation, test : path, optional
        Folders with the validation and the test frames.

    Attributes
    ----------
    root : Path
        The folder; no part of its path is a link.
    roots : list of Path
        `root`, and the folders of `validation` and `test`.
    size : (int, int)
        Height and width.
    classes : list of str
        The names of the classes, sorted.
    class_to_idx : dict of str to int
        The number of each class.
    samples : list of (str, int)
        Path, relative to `root`, and class number of each used frame, sorted by path. Paths in other folders begin with
        ``../``.
    targets : array of int64, shape (n,)
        The class number of each used frame.
    labels : array of str, shape (n,)
        The name of the class of each used frame.
    groups : array of str, shape (n,)
        The group of each used frame.
    movies : array of str, shape (n,), or None
        The movie of each used frame, empty where it is unknown; None if no movie is known.
    parts : array of str, shape (n,), or None
        ``training``, ``validation`` or ``test`` for each used frame; None if no parts are given.
    given_parts : list of str
        The parts that are given.
    label_source, group_source, part_source : str
        Where labels, groups and parts come from.
    group_note : str
        What an accuracy on held-out groups says, in words.
    skipped : list of Skip
        The files that are not used, sorted by path.
    scan_warnings : list of str
        Problems of the files: label conflicts, a table that does not fit, what the groups give no evidence of.

    Raises
    ------
    DataError
        If the structure of the folder is wrong: too few class folders, a class without a usable frame, pictures beside
        the class folders, folders that may be parts or classes; or if a table cannot be used.
    ValueError
        If `size` is not two positive integers, or `group_by` or `parts` has another value.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for name, grey in [("day", 200), ("night", 20)]:
    ...     (root / name).mkdir()
    ...     for i in range(10):
    ...         Image.new("L", (64, 48), grey + i).save(root / name / f"{i}.png")
    >>> folder = FrameFolder(root, size=(24, 32))
    >>> folder.classes, folder.frames.shape, len(folder.skipped)
    (['day', 'night'], (20, 24, 32, 3), 0)
    >>> train, val, test = folder.split(0.7, 0.2, 0.1, seed=0)
    >>> len(train), len(val), len(test)
    (14, 4, 2)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        groups: Table | None = None,
        size: tuple[int, int] = DEFAULT_SIZE,
        progress: Callable[[int, int], object] | None = None,
        min_classes: int = 2,
        *,
        labels: Table | None = None,
        group_by: str | None = None,
        parts: str | None = None,
        validation: str | os.PathLike[str] | None = None,
        test: str | os.PathLike[str] | None = None,
    ):
        self.size = check_size("FrameFolder", size)
        self.root = _existing_folder(root)
        elsewhere = {"validation": validation, "test": test}
        given = {part: _existing_folder(folder) for part, folder in elsewhere.items() if folder is not None}
        source = read_source(self.root, groups, labels, parts, given)
        self._check_classes(source, min_classes)
        self.roots = [self.root, *given.values()]
        self.classes = sorted(source.classes)
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        self.skipped, self._label_of = source.skipped, source.label_of
        check_group_by(group_by, [file.movie for file in source.files], [file.group for file in source.files])
        files = sorted(source.files, key=lambda file: file.path)
        used = self._scan(files, progress)
        self.samples = [(file.path, self.class_to_idx[file.label]) for file in used]
        self.targets = np.array([target for _, target in self.samples], np.int64)
        self.parts = np.array([file.part for file in used]) if source.parts_from else None
        self.movies = np.array([file.movie for file in used]) if any(file.movie for file in used) else None
        self.label_source, self.part_source = source.labels_from, source.parts_from
        self._check_every_class_has_frames()
        self._check_every_part_has_frames({part: sum(file.part == part for file in files) for part in source.parts})
        self.scan_warnings = source.warnings
        if missing := self._missing_decoder():
            self.scan_warnings.append(f"pictures that another package decodes are skipped{missing}")
        self._group([file.group for file in used], source, group_by)

    def _missing_decoder(self, name: str | None = None) -> str:
        """Return why pictures (of one class) cannot be decoded here, if that is so, with the remedy."""
        found = [
            skip
            for skip in self.skipped
            if skip.reason == "missing-decoder" and name in (None, self._label_of[skip.path])
        ]
        return f" (first: {found[0].path!r}: {found[0].detail})" if found else ""

    def _scan(self, files: list[PlacedFile], progress: Callable[[int, int], object] | None) -> list[PlacedFile]:
        """Decode all files, and return those that can be used."""
        used = []
        self._scanned: list[Scanned] = []
        paths = [file.path for file in files]
        for file, (_, seen) in zip(files, scan(self.root, paths, self.size, progress), strict=True):
            if isinstance(seen, Skip):
                self.skipped.append(seen)
            else:
                used.append(file)
                self._scanned.append(seen)
        self.skipped.sort(key=lambda skip: skip.path)
        return used

    def _group(self, given: list[str], source: Source, group_by: str | None) -> None:
        """Find the group of each frame; one that is not given is a cluster of near-duplicates."""
        prints = [seen.fingerprint for seen in self._scanned]
        self._clusters = near_duplicate_clusters(prints)
        alike = [f"near-duplicates-{cluster:06d}" for cluster in self._clusters]
        shots = np.array([group or name for group, name in zip(given, alike, strict=True)])
        grouping = group_frames(self.classes, self.targets, shots, self.movies, group_by, bool(source.groups_from))
        self.groups, self.group_note, self._by_movie = grouping.groups, grouping.note, grouping.by_movie
        self.group_source = self._source_of_groups(source.groups_from, source.movies_from)
        self.scan_warnings += grouping.warnings
        if conflicts := same_pixels_in_two_classes(self.samples, prints):
            self.scan_warnings.append(
                f"{LABEL_CONFLICT}: {len(conflicts)} (first: {conflicts[0][0]!r} and {conflicts[0][1]!r})"
            )
        if len(self.given_parts) > 1 and set(self.groups[self.parts == PARTS[0]]) & set(self.groups[self.unseen]):
            self.group_note = (
                "the parts are given and have groups in common: expect this accuracy on frames like these "
                f"{len(self.unseen):,}, not on groups or movies that were not trained on"
            )

    def _source_of_groups(self, groups: str, movies: str) -> str:
        """Return where groups come from: from the sources of `groups` and `movies`, if there are any."""
        if self.movies is None:
            return f"from {groups}" if groups else NEAR_DUPLICATES
        shots = f"shots from {groups}" if groups else NEAR_DUPLICATES
        if not self._by_movie:
            return shots
        if len(self._by_movie) == len(self.classes):
            return f"movies from {movies}"
        return f"movies and {shots}" if groups == movies else f"movies from {movies} and {shots}"

    def _check_classes(self, source: Source, min_classes: int) -> None:
        if len(source.classes) < min_classes:
            links = [skip.path for skip in source.skipped if skip.reason == "outside-root"]
            hint = f"; links out of the folder are not followed ({links[0]!r})" if links else ""
            names = f"only one class folder ({min(source.classes)!r})" if source.classes else "no class folder"
            needed = "one is" if min_classes == 1 else "two are"
            raise structure_error(self.root, f"{names}, at least {needed} needed{hint}")

    def _check_every_class_has_frames(self) -> None:
        has_training = PARTS[0] in self.given_parts
        for target, name in enumerate(self.classes):
            own = self.targets == target
            if has_training:
                own &= self.parts == PARTS[0]
            if not own.any():
                reasons = Counter(skip.reason for skip in self.skipped if self._label_of.get(skip.path) == name)
                listing = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items())) or "it is empty"
                hint = " (add rows for its files)" if "not-in-csv" in reasons else self._missing_decoder(name)
                where = " in the training part" if has_training else ""
                raise structure_error(self.root, f"the class {name!r} holds no usable frame{where}: {listing}{hint}")

    def _check_every_part_has_frames(self, n_files: Mapping[str, int]) -> None:
        """Raise DataError if a part has no frame; `n_files` has the number of its files."""
        for part in sorted(set(n_files) - set(self.given_parts)):
            raise DataError(
                f"FrameFolder: the {part} part holds no usable frame, of {counted(n_files[part], 'file')}; add some, "
                "or remove it"
            )

    def __repr__(self) -> str:
        return (
            f"FrameFolder({self.root.name!r}: {len(self)} frames of {len(self.classes)} classes, "
            f"{len(np.unique(self.groups))} groups, {len(self.skipped)} skipped)"
        )

    @property
    def found(self) -> int:
        """The number of files: used and skipped."""
        return len(self.samples) + len(self.skipped)

    @property
    def notes(self) -> list[tuple[str, str]]:
        """The path and note of used files with a peculiarity: ``extension-mismatch``, ``animated``."""
        return [
            (path, note) for (path, _), seen in zip(self.samples, self._scanned, strict=True) for note in seen.notes
        ]

    @property
    def warnings(self) -> list[str]:
        """`scan_warnings`, and a warning for each class that has one group only."""
        return [*self.scan_warnings, *self._one_group_warnings.values()]

    def without(self, paths: Iterable[str]) -> "FrameFolder":
        """Return the folder without some frames, which are then listed as skipped: ``vanished`` or ``changed``.

        Parameters
        ----------
        paths : iterable of str
            Paths as in `samples`, such as those of a FrameLost.

        Returns
        -------
        FrameFolder
            A new folder with the same classes and groups.

        Raises
        ------
        DataError
            If a path does not belong to a used frame, or a class or a given part has no frame left.
        """
        lost = set(paths)
        unknown = lost - {path for path, _ in self.samples}
        if unknown:
            raise DataError(f"FrameFolder.without: expected paths of used frames as in samples, got {min(unknown)!r}")
        rest = copy.copy(self)
        kept = [row for row, (path, _) in enumerate(self.samples) if path not in lost]
        rest.samples = [self.samples[row] for row in kept]
        rest._scanned = [self._scanned[row] for row in kept]
        rest.targets, rest.groups, rest._clusters = self.targets[kept], self.groups[kept], self._clusters[kept]
        rest.parts = None if self.parts is None else self.parts[kept]
        rest.movies = None if self.movies is None else self.movies[kept]
        skips = [
            Skip(path, "changed", "it is not the file that was scanned")
            if os.path.exists(self.root / path)
            else Skip(path, "vanished", "it existed when the folder was scanned")
            for path in lost
        ]
        rest.skipped = sorted(self.skipped + skips, key=lambda skip: skip.path)
        rest._check_every_class_has_frames()
        rest._check_every_part_has_frames(Counter() if self.parts is None else Counter(self.parts.tolist()))
        return rest

    def write_manifest(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest: a CSV file with path, label, group, status, reason, detail and notes of every file.

        Parameters
        ----------
        path : path
            The file to write, in UTF-8, outside the folder of frames; bytes of file names that are not UTF-8 are kept.
            A cell that a spreadsheet would run as a formula gets a leading apostrophe.

        Raises
        ------
        DataError
            If the file would lie in the folder of frames.
        """
        for root in self.roots:
            if Path(os.path.realpath(path)).is_relative_to(root):
                raise DataError(
                    f"{os.fspath(path)!r}: expected a file outside {str(root)!r}, which is only read; choose another"
                )
        rows = [
            (frame, self.classes[target], group, "used", "", "", " ".join(seen.notes))
            for (frame, target), group, seen in zip(self.samples, self.groups, self._scanned, strict=True)
        ]
        rows += [
            (skip.path, self._label_of.get(skip.path, ""), "", "skipped", skip.reason, skip.detail, "")
            for skip in self.skipped
        ]
        write_manifest(Path(path), rows)


def _existing_folder(path: str | os.PathLike[str]) -> Path:
    """Return a folder with all links followed; raise DataError if it is none."""
    folder = Path(os.path.realpath(path))
    if not folder.is_dir():
        raise DataError(f"expected an existing folder of frames, got {os.fspath(path)!r}; check the path")
    return folder
