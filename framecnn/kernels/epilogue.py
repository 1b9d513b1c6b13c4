"""What follows the products of a convolution in the same pass: activation, and pooling of 2 x 2 pixels."""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Windows
from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import LEAKY_RELU, NO_ACTIVATION, RELU, pool_window

__all__ = ["ACTIVATIONS", "Epilogue", "is_square", "write_pixel"]

ACTIVATIONS = {"linear": NO_ACTIVATION, "relu": RELU, "leaky_relu": LEAKY_RELU}
POOLINGS = {"none": 0, "max": 1, "average": 2}


class Epilogue(NamedTuple):
    """Numbers, as kernels take them: the activation, its slope, the pooling, and pixels pooled along an axis."""

    activation: int = NO_ACTIVATION
    slope: float = 0.0
    pooling: int = 0
    side: int = 1

    @classmethod
    def of(cls, activation: str = "linear", slope: float = 0.0, pooling: str = "none") -> "Epilogue":
        """Give the epilogue by name; pooling is over 2 x 2 pixels, ``"max"``, ``"average"`` or ``"none"``."""
        return cls(ACTIVATIONS[activation], float(slope), POOLINGS[pooling], 1 if pooling == "none" else 2)


def is_square(windows: Windows, length: int) -> bool:
    """Say whether windows over so many pixels, as :mod:`framecnn.geometry` gives them, are pairs side by side."""
    starts, stops, step = windows
    pairs = 2 * np.arange(length // 2)
    return step == 1 and np.array_equal(starts, pairs) and np.array_equal(stops, pairs + 2)


@kernel
def write_pixel(y, y_at, own, line, tile, tile_at, row_step, epilogue):
    """y[y_at : y_at + own] = the pixel, or the pooled 2 x 2 pixels, at tile_at of a tile (rows, columns, block).

    line (block,) is scratch for blocks that are not whole.
    """
    block = line.size
    if own >= block:
        pool_window(y, y_at, tile, tile_at, row_step, block, epilogue.pooling)
    else:
        pool_window(line, 0, tile, tile_at, row_step, block, epilogue.pooling)
        for f in range(own):
            y[y_at + f] = line[f]
