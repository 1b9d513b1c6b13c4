"""Kernels and biases in the order in which register blocks read them."""

import numpy as np

from framecnn.kernels.codegen.memory import copy
from framecnn.kernels.codegen.microkernel import filter_block
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import contiguous, run
from framecnn.typing import Array

__all__ = ["pack_bias", "pack_conv2d", "pack_filters"]


def pack_filters(weights: Array) -> Array:
    """Return weights with the filters of each register block adjacent; zeros fill up the last block.

    Parameters
    ----------
    weights : (products, filters) array

    Returns
    -------
    (blocks, products, filter_block) array
    """
    return _packed(weights, 1)[0]


def _packed(weights: Array, groups: int) -> Array:
    """Return weights (products, filters) packed as (groups, blocks, products, filter_block)."""
    products, filters = weights.shape
    block = filter_block(weights.dtype)
    packed = np.zeros((groups, -(-filters // groups // block), products, block), weights.dtype)
    run(pack_filters_forward, products, filters, packed, contiguous(weights))
    return packed


@kernel
def pack_filters_forward(packed, weights, start, stop):
    """packed (groups, blocks, products, block), zeros on entry, from weights (products, filters).

    Items are products.
    """
    groups, blocks, products, block = packed.shape
    filters = weights.shape[1]
    flat, values = packed.reshape(-1), weights.reshape(-1)
    for item in range(start, stop):
        for index in range(groups * blocks):
            g, b = index // blocks, index % blocks
            n_valid = min(block, filters // groups - b * block)
            at = item * filters + g * (filters // groups) + b * block
            copy(flat, (index * products + item) * block, values, at, n_valid)


def pack_conv2d(weights: Array, groups: int = 1) -> Array:
    """Return a kernel (kh, kw, c / groups, f) packed as (groups, blocks, kh * kw * c / groups, filter_block)."""
    return _packed(weights.reshape(-1, weights.shape[3]), groups)


def pack_bias(bias: Array, groups: int = 1) -> Array:
    """Return a bias (f,) packed as (groups, blocks, filter_block)."""
    return pack_conv2d(bias[None, None, None], groups)[:, :, 0]
