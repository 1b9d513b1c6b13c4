"""Numerical functions on arrays: multithreaded, with the same bits for any number of threads.

Layers and checks of user input live above. ``direct``, ``winograd``, ``dense``, ``filter_bank``, ``pool``,
``resample`` and ``pointwise`` are algorithms, with their gradients beside them; ``conv2d`` chooses among them;
``codegen`` writes the vector instructions of the inner loops; ``reference`` defines most results in plain NumPy.
"""

from framecnn.kernels.batch_norm import batch_moments, batch_norm, batch_norm_backward, moving_averages
from framecnn.kernels.conv2d import (
    ALGORITHMS,
    PackedConv,
    algorithms_for,
    choose_algorithm,
    conv2d,
    conv2d_added,
    fits_strip,
)
from framecnn.kernels.conv2d_backward import conv2d_backward, pack_flipped
from framecnn.kernels.dense import PackedDense, dense, dense_backward
from framecnn.kernels.epilogue import FUSED_ACTIVATIONS, are_pairs
from framecnn.kernels.expansion import expanded_depthwise, is_worth_expanding
from framecnn.kernels.filter_bank import PackedBank, filter_bank, filter_bank_average, filter_bank_backward
from framecnn.kernels.gradients import Gradients
from framecnn.kernels.merge import concatenate, merge, scale
from framecnn.kernels.pointwise import FUNCTIONS, activate, activate_backward
from framecnn.kernels.pool import pool2d, pool2d_backward
from framecnn.kernels.resample import resample2d, resample2d_backward, triangle_taps

__all__ = [
    "ALGORITHMS",
    "FUNCTIONS",
    "FUSED_ACTIVATIONS",
    "Gradients",
    "PackedBank",
    "PackedConv",
    "PackedDense",
    "activate",
    "activate_backward",
    "algorithms_for",
    "are_pairs",
    "batch_moments",
    "batch_norm",
    "batch_norm_backward",
    "choose_algorithm",
    "concatenate",
    "conv2d",
    "conv2d_added",
    "conv2d_backward",
    "dense",
    "dense_backward",
    "expanded_depthwise",
    "filter_bank",
    "filter_bank_average",
    "filter_bank_backward",
    "fits_strip",
    "is_worth_expanding",
    "merge",
    "moving_averages",
    "pack_flipped",
    "pool2d",
    "pool2d_backward",
    "resample2d",
    "resample2d_backward",
    "scale",
    "triangle_taps",
]
