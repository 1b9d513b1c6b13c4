"""One part of a split folder of frames."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from framecnn.data.loader import LazyFrames
from framecnn.typing import Array

if TYPE_CHECKING:
    from framecnn.data.folder import FrameFolder

__all__ = ["FrameSubset"]


@dataclass(frozen=True, eq=False)
class FrameSubset:
    """Some frames of a folder: one part of a split.

    Parameters
    ----------
    folder : FrameFolder
        Where they come from.
    indices : array of int64, shape (n,)
        Their rows in ``folder.samples``, ascending.
    split_note : str
        How the folder was split, in words.
    warnings : tuple of str
        What to know about the split as a whole: classes without test evidence, near-duplicates on both sides.
    """

    folder: "FrameFolder"
    indices: Array
    split_note: str
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def classes(self) -> list[str]:
        """The classes of the folder, whether they occur here or not."""
        return self.folder.classes

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Path, relative to the folder, and class number of each frame."""
        return [self.folder.samples[row] for row in self.indices]

    @property
    def paths(self) -> list[str]:
        """Path of each frame, relative to the folder."""
        return [path for path, _ in self.samples]

    @property
    def targets(self) -> Array:
        """Class number of each frame, int64 of shape (n,)."""
        return self.folder.targets[self.indices]

    @property
    def groups(self) -> Array:
        """Group of each frame, str of shape (n,)."""
        return self.folder.groups[self.indices]

    @property
    def frames(self) -> LazyFrames:
        """The frames, decoded when indexed."""
        signatures = [self.folder._scanned[row].signature for row in self.indices]
        return LazyFrames(self.folder.root, self.paths, signatures, self.folder.size)
