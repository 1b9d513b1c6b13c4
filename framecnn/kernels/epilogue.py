"""The epilogue of a convolution, which runs in the same pass: activation, and pooling of 2 x 2 pixels.

With max pooling, arrays named `argmax` hold one byte per pooled value: the index 2 u + v of the maximum in its 2 x 2
block, u the row and v the column.
"""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Ranges

__all__ = [
    "AVERAGE_POOLING",
    "FUSED_ACTIVATIONS",
    "LEAKY_RELU",
    "MAX_POOLING",
    "NO_ACTIVATION",
    "NO_POOLING",
    "RELU",
    "Epilogue",
    "are_pairs",
]

NO_ACTIVATION, RELU, LEAKY_RELU = 0, 1, 2
NO_POOLING, MAX_POOLING, AVERAGE_POOLING = 0, 1, 2

FUSED_ACTIVATIONS = {"linear": NO_ACTIVATION, "relu": RELU, "leaky_relu": LEAKY_RELU}
POOLINGS = {"none": NO_POOLING, "max": MAX_POOLING, "average": AVERAGE_POOLING}


class Epilogue(NamedTuple):
    """The operations after the sums: codes of activation and pooling, and the side of a pooled square in pixels."""

    activation: int = NO_ACTIVATION
    negative_slope: float = 0.0
    pooling: int = NO_POOLING
    side: int = 1

    @classmethod
    def of(cls, activation: str = "linear", negative_slope: float = 0.0, pooling: str = "none") -> "Epilogue":
        """Return the epilogue with an activation and a pooling, ``"max"``, ``"average"`` or ``"none"``, by name."""
        return cls(
            FUSED_ACTIVATIONS[activation], float(negative_slope), POOLINGS[pooling], 1 if pooling == "none" else 2
        )


def are_pairs(windows: Ranges, length: int) -> bool:
    """Return whether windows over `length` pixels are adjacent, non-overlapping pairs."""
    starts, stops, step = windows
    pairs = 2 * np.arange(length // 2)
    return step == 1 and np.array_equal(starts, pairs) and np.array_equal(stops, pairs + 2)
