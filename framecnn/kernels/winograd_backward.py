"""The gradient with respect to the kernel by Winograd: ``G^T [sum over tiles (B^T d B) * (A dy A^T)] G``.

Summing over tiles needs fewer products than over pixels, by the same factor as in the forward pass
(:mod:`framecnn.kernels.winograd`). The last transform is done once, in float64.
"""

import numpy as np

from framecnn.geometry import Window
from framecnn.kernels.buffers import empty
from framecnn.kernels.codegen.memory import clear, copy
from framecnn.kernels.codegen.microkernel import PIXELS, accumulate_block, accumulate_narrow, filter_block
from framecnn.kernels.codegen.tiles import gradient_tile, kernel_gradient_tile
from framecnn.kernels.codegen.transforms import transform_index
from framecnn.kernels.conv2d import PackedConv
from framecnn.kernels.gradients import gradient_block, is_narrow, items_of_part
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.kernels.winograd import TilePlan, load_patch, transform_tiles
from framecnn.typing import Array

__all__ = ["winograd_gradients", "winograd_sums", "winograd_sums_shape"]

BACKWARD_TILES = 32  # in a block; 16 to 192 take at most a tenth longer (measured)
EXACT = filter_block(np.float64)


def winograd_sums(x: Array, dy: Array, packed: PackedConv, window: Window, sums: Array, size: int) -> None:
    """Write to `sums` those of the outer products over all tiles, with all threads.

    Shapes: x (n, h, w, c), dy (n, oh, ow, f), sums as :func:`winograd_sums_shape` returns it, of groups of `size`
    frames (:func:`framecnn.kernels.gradients.items_of_part`).
    """
    plan = TilePlan.of(x, packed.algorithm, window, BACKWARD_TILES, sums.shape[-1])
    work = len(x) * plan.down * plan.across / len(sums) * sums[0].size
    run(winograd_backward, len(sums), work, sums, x, dy, plan, is_narrow(sums), size)


def winograd_sums_shape(packed: PackedConv, window: Window, channels: int, parts: int) -> tuple[int, ...]:
    """Return (parts, extent**2, blocks, lines + 1, block); the last line of tap (1, 1) is the sum of dy."""
    block = gradient_block(packed.filters, packed.weights.dtype)
    taps = (packed.algorithm + window.kernel[0] - 1) ** 2
    return parts, taps, -(-packed.filters // block), -(-channels // PIXELS) * PIXELS + 1, block


def winograd_gradients(sums: Array, packed: PackedConv, window: Window, channels: int) -> tuple[Array, Array]:
    """Return the gradients with respect to kernel (k, k, channels, f) and bias (f,) from :func:`winograd_sums`."""
    dkernel = empty((*window.kernel, channels, packed.filters), sums.dtype)
    dbias = empty((packed.filters,), sums.dtype)
    transform = transform_index(packed.algorithm, window.kernel[0])
    middle = packed.algorithm + window.kernel[0]  # tap (1, 1)
    work = sums[:, :, :, 0].size
    run(winograd_gradients_forward, channels + 1, work, (dkernel, dbias), sums, transform, middle)
    return dkernel, dbias


@kernel
def winograd_gradients_forward(outputs, sums, transform, middle, start, stop):
    """Outputs dkernel (k, k, c, f) = G^T m G in float64, and dbias (f,), the last lines of m at the tap `middle`.

    m is the sum of sums (parts, extent**2, blocks, lines + 1, block). Items are channels, and the bias.
    """
    dkernel, dbias = outputs
    parts, taps, blocks, all_lines, block = sums.shape
    window, _, channels, filters = dkernel.shape
    width = max(block, EXACT)
    total, zeros = np.empty((taps, width)), np.zeros(EXACT)
    tile = np.empty(window * window * EXACT)
    rounded = np.empty(tile.size, dkernel.dtype)
    flat, m = dkernel.reshape(-1), total.reshape(-1)
    for k in range(start, min(stop, channels)):
        for b in range(blocks):
            total[:] = 0
            for tap in range(taps):
                for part in range(parts):
                    line = sums[part, tap, b, k]
                    for f in range(block):
                        total[tap, f] += line[f]
            for first in range(0, min(block, filters - b * block), EXACT):
                kernel_gradient_tile(transform, tile, m, first, width, zeros, 0)
                rounded[:] = tile
                at = b * block + first
                for tap in range(window * window):
                    to = (tap * channels + k) * filters + at
                    copy(flat, to, rounded, tap * EXACT, min(EXACT, filters - at))
    if stop > channels:
        for f in range(filters):
            dbias[f] = 0
            for part in range(parts):
                dbias[f] += sums[part, middle, f // block, all_lines - 1, f % block]


@kernel
def transform_gradients(transformed, dy, patch, plan, first, n_tiles):
    """transformed (taps, blocks, block_step) = A dy A^T of `n_tiles` tiles of dy (n, oh, ow, f) from index first on.

    patch (side, side, blocks * block) is scratch, zeros beyond f.
    """
    height, width, filters = dy.shape[1], dy.shape[2], dy.shape[3]
    side, blocks, padded = plan.side, transformed.shape[1], patch.shape[2]
    block, step = padded // blocks, plan.block_step
    flat, values = transformed.reshape(-1), dy.reshape(-1)
    for p in range(n_tiles):
        n, index = (first + p) // (plan.down * plan.across), (first + p) % (plan.down * plan.across)
        top, left = index // plan.across * side, index % plan.across * side
        from_dy = top <= height - side and left <= width - side and padded == filters
        row_step = width * filters if from_dy else side * padded
        if not from_dy:
            load_patch(patch, dy, n, top, left, 0)
        pixel = ((n * height + top) * width + left) * filters
        for b in range(blocks):
            gradient_tile(
                plan.transform, flat, b * step + p * block, blocks * step, from_dy, values, pixel, patch, row_step,
                padded, b * block, block,
            )  # fmt: skip


@kernel
def winograd_backward(sums, x, dy, plan, narrow, size, start, stop):
    """sums (parts, taps, blocks, lines + 1, block) of products of tiles of x and dy; items are parts.

    x (n, h, w, c), dy (n, oh, ow, f); `narrow` if a block is half a register block.
    """
    parts, taps, blocks, all_lines, block = sums.shape
    padded, side, extent = plan.padded_channels, plan.side, plan.extent
    patch = np.zeros((extent, extent, padded), x.dtype)
    gradient_patch = np.zeros((side, side, blocks * block), x.dtype)
    transformed = np.zeros(taps * plan.tap_step, x.dtype)
    gradients = np.zeros((taps, blocks, plan.block_step), x.dtype)
    flat, weights = sums.reshape(-1), gradients.reshape(-1)
    runs = np.zeros(1, np.int64)
    middle = (extent + 1) * blocks  # at tap (1, 1), A dy A^T is the sum of a tile
    for part in range(start, stop):
        clear(flat, part * sums[0].size, sums[0].size)
        begin, end = items_of_part(part, parts, len(x), size, plan.down * plan.across)
        for first in range(begin, end, plan.tiles):
            n_tiles = min(plan.tiles, end - first)
            transform_tiles(transformed, x, patch, plan, first, n_tiles, 0)
            transform_gradients(gradients, dy, gradient_patch, plan, first, n_tiles)
            for index in range(taps * blocks):
                to = (part * taps * blocks + index) * all_lines * block
                for k in range(0, all_lines - 1, PIXELS):
                    if narrow:
                        accumulate_narrow(
                            flat, to + k * block, block, transformed, index // blocks * plan.tap_step + k, padded,
                            runs, n_tiles, weights, index * plan.block_step,
                        )  # fmt: skip
                    else:
                        accumulate_block(
                            flat, to + k * block, block, transformed, index // blocks * plan.tap_step + k, padded,
                            runs, n_tiles, weights, index * plan.block_step,
                        )  # fmt: skip
            for b in range(blocks):
                to = ((part * taps * blocks + middle + b + 1) * all_lines - 1) * block
                for p in range(n_tiles):
                    for f in range(block):
                        flat[to + f] += weights[(middle + b) * plan.block_step + p * block + f]
