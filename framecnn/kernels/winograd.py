"""Winograd's minimal filtering, F(2x2, 3x3), F(4x4, 3x3) and F(2x2, 5x5): 2.25, 4 and 2.8 times fewer products.

An output tile of ``m x m`` pixels is ``A^T [(G g G^T) * (B^T d B)] A``, summed over channels before A is applied; g is
the kernel and d the pixels on which the tile depends, ``m + 2`` along an axis or, for a kernel of 5 x 5, ``m + 4``. The
sums over channels are matrix products. They process blocks of tiles small enough that transformed tiles stay in the
L2 cache up to about 128 channels.

Error of each value at most ``(c + 20) eps |A^T| [sum_c (|G| |g| |G^T|) * (|B^T| |d| |B|)] |A|``: a sum over c channels,
and the roundings of the four transforms and the bias. Measured on random and adversarial frames of 16 to 128 channels,
relative to the largest value: 8e-7 for F(2x2, 3x3), 1.2e-5 for F(4x4, 3x3), 5e-6 for F(2x2, 5x5), compared with
2e-6 for the direct sum. A NaN or infinity spreads to every output tile that reads it.

References
----------
Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

import math
from typing import NamedTuple

import numpy as np

from framecnn.geometry import Window
from framecnn.kernels.codegen.memory import clear, copy
from framecnn.kernels.codegen.microkernel import PIXELS, filter_block, multiply_block
from framecnn.kernels.codegen.pooling import pool_window
from framecnn.kernels.codegen.tiles import input_tile, kernel_tile, output_tile
from framecnn.kernels.codegen.transforms import TRANSFORMS, transform_index
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.epilogue import Epilogue, residual_or_none
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import read_only, run
from framecnn.typing import Array

__all__ = ["TilePlan", "conv2d_winograd", "load_patch", "pack_winograd", "transform_tiles"]

TILES = 24  # in a block, if there are enough tiles
LINE = 16  # values of padding between scratch rows, since power-of-two strides cause cache conflicts


class TilePlan(NamedTuple):
    """The tiles of ``side x side`` pixels that cover the output; each depends on ``extent x extent`` input pixels.

    `transform` is the index of the transform; `down` x `across` tiles cover a frame; a block has `tiles` tiles. For
    each tap, scratch memory holds `tap_step` transformed inputs and, per block of filters, `block_step` products.
    """

    transform: int
    side: int
    extent: int
    down: int
    across: int
    top: int
    left: int
    tiles: int
    padded_channels: int
    tap_step: int
    block_step: int

    @classmethod
    def of(cls, x: Array, side: int, window: Window, tiles: int, block: int) -> "TilePlan":
        """Return the plan for frames x (n, h, w, c), blocks of `tiles` tiles and blocks of `block` filters."""
        transform = transform_index(side, window.kernel[0])
        down, across = (-(-length // side) for length in window.output)
        width = lanes(x.dtype)
        padded = -(-x.shape[3] // width) * width
        steps = tiles * padded + LINE, tiles * block + LINE
        return cls(transform, side, TRANSFORMS[transform].extent, down, across, *window.top_left, tiles, padded, *steps)


def pack_winograd(weights: Array, side: int) -> Array:
    """Return a kernel (k, k, c, f) transformed in float64 and packed as (blocks, extent**2, c, filter_block)."""
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


def conv2d_winograd(
    x: Array,
    weights: Array,
    bias: Array,
    window: Window,
    y: Array,
    epilogue: Epilogue,
    argmax: Array | None,
    residual: Array | None = None,
) -> None:
    """Write the convolution of frames to y by the tiles for which the weights are packed, with all threads.

    Shapes: y (n, oh, ow, filters), oh and ow as in the window's output, halved if the epilogue pools;
    x (n, h, w, c), weights (blocks, extent**2, c, block), bias (blocks, block), residual as y. `argmax`
    (size of y,), if not None, receives the indices of the maxima, as :mod:`framecnn.kernels.epilogue` defines them.
    """
    side = math.isqrt(weights.shape[1]) - window.kernel[0] + 1
    n_tiles = len(x) * -(-window.output[0] // side) * -(-window.output[1] // side)
    tiles = TILES if n_tiles >= 16 * TILES else 2 * PIXELS
    plan = TilePlan.of(x, side, window, tiles, weights.shape[3])
    inputs = (read_only(x), residual_or_none(residual, x.dtype))
    items = -(-n_tiles // tiles)
    run(winograd_forward, items, tiles * weights.size, (y, argmax), inputs, weights, bias, plan, epilogue)


@kernel
def load_patch(patch, x, n, top, left):
    """patch (side, side, padded) = pixels of x (n, h, w, c) from (top, left) on, zeros outside; padded >= c."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    side, padded = patch.shape[1], patch.shape[2]
    flat, values = patch.reshape(-1), x.reshape(-1)
    for u in range(side):
        for v in range(side):
            to = (u * side + v) * padded
            if 0 <= top + u < height and 0 <= left + v < width:
                copy(flat, to, values, ((n * height + top + u) * width + left + v) * channels, channels)
            else:
                clear(flat, to, channels)


@kernel
def transform_tiles(transformed, x, patch, plan, first, n_tiles):
    """transformed (taps, tap_step), flat, = B^T d B of `n_tiles` tiles of x (n, h, w, c) from index first on.

    patch (extent, extent, padded_channels) is scratch, zeros beyond c.
    """
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    side, extent, padded = plan.side, plan.extent, plan.padded_channels
    values = x.reshape(-1)
    for p in range(n_tiles):
        n, index = (first + p) // (plan.down * plan.across), (first + p) % (plan.down * plan.across)
        top, left = index // plan.across * side - plan.top, index % plan.across * side - plan.left
        from_x = 0 <= top <= height - extent and 0 <= left <= width - extent and padded == channels
        row_step = width * channels if from_x else extent * padded
        if not from_x:
            load_patch(patch, x, n, top, left)
        pixel = ((n * height + top) * width + left) * channels
        input_tile(
            plan.transform, transformed, p * padded, plan.tap_step, from_x, values, pixel, patch, row_step, padded,
            0, padded,
        )  # fmt: skip


@kernel
def multiply_tiles(products, transformed, zeros, runs, weights, plan, b, n_tiles):
    """products (taps, block_step) = transformed (taps, tap_step), both flat, by block b of weights.

    weights (blocks, taps, c, block); zeros (block,) stand for the bias, and runs (1,) holds 0.
    """
    _, taps, channels, block = weights.shape
    padded = plan.padded_channels
    for tap in range(taps):
        for p in range(0, n_tiles, PIXELS):
            multiply_block(
                products, tap * plan.block_step + p * block, block, transformed, tap * plan.tap_step + p * padded,
                padded, runs, channels, weights, (b * taps + tap) * channels * block, zeros, 0,
            )  # fmt: skip


@kernel
def write_tiles(outputs, inputs, bias, tile, plan, epilogue, b, tiles):
    """Outputs y (n, oh, ow, f) = A^T m A of products (taps, block_step), activated and pooled, for block b of filters.

    Inputs are the products and a residual (size of y,) or (0,). The other output, argmax (size of y,), if not None, =
    the indices of the maxima; tile (side**2 * block,) is scratch; `tiles` is (first tile, count).
    """
    y, argmax = outputs
    products, residual = inputs
    first, n_tiles = tiles
    rows, columns, filters = y.shape[1], y.shape[2], y.shape[3]
    block, side = bias.shape[1], plan.side
    pixels = y.reshape(-1)
    negative_slope = tile.dtype.type(epilogue.negative_slope)
    windows = side // epilogue.side
    n_valid = filters - b * block
    for p in range(n_tiles):
        n, index = (first + p) // (plan.down * plan.across), (first + p) % (plan.down * plan.across)
        top, left = index // plan.across * windows, index % plan.across * windows
        output_tile(plan.transform, tile, products, p * block, plan.block_step, bias, b * block)
        for i in range(min(windows, rows - top)):
            for j in range(min(windows, columns - left)):
                to = ((n * rows + top + i) * columns + left + j) * filters + b * block
                at = (i * side + j) * epilogue.side * block
                pool_window(
                    pixels, argmax, residual, to, n_valid, tile, at, side * block, block,
                    epilogue.pooling, epilogue.activation, negative_slope,
                )  # fmt: skip


@kernel
def winograd_forward(outputs, inputs, weights, bias, plan, epilogue, start, stop):
    """Outputs y (n, oh, ow, f) and argmax (size of y,) or None, from x (n, h, w, c) and residual (size of y,) or (0,).

    weights (blocks, taps, c, block), bias (blocks, block). Items are blocks of plan.tiles tiles, row by row and frame
    by frame.
    """
    x, residual = inputs
    blocks, taps, _, block = weights.shape
    patch = np.zeros((plan.extent, plan.extent, plan.padded_channels), x.dtype)
    transformed = np.zeros(taps * plan.tap_step, x.dtype)
    products = np.empty(taps * plan.block_step, x.dtype)
    tile = np.empty(plan.side * plan.side * block, x.dtype)
    zeros, runs = np.zeros(block, x.dtype), np.zeros(1, np.int64)
    for item in range(start, stop):
        first = item * plan.tiles
        n_tiles = min(plan.tiles, len(x) * plan.down * plan.across - first)
        transform_tiles(transformed, x, patch, plan, first, n_tiles)
        for b in range(blocks):
            multiply_tiles(products, transformed, zeros, runs, weights, plan, b, n_tiles)
            write_tiles(outputs, (products, residual), bias, tile, plan, epilogue, b, (first, n_tiles))
