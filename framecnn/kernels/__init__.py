"""Numerical code: no classes of layers, no checks of user input; arrays in, arrays out, all threads, fixed bits."""

from framecnn.kernels.conv_backward import FlippedKernel, Gradients, conv2d_backward
from framecnn.kernels.convolution import ALGORITHMS, PackedConv, algorithms_for, choose_algorithm, conv2d
from framecnn.kernels.dense import PackedDense, dense, dense_backward
from framecnn.kernels.epilogue import ACTIVATIONS, is_square
from framecnn.kernels.filter_bank import PackedBank, filter_bank, filter_bank_average, filter_bank_backward
from framecnn.kernels.pointwise import FUNCTIONS, activate, activate_backward
from framecnn.kernels.pool import pool2d, pool2d_backward

__all__ = [
    "ACTIVATIONS",
    "ALGORITHMS",
    "FUNCTIONS",
    "FlippedKernel",
    "Gradients",
    "PackedBank",
    "PackedConv",
    "PackedDense",
    "activate",
    "activate_backward",
    "algorithms_for",
    "choose_algorithm",
    "conv2d",
    "conv2d_backward",
    "dense",
    "dense_backward",
    "filter_bank",
    "filter_bank_average",
    "filter_bank_backward",
    "is_square",
    "pool2d",
    "pool2d_backward",
]
