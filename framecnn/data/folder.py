"""A folder of frames with one folder per class: its frames, their groups, and how it is split."""

import copy
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from framecnn.data.class_folders import class_folder, list_classes, structure_error
from framecnn.data.decode import DEFAULT_SIZE, check_size
from framecnn.data.groups import GROUPS_FILE, check_table, match_table, read_groups
from framecnn.data.loader import LazyFrames
from framecnn.data.manifest import write_manifest
from framecnn.data.near_duplicates import near_duplicate_clusters, same_pixels_in_two_classes
from framecnn.data.reasons import Skip
from framecnn.data.scan import Scanned, scan
from framecnn.data.split import PARTS, assign_folds, assign_parts
from framecnn.data.subset import FrameSubset
from framecnn.errors import DataError
from framecnn.typing import Array

__all__ = ["FrameFolder"]


class FrameFolder:
    """The frames of a folder that holds one folder per class; every file is used, or skipped with a reason.

    Creating one decodes every file once, in threads, to find out whether it can be used. Files are only read. Folders
    inside a class folder belong to that class. Names that start with a dot, and files of a NAS or an operating system
    (``@eaDir``, ``__MACOSX``, ``Thumbs.db``), are skipped. Links are followed to files inside the folder only.

    A group is a set of frames, such as a shot, that must stay on one side of a split. Groups come from a CSV file
    (columns ``path``, ``group`` and, optionally, ``label``); a file that it does not name is skipped, because its group
    is unknown, and rows without a file are counted in ``warnings``. Without a CSV the groups are clusters of
    near-duplicates, in which flat frames (black, white) are alone.

    Parameters
    ----------
    root : path
        The folder.
    groups : path, optional
        The CSV of groups. If None, ``root/frames.csv`` if it exists, else clusters of near-duplicates.
    size : (int, int), default (240, 360)
        Height and width in pixels to which every frame is stretched.
    progress : callable, optional
        Called as ``progress(done, total)`` after each file.
    min_classes : int, default 2
        The smallest number of class folders: 1 for frames that are only evaluated.

    Attributes
    ----------
    root : Path
        The folder; no part of its path is a link.
    size : (int, int)
        Height and width.
    classes : list of str
        The names of the class folders, sorted.
    class_to_idx : dict of str to int
        The number of each class.
    samples : list of (str, int)
        Path, relative to `root`, and class number of each used frame, sorted by path.
    targets : array of int64, shape (n,)
        The class number of each used frame.
    groups : array of str, shape (n,)
        The group of each used frame.
    group_source : str
        Where the groups come from.
    skipped : list of Skip
        The files that are not used, sorted by path.
    scan_warnings : list of str
        Problems of the files: label conflicts, a table of groups that does not fit.

    Raises
    ------
    DataError
        If the structure of the folder is wrong: too few class folders, a class without a usable frame, pictures beside
        the class folders; or if the CSV of groups cannot be used.
    ValueError
        If `size` is not two positive integers.

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
        groups: str | os.PathLike[str] | None = None,
        size: tuple[int, int] = DEFAULT_SIZE,
        progress: Callable[[int, int], object] | None = None,
        min_classes: int = 2,
    ):
        self.size = check_size("FrameFolder", size)
        self.root = Path(os.path.realpath(root))
        if not self.root.is_dir():
            raise DataError(f"expected an existing folder of frames, got {os.fspath(root)!r}; check the path")
        table_path = Path(groups or self.root / GROUPS_FILE)
        table = read_groups(table_path) if groups or table_path.is_file() else None
        files, self.skipped = list_classes(self.root, table_path.resolve(), min_classes)
        self.classes = sorted(files)
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        found = sorted(path for paths in files.values() for path in paths)
        table = None if table is None else match_table(table, found)
        paths = [path for path in found if table is None or path in table]
        self.skipped += [
            Skip(path, "not-in-csv", "the table of groups has no row for it")
            for path in sorted(set(found) - set(paths))
        ]
        self.samples: list[tuple[str, int]] = []
        self._scanned: list[Scanned] = []
        for path, seen in scan(self.root, paths, self.size, progress):
            if isinstance(seen, Skip):
                self.skipped.append(seen)
            else:
                self.samples.append((path, self.class_to_idx[class_folder(path)]))
                self._scanned.append(seen)
        self.skipped.sort(key=lambda skip: skip.path)
        self.targets = np.array([target for _, target in self.samples], np.int64)
        self._check_every_class_has_frames()
        prints = [seen.fingerprint for seen in self._scanned]
        self._clusters = near_duplicate_clusters(prints)
        if table is None:
            self.group_source = "clusters of near-duplicates; a frames.csv would keep whole shots together"
            self.groups = np.array([f"near-duplicates-{cluster:06d}" for cluster in self._clusters])
        else:
            self.group_source = f"from {table_path.name}"
            self.groups = np.array([table[path][0] for path, _ in self.samples])
        self.movies: Array | None = None
        self.parts: Array | None = None
        self.group_note = "groups are " + self.group_source  # what the accuracy then measures, in words
        self.scan_warnings = [*check_table(table, found)] if table is not None else []
        if conflicts := same_pixels_in_two_classes(self.samples, prints):
            self.scan_warnings.append(
                f"label conflict: frames with the same pixels as a frame of another class: {len(conflicts)} "
                f"(first: {conflicts[0][0]!r} and {conflicts[0][1]!r})"
            )

    def _check_every_class_has_frames(self) -> None:
        for target, name in enumerate(self.classes):
            if target not in self.targets:
                reasons = Counter(skip.reason for skip in self.skipped if class_folder(skip.path) == name)
                listed = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items())) or "it is empty"
                hint = " (add rows for its files)" if "not-in-csv" in reasons else ""
                raise structure_error(self.root, f"the class folder {name!r} holds no usable frame: {listed}{hint}")

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return (
            f"FrameFolder({self.root.name!r}: {len(self)} frames of {len(self.classes)} classes, "
            f"{len(np.unique(self.groups))} groups, {len(self.skipped)} skipped)"
        )

    @property
    def frames(self) -> LazyFrames:
        """All used frames, decoded when they are indexed."""
        return self.select(np.arange(len(self))).frames

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

    @property
    def _one_group_warnings(self) -> dict[str, str]:
        """The warnings of classes that have one group only, by class."""
        return {
            name: f"class {name!r} has one group only: all its frames are used for training, none for the test"
            for target, name in enumerate(self.classes)
            if len(np.unique(self.groups[self.targets == target])) == 1
        }

    def select(self, rows: Array, split_note: str = "", warnings: tuple[str, ...] = ()) -> FrameSubset:
        """Return some of the frames.

        Parameters
        ----------
        rows : array of int, shape (n,)
            Their rows in `samples`.
        split_note : str, default ""
            How they were chosen.
        warnings : tuple of str, default ()
            Warnings about the choice.

        Returns
        -------
        FrameSubset
        """
        return FrameSubset(
            root=self.root,
            size=self.size,
            classes=self.classes,
            indices=rows,
            paths=[self.samples[row][0] for row in rows],
            targets=self.targets[rows],
            groups=self.groups[rows],
            file_states=[self._scanned[row].state for row in rows],
            split_note=split_note,
            warnings=warnings,
        )

    def split(
        self, train: float = 0.7, val: float = 0.2, test: float = 0.1, seed: int = 0, by: str = "group"
    ) -> tuple[FrameSubset, FrameSubset, FrameSubset]:
        """Return training, validation and test frames.

        Whole groups are divided so that each class comes close to the wanted shares. No part is empty if there are
        enough groups; a class of one group is used for training.

        Parameters
        ----------
        train, val, test : float, default 0.7, 0.2, 0.1
            The shares; they sum to 1.
        seed : int, default 0
            Equal seeds give equal splits.
        by : {"group", "random"}, default "group"
            Whether whole groups stay together. ``"random"`` splits frame by frame: near-duplicates are then on both
            sides, and the accuracies are too high.

        Returns
        -------
        tuple of 3 FrameSubset
            Training, validation, test; ``split_note`` and ``warnings`` of each describe the split.

        Raises
        ------
        ValueError
            If the shares do not sum to 1, or `by` is neither ``"group"`` nor ``"random"``.
        """
        if by not in ("group", "random"):
            raise ValueError(f"FrameFolder.split: expected by='group' or by='random', got by={by!r}")
        shares = ", ".join(f"{100 * share:.0f} % {part}" for part, share in zip(PARTS, (train, val, test), strict=True))
        if by == "group":
            keep = self.groups
            note = (
                f"by group ({self.group_source}), seed {seed}: {shares} of each class, as nearly as whole groups allow"
            )
        else:
            keep = np.arange(len(self))
            note = (
                f"at random, not by group, seed {seed}: {shares} of each class; near-duplicates on both sides make the "
                "accuracies too high"
            )
        parts = assign_parts(self.targets, keep, (train, val, test), seed)
        indices = [np.flatnonzero(parts == part) for part in range(3)]
        expected = [name for name, share in zip(PARTS, (train, val, test), strict=True) if share]
        found = self._split_warnings(dict(zip(PARTS, indices, strict=True)), expected)
        first, second, third = (self.select(rows, note, found) for rows in indices)
        return first, second, third

    def folds(self, k: int, seed: int = 0) -> list[tuple[FrameSubset, FrameSubset]]:
        """Return pairs of training and test frames in which each of k parts is held out once.

        The parts are made of whole groups and stratified by class.

        Parameters
        ----------
        k : int
            The number of folds, at least 2.
        seed : int, default 0
            Equal seeds give equal folds.

        Returns
        -------
        list of k (FrameSubset, FrameSubset)
            Training and test frames of each fold.

        Raises
        ------
        ValueError
            If `k` is below 2.
        DataError
            If there are too few groups or frames for k folds.
        """
        fold_of = assign_folds(self.targets, self.groups, k, seed)
        pairs = []
        for fold in range(k):
            note = f"fold {fold + 1} of {k} by group ({self.group_source}), stratified by class, seed {seed}"
            rows = {"training": np.flatnonzero(fold_of != fold), "test": np.flatnonzero(fold_of == fold)}
            found = self._split_warnings(rows, ["training", "test"])
            pairs.append((self.select(rows["training"], note, found), self.select(rows["test"], note, found)))
        return pairs

    def _split_warnings(self, rows: dict[str, Array], expected: Sequence[str]) -> tuple[str, ...]:
        lacks = [
            (part, name)
            for part in expected
            for target, name in enumerate(self.classes)
            if target not in self.targets[rows[part]]
        ]
        alone = self._one_group_warnings
        found = [
            f"no training frames for class {name!r}"
            if part == "training"
            else alone.get(name, f"no {part} frames for class {name!r}")
            for part, name in lacks
        ]
        others = np.concatenate([rows[part] for part in rows if part != "training"])
        similar = others[np.isin(self._clusters[others], self._clusters[rows["training"]])]
        if len(similar):
            first = self.samples[similar.min()][0]
            parts = " and ".join(part for part in expected if part != "training")
            found.append(
                f"near-duplicates of training frames: {len(similar):,} of {len(others):,} {parts} frames "
                f"(first: {first!r}); their accuracy may be too high"
            )
        return tuple(dict.fromkeys(found))

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
            If a path does not belong to a used frame, or a class has no frame left.
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
        skips = [
            Skip(path, "changed", "it is not the file that was scanned")
            if os.path.exists(self.root / path)
            else Skip(path, "vanished", "it existed when the folder was scanned")
            for path in lost
        ]
        rest.skipped = sorted(self.skipped + skips, key=lambda skip: skip.path)
        rest._check_every_class_has_frames()
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
        if Path(os.path.realpath(path)).is_relative_to(self.root):
            raise DataError(
                f"{os.fspath(path)!r}: expected a file outside {str(self.root)!r}, which is only read; choose another"
            )
        rows = [
            (frame, self.classes[target], group, "used", "", "", " ".join(seen.notes))
            for (frame, target), group, seen in zip(self.samples, self.groups, self._scanned, strict=True)
        ]
        for skip in self.skipped:
            label = class_folder(skip.path) if class_folder(skip.path) in self.class_to_idx else ""
            rows.append((skip.path, label, "", "skipped", skip.reason, skip.detail, ""))
        write_manifest(Path(path), rows)
