"""Numerical code: no classes of layers, no checks of user input; arrays in, arrays out, all threads, fixed bits."""

from framecnn.kernels.conv import pack_bias
from framecnn.kernels.convolution import ALGORITHMS, PackedConv, choose_algorithm, conv2d
from framecnn.kernels.dense import dense
from framecnn.kernels.epilogue import ACTIVATIONS, Epilogue
from framecnn.kernels.filter_bank import filter_bank, filter_bank_average
from framecnn.kernels.microkernel import pack_filters
from framecnn.kernels.pointwise import FUNCTIONS, activate
from framecnn.kernels.pool import pool2d

__all__ = [
    "ACTIVATIONS",
    "ALGORITHMS",
    "FUNCTIONS",
    "Epilogue",
    "PackedConv",
    "activate",
    "choose_algorithm",
    "conv2d",
    "dense",
    "filter_bank",
    "filter_bank_average",
    "pack_bias",
    "pack_filters",
    "pool2d",
]
