"""Numerical code: no classes of layers, no checks of user input; arrays in, arrays out, all threads, fixed bits."""

from framecnn.kernels.conv import conv2d
from framecnn.kernels.dense import dense
from framecnn.kernels.filter_bank import filter_bank, filter_bank_average
from framecnn.kernels.pointwise import FUNCTIONS, activate
from framecnn.kernels.pool import pool2d

__all__ = ["FUNCTIONS", "activate", "conv2d", "dense", "filter_bank", "filter_bank_average", "pool2d"]
