"""Winograd's minimal filtering, F(2x2, 3x3), F(4x4, 3x3) and F(2x2, 5x5): 2.25, 4 and 2.8 times fewer products.

An output tile of ``m x m`` pixels is ``A^T [(G g G^T) * (B^T d B)] A``, d the pixels that it reaches, ``m + 2`` or, for
a kernel of 5 x 5, ``m + 4`` along an axis, g the kernel, summed over channels before A is applied. The sums over
channels are matrix products, a block of tiles at a time, so few that what is transformed stays in the second-level
cache up to about 128 channels.

Error of each value at most ``(c + 20) eps |A^T| [sum_c (|G| |g| |G^T|) * (|B^T| |d| |B|)] |A|``: a sum over c channels,
and the roundings of the four transforms and the bias. Measured on random and adversarial frames of 16 to 128 channels,
relative to the largest value: 8e-7 for F(2x2, 3x3), 1.2e-5 for F(4x4, 3x3), 5e-6 for F(2x2, 5x5), where the direct sum
has 2e-6. What is not finite fills the tiles whose input it is part of.

References
----------
Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from typing import NamedTuple

import numpy as np

from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, filter_block, multiply_block
from framecnn.kernels.threads import run
from framecnn.kernels.tiles import (
    input_tile_4,
    input_tile_6,
    kernel_tile_2_4,
    kernel_tile_2_6,
    kernel_tile_4_6,
    output_tile_2_4,
    output_tile_2_6,
    output_tile_4_6,
    pool_window,
)
from framecnn.kernels.vectors import clear, copy, lanes
from framecnn.typing import Array

__all__ = [
    "LINE",
    "TilePlan",
    "conv2d_winograd",
    "load_patch",
    "pack_winograd",
    "transform_tiles",
]

TILES = 24  # in a block, where there are enough
LINE = 16  # values between the rows of scratch: rows a power of two apart would share few places of the cache
Pair = tuple[int, int]


class TilePlan(NamedTuple):
    """How tiles of ``side x side`` pixels, which reach `reach` of the input, cover the output; `down` and `across`
    count them.
    """

    side: int
    reach: int
    down: int
    across: int
    top: int
    left: int
    tiles: int
    padded_channels: int

    @classmethod
    def of(cls, x: Array, form: Pair, counts: Pair, corner: Pair, tiles: int) -> "TilePlan":
        """Plan for frames x (n, h, w, c) and so many tiles down and across, `tiles` of them in a block; `form` is side
        and reach.
        """
        width = lanes(x.dtype)
        return cls(*form, *counts, *corner, tiles, -(-x.shape[3] // width) * width)


def pack_winograd(weights: Array, side: int) -> Array:
    """Transform a kernel (k, k, c, f) and pack it as (blocks, reach**2, c, filter_block); computed in float64."""
    window, (channels, filters), block = len(weights), weights.shape[2:], filter_block(weights.dtype)
    taps = (side + window - 1) ** 2
    packed = np.zeros((-(-filters // block), taps, channels, block), weights.dtype)
    run(pack_winograd_forward, channels, filters * taps * window, packed, np.ascontiguousarray(weights))
    return packed


@kernel
def pack_winograd_forward(packed, weights, start, stop):
    """packed (blocks, reach**2, c, block), zeros on entry, = G g G^T of weights (k, k, c, f), in float64; items are
    channels.
    """
    blocks, taps, channels, block = packed.shape
    window, filters = weights.shape[0], weights.shape[3]
    g, transformed = np.zeros(window * window * block), np.empty(taps * block)
    rounded = np.empty(taps * block, packed.dtype)
    flat, values = packed.reshape(-1), weights.reshape(-1)
    row_step = window * block
    for k in range(start, stop):
        for b in range(blocks):
            own = min(block, filters - b * block)
            g[:] = 0
            for place in range(window * window):
                at = (place * channels + k) * filters + b * block
                for f in range(own):
                    g[place * block + f] = values[at + f]
            if taps == 16:
                kernel_tile_2_4(transformed, 0, block, True, g, 0, g, row_step, block, 0, block)
            elif window == 3:
                kernel_tile_4_6(transformed, 0, block, True, g, 0, g, row_step, block, 0, block)
            else:
                kernel_tile_2_6(transformed, 0, block, True, g, 0, g, row_step, block, 0, block)
            rounded[:] = transformed
            for tap in range(taps):
                copy(flat, ((b * taps + tap) * channels + k) * block, rounded, tap * block, own)


def conv2d_winograd(
    x: Array,
    packed: Array,
    packed_bias: Array,
    side: int,
    filters: int,
    corner: Pair,
    output: Pair,
    epilogue: Epilogue,
    where: Array | None,
) -> Array:
    """Convolve frames by tiles with all threads.

    Shapes: x (n, h, w, c), packed (blocks, reach**2, c, block), packed_bias (blocks, block), result
    (n, oh, ow, filters), where oh and ow are those of `output`, halved where the epilogue pools; `corner` is the
    border at the top and the left in pixels. `where`, unless it is None, has as many bytes as the result values, and is
    set to the numbers of the largest of what is pooled.
    """
    reach = round(packed.shape[1] ** 0.5)
    down, across = (-(-length // side) for length in output)
    n_tiles = len(x) * down * across
    tiles = TILES if n_tiles >= 16 * TILES else 2 * PIXELS
    plan = TilePlan.of(x, (side, reach), (down, across), corner, tiles)
    y = np.empty((len(x), *(length // epilogue.side for length in output), filters), x.dtype)
    work = tiles * packed.size
    run(winograd_forward, -(-n_tiles // tiles), work, (y, where), x, packed, packed_bias, plan, epilogue)
    return y


@kernel
def load_patch(patch, x, n, top, left, height, width, channels, padded):
    """patch (reach, reach, padded) = the pixels of x (n, h, w, c), both flat, from a corner on, zeros outside."""
    reach = int(np.sqrt(patch.size // padded))
    for u in range(reach):
        for v in range(reach):
            to = (u * reach + v) * padded
            if 0 <= top + u < height and 0 <= left + v < width:
                copy(patch, to, x, ((n * height + top + u) * width + left + v) * channels, channels)
            else:
                clear(patch, to, channels)


@kernel
def transform_tiles(transformed, x, patch, plan, tap_step, first, present):
    """transformed (taps, tap_step) = B^T d B of the tiles of x (n, h, w, c) from number first on."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    side, reach, padded = plan.side, plan.reach, plan.padded_channels
    values = x.reshape(-1)
    for p in range(present):
        n, place = (first + p) // (plan.down * plan.across), (first + p) % (plan.down * plan.across)
        top, left = place // plan.across * side - plan.top, place % plan.across * side - plan.left
        from_x = 0 <= top <= height - reach and 0 <= left <= width - reach and padded == channels
        row_step = width * channels if from_x else reach * padded
        if not from_x:
            load_patch(patch, values, n, top, left, height, width, channels, padded)
        corner = ((n * height + top) * width + left) * channels
        if reach == 6:
            input_tile_6(transformed, p * padded, tap_step, from_x, values, corner, patch, row_step, padded, 0, padded)
        else:
            input_tile_4(transformed, p * padded, tap_step, from_x, values, corner, patch, row_step, padded, 0, padded)


@kernel
def multiply_tiles(products, transformed, weights, silent, runs, plan, steps, b, present):
    """products (taps, product_step) = transformed (taps, tap_step) by block b of weights (blocks, taps, c, block)."""
    _, taps, channels, block = weights.shape
    tap_step, product_step = steps
    padded = plan.padded_channels
    for tap in range(taps):
        for p in range(0, present, PIXELS):
            multiply_block(
                products, tap * product_step + p * block, block, transformed, tap * tap_step + p * padded, padded,
                runs, channels, weights, (b * taps + tap) * channels * block, silent, 0,
            )  # fmt: skip


@kernel
def write_tiles(y, where, products, bias, tile, plan, epilogue, product_step, first, present, b):
    """y (n, oh, ow, f) = A^T m A of products (taps, product_step), activated and pooled, for block b of filters.

    where (size of y,), unless it is None, = the numbers of the largest of what is pooled.
    """
    rows, columns, filters = y.shape[1], y.shape[2], y.shape[3]
    block, side = bias.shape[1], plan.side
    pixels = y.reshape(-1)
    slope = tile.dtype.type(epilogue.slope)
    windows = side // epilogue.side
    own = filters - b * block
    for p in range(present):
        n, place = (first + p) // (plan.down * plan.across), (first + p) % (plan.down * plan.across)
        top, left = place // plan.across * windows, place % plan.across * windows
        if side == 4:
            output_tile_4_6(tile, products, p * block, product_step, bias, b * block)
        elif plan.reach == 6:
            output_tile_2_6(tile, products, p * block, product_step, bias, b * block)
        else:
            output_tile_2_4(tile, products, p * block, product_step, bias, b * block)
        for i in range(min(windows, rows - top)):
            for j in range(min(windows, columns - left)):
                to = ((n * rows + top + i) * columns + left + j) * filters + b * block
                at = (i * side + j) * epilogue.side * block
                pool_window(
                    pixels, where, to, own, tile, at, side * block, block,
                    epilogue.pooling, epilogue.activation, slope,
                )  # fmt: skip


@kernel
def winograd_forward(outputs, x, weights, bias, plan, epilogue, start, stop):
    """y (n, oh, ow, f) and where (size of y,), unless None, from x (n, h, w, c), weights (blocks, taps, c, block),
    bias (blocks, block).

    Items are blocks of plan.tiles tiles, row by row and frame by frame.
    """
    y, where = outputs
    blocks, taps, _, block = weights.shape
    tap_step, product_step = plan.tiles * plan.padded_channels + LINE, plan.tiles * block + LINE
    patch = np.zeros(plan.reach**2 * plan.padded_channels, x.dtype)
    transformed = np.zeros(taps * tap_step, x.dtype)
    products = np.empty(taps * product_step, x.dtype)
    tile = np.empty(plan.side * plan.side * block, x.dtype)
    silent = np.zeros(block, x.dtype)
    runs = np.zeros(1, np.int64)
    for item in range(start, stop):
        first = item * plan.tiles
        present = min(plan.tiles, len(x) * plan.down * plan.across - first)
        transform_tiles(transformed, x, patch, plan, tap_step, first, present)
        for b in range(blocks):
            multiply_tiles(products, transformed, weights, silent, runs, plan, (tap_step, product_step), b, present)
            write_tiles(y, where, products, bias, tile, plan, epilogue, product_step, first, present, b)
