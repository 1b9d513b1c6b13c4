"""Numerical code: no classes of layers, no checks of user input; arrays in, arrays out, all threads, fixed bits."""

from framecnn.kernels.conv_backward import conv2d_backward_wrt_input, conv2d_backward_wrt_kernel, pack_backward
from framecnn.kernels.convolution import ALGORITHMS, PackedConv, choose_algorithm, conv2d
from framecnn.kernels.dense import PackedDense, dense
from framecnn.kernels.epilogue import ACTIVATIONS
from framecnn.kernels.filter_bank import PackedBank, filter_bank, filter_bank_average, filter_bank_backward
from framecnn.kernels.pointwise import FUNCTIONS, activate, activate_backward
from framecnn.kernels.pool import pool2d, pool2d_backward

__all__ = [
    "ACTIVATIONS",
    "ALGORITHMS",
    "FUNCTIONS",
    "PackedBank",
    "PackedConv",
    "PackedDense",
    "activate",
    "activate_backward",
    "choose_algorithm",
    "conv2d",
    "conv2d_backward_wrt_input",
    "conv2d_backward_wrt_kernel",
    "dense",
    "filter_bank",
    "filter_bank_average",
    "filter_bank_backward",
    "pack_backward",
    "pool2d",
    "pool2d_backward",
]
