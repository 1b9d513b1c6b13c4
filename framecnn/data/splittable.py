"""Frames with classes and groups that can be split: into the parts that are given or drawn, or into folds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from framecnn.data.loader import LazyFrames
from framecnn.data.scan import Scanned
from framecnn.data.split import PARTS, assign_folds, assign_parts, check_shares
from framecnn.data.split_check import SplitCheck
from framecnn.data.subset import FrameSubset
from framecnn.errors import DataError
from framecnn.text import listed
from framecnn.typing import Array

__all__ = ["SplittableFrames"]


class SplittableFrames:
    """The frames of a folder, apart from how they are found; ``FrameFolder`` describes the attributes."""

    root: Path
    size: tuple[int, int]
    classes: list[str]
    samples: list[tuple[str, int]]
    targets: Array
    groups: Array
    group_source: str
    parts: Array | None
    part_source: str
    _by_movie: frozenset[str]
    _clusters: Array
    _scanned: list[Scanned]

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def frames(self) -> LazyFrames:
        """All used frames, decoded when they are indexed."""
        return self.select(np.arange(len(self))).frames

    @property
    def labels(self) -> Array:
        """The name of the class of each used frame, shape (n,)."""
        return np.array(self.classes)[self.targets]

    @property
    def given_parts(self) -> list[str]:
        """The parts of a split that the data gives."""
        return [] if self.parts is None else [part for part in PARTS if part in self.parts]

    @property
    def unseen_part(self) -> str:
        """The given part on which a model is evaluated: the test part, else the validation part, else ``""``."""
        return next((part for part in reversed(PARTS[1:]) if part in self.given_parts), "")

    @property
    def unseen(self) -> Array:
        """The rows of the frames on which a model is evaluated: those of `unseen_part`, else all."""
        part = self.unseen_part
        return np.flatnonzero(self.parts == part) if part else np.arange(len(self))

    @property
    def _one_group_warnings(self) -> dict[str, str]:
        """The warnings of classes that have one group only, by class; none if the test part is given."""
        if "test" in self.given_parts:
            return {}
        return self._check.one_group()

    @property
    def _check(self) -> SplitCheck:
        paths = [path for path, _ in self.samples]
        return SplitCheck(self.classes, paths, self.targets, self.groups, self._clusters, self._by_movie)

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

        Parts that the data gives are used as they are; the others are cut from the training part. Whole groups are
        divided so that each class comes close to the wanted shares. No part is empty if there are enough groups; a
        class of one group is used for training.

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
        DataError
            If the data gives parts but none for training, or all parts and `by` is ``"random"``.
        ValueError
            If the shares do not sum to 1, or `by` is neither ``"group"`` nor ``"random"``.
        """
        if by not in ("group", "random"):
            raise ValueError(f"FrameFolder.split: expected by='group' or by='random', got by={by!r}")
        shares = check_shares((train, val, test))
        given = self.given_parts
        if given and PARTS[0] not in given:
            raise DataError(f"FrameFolder.split: expected a training part, got only {listed(given)}; add one")
        drawn = [part for part, share in zip(PARTS, shares, strict=True) if share and part not in given[1:]]
        if by == "random" and given and len(drawn) < 2:
            raise DataError(
                f"FrameFolder.split: expected parts to draw at random (--split random), but all are given "
                f"({self.part_source}); leave the option out, or use parts='none' (--parts none) for folders"
            )
        wanted = np.where([part in drawn for part in PARTS], shares, 0)
        wanted /= wanted.sum()
        kept = self.groups if by == "group" else np.arange(len(self))
        part_of = np.zeros(len(self), np.int64)
        if self.parts is not None:
            part_of = (self.parts[:, None] == np.array(PARTS)).argmax(axis=1)
        pool = np.flatnonzero(part_of == 0)
        part_of[pool] = assign_parts(self.targets[pool], kept[pool], wanted, seed)
        rows = {part: np.flatnonzero(part_of == number) for number, part in enumerate(PARTS)}
        note = self._split_note(by, drawn, wanted, seed)
        expected = {part: own for part, own in rows.items() if part in (*drawn, *given)}
        found = self._check.warnings(expected, bool(given))
        first, second, third = (self.select(own, note, found) for own in rows.values())
        return first, second, third

    def _split_note(self, by: str, drawn: Sequence[str], wanted: Array, seed: int) -> str:
        shares = ", ".join(f"{100 * share:.0f} % {part}" for part, share in zip(PARTS, wanted, strict=True) if share)
        how = (
            f"by group ({self.group_source}), seed {seed}: {shares} of each class, as nearly as whole groups allow"
            if by == "group"
            else f"at random, not by group, seed {seed}: {shares} of each class; near-duplicates on both sides make "
            "the accuracies too high"
        )
        if not self.given_parts:
            return how
        note = f"as given ({self.part_source}): {', '.join(self.given_parts)}"
        return f"{note}; the training part is divided {how}" if len(drawn) > 1 else note

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
        unused = f"; the given parts ({self.part_source}) are not used" if self.given_parts else ""
        pairs = []
        for fold in range(k):
            note = f"fold {fold + 1} of {k} by group ({self.group_source}), stratified by class, seed {seed}{unused}"
            rows = {"training": np.flatnonzero(fold_of != fold), "test": np.flatnonzero(fold_of == fold)}
            found = self._check.warnings(rows)
            pairs.append((self.select(rows["training"], note, found), self.select(rows["test"], note, found)))
        return pairs
