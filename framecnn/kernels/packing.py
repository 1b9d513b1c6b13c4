"""Kernels and biases in the order in which register blocks read them."""

import numpy as np

from framecnn.kernels.codegen.memory import copy
from framecnn.kernels.codegen.microkernel import filter_block
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["pack_bias", "pack_conv2d", "pack_filters"]


def pack_filters(kernel: Array) -> Array:
    """Return a kernel with the filters of a register block side by side, the last block filled up with zeros.

    Parameters
    ----------
    kernel : (products, filters) array

    Returns
    -------
    (blocks, products, filter_block) array
    """
    products, filters = kernel.shape
    block = filter_block(kernel.dtype)
    packed = np.zeros((-(-filters // block), products, block), kernel.dtype)
    run(pack_filters_forward, products, filters, packed, np.ascontiguousarray(kernel))
    return packed


@kernel
def pack_filters_forward(packed, kernel, start, stop):
    """packed (blocks, products, block), zeros on entry, from kernel (products, filters); items are products."""
    blocks, products, block = packed.shape
    filters = kernel.shape[1]
    flat, values = packed.reshape(-1), kernel.reshape(-1)
    for item in range(start, stop):
        for b in range(blocks):
            own = min(block, filters - b * block)
            copy(flat, (b * products + item) * block, values, item * filters + b * block, own)


def pack_conv2d(weights: Array, groups: int = 1) -> Array:
    """Return a kernel (kh, kw, c / groups, f) packed as (groups, blocks, kh * kw * c / groups, filter_block)."""
    parts = np.split(weights.reshape(-1, weights.shape[3]), groups, axis=1)
    return np.stack([pack_filters(np.ascontiguousarray(part)) for part in parts])


def pack_bias(bias: Array, groups: int = 1) -> Array:
    """Return a bias (f,) packed as (groups, blocks, filter_block)."""
    return pack_conv2d(bias[None, None, None], groups)[:, :, 0]
