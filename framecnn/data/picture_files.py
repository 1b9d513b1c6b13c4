"""Picture files as an array of frames, without a scan."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from framecnn.data.decode import SkippedFrame, decode
from framecnn.data.loader import map_ahead
from framecnn.errors import DataError
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array, Shape

__all__ = ["PictureFiles"]


class PictureFiles:
    """Pictures as an array (n, height, width, 3) of uint8; a picture is decoded, in a thread, when it is indexed.

    Parameters
    ----------
    paths : iterable of path
        Files in the formats of :func:`framecnn.data.decode`.
    size : (int, int)
        Height and width of the frames in pixels.

    Raises
    ------
    TypeError
        If `paths` is a single path.
    DataError
        While indexing, if a file cannot be read.
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(self, paths: Iterable[str | os.PathLike[str]], size: tuple[int, int]):
        if isinstance(paths, str | os.PathLike):
            raise TypeError(f"PictureFiles: expected a list of paths, got one path ({str(paths)!r}); pass it in a list")
        self._paths, self._size = list(paths), (size[0], size[1])

    def __repr__(self) -> str:
        return f"PictureFiles(shape={self.shape})"

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def shape(self) -> Shape:
        return (len(self), *self._size, 3)

    def __getitem__(self, rows: Any) -> Array:
        paths = [self._paths[row] for row in np.arange(len(self))[rows]]
        return np.stack(list(map_ahead(self._pixels, paths, get_num_threads(), len(paths))))

    def _pixels(self, path: str | os.PathLike[str]) -> Array:
        try:
            return decode(path, self._size).pixels
        except SkippedFrame as skipped:
            found = f"{os.fspath(path)!r} ({skipped.detail})"
            raise DataError(f"pictures: expected files that can be read, got {found}; leave it out") from skipped
