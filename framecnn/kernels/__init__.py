"""Numerical code: no classes of layers, no checks of user input; arrays in, arrays out, all threads, fixed bits."""

from framecnn.kernels.convolution import ALGORITHMS, PackedConv, choose_algorithm, conv2d
from framecnn.kernels.dense import PackedDense, dense
from framecnn.kernels.epilogue import ACTIVATIONS
from framecnn.kernels.filter_bank import PackedBank, filter_bank, filter_bank_average
from framecnn.kernels.pointwise import FUNCTIONS, activate
from framecnn.kernels.pool import pool2d

__all__ = [
    "ACTIVATIONS",
    "ALGORITHMS",
    "FUNCTIONS",
    "PackedBank",
    "PackedConv",
    "PackedDense",
    "activate",
    "choose_algorithm",
    "conv2d",
    "dense",
    "filter_bank",
    "filter_bank_average",
    "pool2d",
]
