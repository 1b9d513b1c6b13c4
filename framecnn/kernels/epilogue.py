"""The epilogue of a convolution, which runs in the same pass: activation, and pooling of 2 x 2 pixels."""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Ranges
from framecnn.kernels.codegen.vectors import LEAKY_RELU, NO_ACTIVATION, RELU

__all__ = ["ACTIVATIONS", "Epilogue", "is_square"]

ACTIVATIONS = {"linear": NO_ACTIVATION, "relu": RELU, "leaky_relu": LEAKY_RELU}
POOLINGS = {"none": 0, "max": 1, "average": 2}


class Epilogue(NamedTuple):
    """The codes of activation and pooling that kernels take, the slope, and the pixels pooled along an axis."""

    activation: int = NO_ACTIVATION
    slope: float = 0.0
    pooling: int = 0
    side: int = 1

    @classmethod
    def of(cls, activation: str = "linear", slope: float = 0.0, pooling: str = "none") -> "Epilogue":
        """Return the epilogue by name; pooling is over 2 x 2 pixels, ``"max"``, ``"average"`` or ``"none"``."""
        return cls(ACTIVATIONS[activation], float(slope), POOLINGS[pooling], 1 if pooling == "none" else 2)


def is_square(windows: Ranges, length: int) -> bool:
    """Return whether windows over `length` pixels, as :mod:`framecnn.geometry` defines them, are pairs side by side."""
    starts, stops, step = windows
    pairs = 2 * np.arange(length // 2)
    return step == 1 and np.array_equal(starts, pairs) and np.array_equal(stops, pairs + 2)
