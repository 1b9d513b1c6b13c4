"""Kernels of Winograd's filtering: which groups are computed as one, and how transformed weights are packed."""

from typing import Any

import numpy as np

from framecnn.kernels.codegen.memory import copy
from framecnn.kernels.codegen.microkernel import filter_block
from framecnn.kernels.codegen.tiles import kernel_tile
from framecnn.kernels.codegen.transforms import transform_index
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["groups_at_once", "merge_groups", "merging_cost", "pack_winograd"]


def groups_at_once(channels: int, filters: int, groups: int, dtype: Any) -> int:
    """Return how many groups of `channels` and `filters` are best computed as one whose other products are zeros."""
    divisors = (merged for merged in range(groups, 0, -1) if groups % merged == 0)
    return min(divisors, key=lambda merged: merging_cost(channels, filters, groups, merged, dtype))


def merging_cost(channels: int, filters: int, groups: int, merged: int, dtype: Any) -> float:
    """Return the cost of a product in multiply-adds if `merged` groups are computed as one, the transforms included.

    Measured: transforming the input costs as much as 10 extra filters, transforming the output as 12 extra channels.
    Blocks of filters and vectors of channels are computed as a whole.
    """
    block, vector, width = filter_block(dtype), lanes(dtype), merged * filters
    padding = -(-channels * groups // vector) * vector / (channels * groups)
    return merged * (-(-width // block) * block / width + 10 / width * padding + 12 / (merged * channels))


def merge_groups(weights: Array, groups: int, merged: int) -> Array:
    """Return a kernel (k, k, c / groups, f) as one of `merged` times fewer groups, with zeros between channels and
    filters that were in different ones."""
    channels, filters = weights.shape[2], weights.shape[3] // groups
    result = np.zeros((*weights.shape[:2], merged, channels, groups // merged, merged, filters), weights.dtype)
    parts = weights.reshape(*weights.shape[:3], groups // merged, merged, filters)
    for index in range(merged):
        result[:, :, index, :, :, index] = parts[:, :, :, :, index]
    return result.reshape(*weights.shape[:2], merged * channels, -1)


def pack_winograd(weights: Array, side: int, groups: int = 1) -> Array:
    """Return a kernel (k, k, c / groups, f) transformed in float64 and packed.

    Shapes: result (groups * blocks, extent**2, c / groups, filter_block).
    """
    if groups > 1:
        return np.concatenate([pack_winograd(part, side) for part in np.split(weights, groups, axis=3)])
    transform, (channels, filters) = transform_index(side, len(weights)), weights.shape[2:]
    taps, block = (side + len(weights) - 1) ** 2, filter_block(weights.dtype)
    packed = np.zeros((-(-filters // block), taps, channels, block), weights.dtype)
    work = filters * taps * len(weights)
    run(pack_winograd_forward, channels, work, packed, np.ascontiguousarray(weights), transform)
    return packed


@kernel
def pack_winograd_forward(packed, weights, transform, start, stop):
    """packed (blocks, extent**2, c, block), zeros on entry, = G g G^T of weights (k, k, c, f), in float64.

    Items are channels.
    """
    blocks, taps, channels, block = packed.shape
    window, filters = weights.shape[0], weights.shape[3]
    g, transformed = np.zeros(window * window * block), np.empty(taps * block)
    rounded = np.empty(taps * block, packed.dtype)
    flat, values = packed.reshape(-1), weights.reshape(-1)
    for k in range(start, stop):
        for b in range(blocks):
            n_valid = min(block, filters - b * block)
            g[:] = 0
            for tap in range(window * window):
                at = (tap * channels + k) * filters + b * block
                for f in range(n_valid):
                    g[tap * block + f] = values[at + f]
            kernel_tile(transform, transformed, 0, block, True, g, 0, g, window * block, block, 0, block)
            rounded[:] = transformed
            for tap in range(taps):
                copy(flat, ((b * taps + tap) * channels + k) * block, rounded, tap * block, n_valid)
