"""Table of Winograd's transforms, by size of output tile and kernel.

References
----------
Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["TRANSFORMS", "Matrix", "Transform", "transform_index"]

Matrix = Sequence[Sequence[float]]


class Transform(NamedTuple):
    """The matrices of F(tile x tile, window x window) in the paper's notation: B^T, G and A^T."""

    tile: int
    window: int
    input: Matrix
    kernel: Matrix
    output: Matrix

    @property
    def extent(self) -> int:
        """Pixels of the input, along an axis, on which a tile depends."""
        return self.tile + self.window - 1


_INPUT_4 = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1))
_INPUT_6 = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)

TRANSFORMS = (
    Transform(
        tile=2,
        window=3,
        input=_INPUT_4,
        kernel=((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
        output=((1, 1, 1, 0), (0, 1, -1, 1)),
    ),
    Transform(
        tile=4,
        window=3,
        input=_INPUT_6,
        kernel=(
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        output=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
    ),
    Transform(
        tile=2,
        window=5,
        input=_INPUT_6,
        kernel=(
            (1 / 4, 0, 0, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6, 1 / 3, 2 / 3),
            (1 / 24, -1 / 12, 1 / 6, -1 / 3, 2 / 3),
            (0, 0, 0, 0, 1),
        ),
        output=((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 1)),
    ),
)


def transform_index(tile: int, window: int) -> int:
    """Return the index of the transform with this tile and kernel size.

    Examples
    --------
    >>> transform_index(4, 3)
    1
    """
    return [(transform.tile, transform.window) for transform in TRANSFORMS].index((tile, window))
