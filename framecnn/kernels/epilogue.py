"""The epilogue of a convolution, which runs in the same pass: residual, activation, and pooling of 2 x 2 pixels.

A residual is an array of the shape of the output that is added before the activation; passes that pool have none.
Without one, kernels receive an empty array.

With max pooling, arrays named `argmax` hold one byte per pooled value: the index 2 u + v of the maximum in its 2 x 2
block, u the row and v the column.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from framecnn.geometry import Ranges
from framecnn.kernels.threads import read_only
from framecnn.typing import Array

__all__ = [
    "AVERAGE_POOLING",
    "FUSED_ACTIVATIONS",
    "HARD_SIGMOID",
    "HARD_SWISH",
    "LEAKY_RELU",
    "MAX_POOLING",
    "NO_ACTIVATION",
    "NO_POOLING",
    "PIECEWISE",
    "RELU",
    "RELU6",
    "Epilogue",
    "are_pairs",
    "residual_or_none",
]

NO_ACTIVATION, RELU, LEAKY_RELU, RELU6, HARD_SIGMOID, HARD_SWISH = range(6)
NO_POOLING, MAX_POOLING, AVERAGE_POOLING = 0, 1, 2

PIECEWISE = {"linear": NO_ACTIVATION, "relu": RELU, "leaky_relu": LEAKY_RELU, "relu6": RELU6}
"""Linear in pieces that begin at 0 and end at 6: the activations that are applied before 2 x 2 pooling too."""

FUSED_ACTIVATIONS = PIECEWISE | {"hard_sigmoid": HARD_SIGMOID, "hard_swish": HARD_SWISH}
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


def residual_or_none(residual: Array | None, dtype: np.dtype) -> Array:
    """Return the values of a residual in one row; an empty array stands for none."""
    return _no_values(dtype) if residual is None else read_only(np.ascontiguousarray(residual).reshape(-1))


@cache
def _no_values(dtype: np.dtype) -> Array:
    return read_only(np.empty(0, dtype))


def are_pairs(windows: Ranges, length: int) -> bool:
    """Return whether windows over `length` pixels are adjacent, non-overlapping pairs."""
    starts, stops, step = windows
    pairs = 2 * np.arange(length // 2)
    return step == 1 and np.array_equal(starts, pairs) and np.array_equal(stops, pairs + 2)
