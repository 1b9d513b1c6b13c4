"""Kernels and biases in the order in which register blocks read them."""

import numpy as np

from framecnn.kernels.codegen.memory import copy
from framecnn.kernels.codegen.microkernel import filter_block
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
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
    products, filters = weights.shape
    block = filter_block(weights.dtype)
    packed = np.zeros((-(-filters // block), products, block), weights.dtype)
    run(pack_filters_forward, products, filters, packed, np.ascontiguousarray(weights))
    return packed


@kernel
def pack_filters_forward(packed, weights, start, stop):
    """packed (blocks, products, block), zeros on entry, from weights (products, filters); items are products."""
    blocks, products, block = packed.shape
    filters = weights.shape[1]
    flat, values = packed.reshape(-1), weights.reshape(-1)
    for item in range(start, stop):
        for b in range(blocks):
            n_valid = min(block, filters - b * block)
            copy(flat, (b * products + item) * block, values, item * filters + b * block, n_valid)


def pack_conv2d(weights: Array, groups: int = 1) -> Array:
    """Return a kernel (kh, kw, c / groups, f) packed as (groups, blocks, kh * kw * c / groups, filter_block)."""
    parts = np.split(weights.reshape(-1, weights.shape[3]), groups, axis=1)
    return np.stack([pack_filters(np.ascontiguousarray(part)) for part in parts])


def pack_bias(bias: Array, groups: int = 1) -> Array:
    """Return a bias (f,) packed as (groups, blocks, filter_block)."""
    return pack_conv2d(bias[None, None, None], groups)[:, :, 0]
