"""Some of the frames of a folder, such as one part of a split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from framecnn.data.decode import FileState
from framecnn.data.loader import LazyFrames
from framecnn.typing import Array

__all__ = ["FrameSubset"]


@dataclass(frozen=True, eq=False)
class FrameSubset:
    """Some frames of a folder, such as one part of a split; ``FrameFolder`` makes them.

    Parameters
    ----------
    root : Path
        The folder.
    size : (int, int)
        Height and width in pixels to which every frame is stretched.
    classes : list of str
        The classes of the folder, also those without a frame here.
    indices : array of int64, shape (n,)
        The rows of these frames among all frames of the folder, ascending.
    paths : list of str, length n
        The path of each frame, relative to the folder.
    targets : array of int64, shape (n,)
        The class number of each frame.
    groups : array of str, shape (n,)
        The group of each frame.
    file_states : sequence of (int, int), length n
        Size in bytes and time of modification in nanoseconds of each file when the folder was scanned.
    split_note : str
        How the folder was split.
    warnings : tuple of str
        Warnings about the split as a whole: classes without test frames, near-duplicates on both sides.
    """

    root: Path
    size: tuple[int, int]
    classes: list[str]
    indices: Array
    paths: list[str]
    targets: Array
    groups: Array
    file_states: Sequence[FileState]
    split_note: str
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        found = f"{len(self)} frames of {len(set(self.targets.tolist()))} of {len(self.classes)} classes"
        return f"FrameSubset({self.root.name!r}: {found}, {len(set(self.groups.tolist()))} groups)"

    @property
    def samples(self) -> list[tuple[str, int]]:
        """The path, relative to the folder, and the class number of each frame."""
        return list(zip(self.paths, self.targets.tolist(), strict=True))

    @property
    def labels(self) -> Array:
        """The name of the class of each frame, shape (n,)."""
        return np.array(self.classes)[self.targets]

    @property
    def files(self) -> list[str]:
        """The path of each frame from the root of the file system."""
        return [str(self.root / path) for path in self.paths]

    @property
    def frames(self) -> LazyFrames:
        """The frames, decoded when they are indexed."""
        return LazyFrames(self.root, self.paths, self.file_states, self.size)
