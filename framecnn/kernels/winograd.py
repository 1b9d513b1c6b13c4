"""Winograd's minimal filtering, F(2x2, 3x3), F(4x4, 3x3) and F(2x2, 5x5): 2.25, 4 and 2.8 times fewer products.

An output tile of ``m x m`` pixels is ``A^T [(G g G^T) * (B^T d B)] A``, summed over channels before A is applied; g is
the kernel and d the pixels on which the tile depends, ``m + 2`` along an axis or, for a kernel of 5 x 5, ``m + 4``. The
sums over channels are matrix products. They process blocks of tiles small enough that transformed tiles stay in the
L2 cache up to about 128 channels. Weights that are too large to be read again for every block are read once for many
tiles: these are all transformed, then all multiplied, then all transformed back.

Error of each value at most ``(c + 20) eps |A^T| [sum_c (|G| |g| |G^T|) * (|B^T| |d| |B|)] |A|``: a sum over c channels,
and the roundings of the four transforms and the bias. Measured on random and adversarial frames of 16 to 128 channels,
relative to the largest value: 8e-7 for F(2x2, 3x3), 1.2e-5 for F(4x4, 3x3), 5e-6 for F(2x2, 5x5), compared with
2e-6 for the direct sum. A NaN or infinity spreads to every output tile that reads it, also to that of other groups.

References
----------
Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

import math
from typing import NamedTuple

import numpy as np

from framecnn.geometry import Window
from framecnn.kernels.buffers import empty, reused_memory
from framecnn.kernels.codegen.memory import clear, copy
from framecnn.kernels.codegen.microkernel import PIXELS, multiply_block
from framecnn.kernels.codegen.pooling import pool_window
from framecnn.kernels.codegen.tiles import input_tile, output_tile
from framecnn.kernels.codegen.transforms import TRANSFORMS, transform_index
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.epilogue import Epilogue, residual_or_none
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import read_only, run
from framecnn.typing import Array

__all__ = ["TilePlan", "conv2d_winograd", "load_patch", "transform_tiles"]

TILES = 24  # in a block, if there are enough tiles
SPAN = 64  # channels, in groups, whose transformed tiles stay in cache until they are multiplied
LARGE_WEIGHTS = 4 * 1024 * 1024  # bytes; larger ones are read once for many tiles instead of once for a block
STAGE_VALUES = 2 * 1024 * 1024  # transformed inputs and products between the steps of many tiles, in the L3 cache
INPUT_WORK, OUTPUT_WORK = 10, 12  # multiply-adds that take as long as transforming a value
LINE = 16  # values of padding between scratch rows, since power-of-two strides cause cache conflicts


class TilePlan(NamedTuple):
    """The tiles of ``side x side`` pixels that cover the output; each depends on ``extent x extent`` input pixels.

    `transform` is the index of the transform; `down` x `across` tiles cover a frame; a block has `tiles` tiles. For
    each tap, scratch memory holds `tap_step` transformed inputs and, per block of filters, `block_step` products. The
    channels of `span` of all `groups` are transformed at a time.
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
    groups: int
    span: int

    @classmethod
    def of(
        cls, x: Array, side: int, window: Window, tiles: int, block: int, groups: int = 1, span: int = 0
    ) -> "TilePlan":
        """Return the plan for frames x (n, h, w, c), blocks of `tiles` tiles and blocks of `block` filters."""
        transform = transform_index(side, window.kernel[0])
        down, across = (-(-length // side) for length in window.output)
        width = lanes(x.dtype)
        span = span or _span(x.shape[3] // groups, groups, width)
        padded = -(-x.shape[3] // groups * span // width) * width
        steps = tiles * padded + LINE, tiles * block + LINE
        extent, (top, left) = TRANSFORMS[transform].extent, window.top_left
        return cls(transform, side, extent, down, across, top, left, tiles, padded, *steps, groups, span)


def _span(channels: int, groups: int, width: int) -> int:
    """Return the fewest groups of `channels` with whole vectors of `width` and SPAN channels; all if there are none."""
    spans = (span for span in range(1, groups) if groups % span == 0)
    return next((span for span in spans if span * channels % width == 0 and span * channels >= SPAN), groups)


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
    x (n, h, w, c), weights (groups * blocks, extent**2, c / groups, block), bias (groups * blocks, block), residual as
    y. `argmax`
    (size of y,), if not None, receives the indices of the maxima, as :mod:`framecnn.kernels.epilogue` defines them.
    """
    side, groups = math.isqrt(weights.shape[1]) - window.kernel[0] + 1, x.shape[3] // weights.shape[2]
    n_tiles = len(x) * -(-window.output[0] // side) * -(-window.output[1] // side)
    outputs, inputs = (y, argmax), (read_only(x), residual_or_none(residual, x.dtype))
    if weights.nbytes > LARGE_WEIGHTS:
        _step_by_step(outputs, inputs, weights, bias, window, side, n_tiles, epilogue)
        return
    tiles = TILES if n_tiles >= 16 * TILES else 2 * PIXELS
    plan = TilePlan.of(x, side, window, tiles, weights.shape[3], groups)
    items = -(-n_tiles // tiles)
    run(winograd_forward, items, tiles * weights.size, outputs, inputs, weights, bias, plan, epilogue)


def _step_by_step(
    outputs: tuple[Array, Array | None],
    inputs: tuple[Array, Array],
    weights: Array,
    bias: Array,
    window: Window,
    side: int,
    n_tiles: int,
    epilogue: Epilogue,
) -> None:
    """Write the outputs of :func:`winograd_forward`, bit for bit, by its three steps over many tiles."""
    x, residual = inputs
    blocks, taps, channels, block = weights.shape
    groups = x.shape[3] // channels
    fitting = STAGE_VALUES // (taps * (x.shape[3] + blocks * block))
    rounds = max(-(-n_tiles // max(fitting, PIXELS)), 1)
    tiles = max(-(-n_tiles // (rounds * PIXELS)), 1) * PIXELS
    plan = TilePlan.of(x, side, window, tiles, block, groups, span=groups)
    with reused_memory():
        transformed = empty((taps * plan.tap_step,), x.dtype)
        products = empty((blocks * taps * plan.block_step,), x.dtype)
        for first in range(0, n_tiles, tiles):
            count = min(tiles, n_tiles - first)
            run(transform_forward, count, INPUT_WORK * taps * x.shape[3], transformed, x, plan, first)
            work = count * channels * block
            run(multiply_forward, taps * blocks, work, products, transformed, weights, plan, count)
            items, work = -(-count // PIXELS) * blocks, OUTPUT_WORK * PIXELS * taps * block
            step = (products, residual)
            run(write_forward, items, work, outputs, step, bias, plan, epilogue, (first, count))


@kernel
def load_patch(patch, x, n, top, left, first):
    """patch (side, side, padded) = pixels of x (n, h, w, c) from (top, left) on and channels from `first` on.

    Zeros outside the frame; beyond c, nothing is written.
    """
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    side, padded = patch.shape[1], patch.shape[2]
    flat, values = patch.reshape(-1), x.reshape(-1)
    copied = min(padded, channels - first)
    begin, end = max(-left, 0), min(side, width - left)
    for u in range(side):
        if copied == padded == channels and 0 <= top + u < height and begin < end:
            to = u * side * padded
            clear(flat, to, begin * padded)
            at = ((n * height + top + u) * width + left + begin) * channels
            copy(flat, to + begin * padded, values, at, (end - begin) * padded)
            clear(flat, to + end * padded, (side - end) * padded)
            continue
        for v in range(side):
            to = (u * side + v) * padded
            if 0 <= top + u < height and 0 <= left + v < width:
                copy(flat, to, values, ((n * height + top + u) * width + left + v) * channels + first, copied)
            else:
                clear(flat, to, copied)


@kernel
def transform_tiles(transformed, x, patch, plan, first, n_tiles, channel):
    """transformed (taps, tap_step), flat, = B^T d B of `n_tiles` tiles of x (n, h, w, c) from index first on.

    Channels from `channel` on, plan.padded_channels of them.

    patch (extent, extent, padded_channels) is scratch, zeros beyond c.
    """
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    side, extent, padded = plan.side, plan.extent, plan.padded_channels
    values = x.reshape(-1)
    for p in range(n_tiles):
        n, index = (first + p) // (plan.down * plan.across), (first + p) % (plan.down * plan.across)
        top, left = index // plan.across * side - plan.top, index % plan.across * side - plan.left
        from_x = 0 <= top <= height - extent and 0 <= left <= width - extent and channels % padded == 0
        row_step, column_step = (width * channels, channels) if from_x else (extent * padded, padded)
        if not from_x:
            load_patch(patch, x, n, top, left, channel)
        pixel = ((n * height + top) * width + left) * channels + channel
        input_tile(
            plan.transform, transformed, p * padded, plan.tap_step, from_x, values, pixel, patch, row_step,
            column_step, 0, padded,
        )  # fmt: skip


@kernel
def multiply_tiles(products, transformed, zeros, runs, weights, plan, b, n_tiles):
    """products (taps, block_step) = transformed (taps, tap_step), both flat, by block b of weights.

    weights (groups * blocks, taps, c / groups, block); zeros (block,) stand for the bias, and runs (1,) holds 0.
    """
    blocks, taps, channels, block = weights.shape
    padded, first = plan.padded_channels, b // (blocks // plan.groups) % plan.span * channels
    for tap in range(taps):
        for p in range(0, n_tiles, PIXELS):
            multiply_block(
                products, tap * plan.block_step + p * block, block, transformed,
                tap * plan.tap_step + p * padded + first, padded, runs, channels,
                weights, (b * taps + tap) * channels * block, zeros, 0,
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
    blocks, group_filters = len(bias) // plan.groups, filters // plan.groups
    at_filter = b // blocks * group_filters + b % blocks * block
    n_valid = group_filters - b % blocks * block
    for p in range(n_tiles):
        n, index = (first + p) // (plan.down * plan.across), (first + p) % (plan.down * plan.across)
        top, left = index // plan.across * windows, index % plan.across * windows
        output_tile(plan.transform, tile, products, p * block, plan.block_step, bias, b * block)
        for i in range(min(windows, rows - top)):
            for j in range(min(windows, columns - left)):
                to = ((n * rows + top + i) * columns + left + j) * filters + at_filter
                at = (i * side + j) * epilogue.side * block
                pool_window(
                    pixels, argmax, residual, to, n_valid, tile, at, side * block, block,
                    epilogue.pooling, epilogue.activation, negative_slope,
                )  # fmt: skip


@kernel
def winograd_forward(outputs, inputs, weights, bias, plan, epilogue, start, stop):
    """Outputs y (n, oh, ow, f) and argmax (size of y,) or None, from x (n, h, w, c) and residual (size of y,) or (0,).

    weights (groups * blocks, taps, c / groups, block), bias (groups * blocks, block). Items are blocks of plan.tiles
    tiles, row by row and frame by frame.
    """
    x, residual = inputs
    blocks, taps, channels, block = weights.shape
    patch = np.zeros((plan.extent, plan.extent, plan.padded_channels), x.dtype)
    transformed = np.zeros(taps * plan.tap_step, x.dtype)
    products = np.empty(taps * plan.block_step, x.dtype)
    tile = np.empty(plan.side * plan.side * block, x.dtype)
    zeros, runs = np.zeros(block, x.dtype), np.zeros(1, np.int64)
    for item in range(start, stop):
        first = item * plan.tiles
        n_tiles = min(plan.tiles, len(x) * plan.down * plan.across - first)
        for b in range(blocks):
            if b % (blocks // plan.groups * plan.span) == 0:
                channel = b // (blocks // plan.groups) * channels
                transform_tiles(transformed, x, patch, plan, first, n_tiles, channel)
            multiply_tiles(products, transformed, zeros, runs, weights, plan, b, n_tiles)
            write_tiles(outputs, (products, residual), bias, tile, plan, epilogue, b, (first, n_tiles))


@kernel
def transform_forward(transformed, x, plan, first, start, stop):
    """transformed (taps * tap_step,) = B^T d B of tiles of x (n, h, w, c); items are tiles, counted from `first` on."""
    patch = np.zeros((plan.extent, plan.extent, plan.padded_channels), x.dtype)
    rest = transformed[start * plan.padded_channels :]
    transform_tiles(rest, x, patch, plan, first + start, stop - start, 0)


@kernel
def multiply_forward(products, transformed, weights, plan, n_tiles, start, stop):
    """products (blocks * taps * block_step,) = transformed (taps * tap_step,) of `n_tiles` tiles, by weights.

    weights (blocks, taps, c / groups, block). Items are the blocks of the first tap, then those of the next.
    """
    blocks, taps, channels, block = weights.shape
    zeros, runs = np.zeros(block, weights.dtype), np.zeros(1, np.int64)
    for item in range(start, stop):
        tap, b = item // blocks, item % blocks
        source = tap * plan.tap_step + b // (blocks // plan.groups) * channels
        at = b * taps + tap
        for p in range(0, n_tiles, PIXELS):
            multiply_block(
                products, at * plan.block_step + p * block, block, transformed, source + p * plan.padded_channels,
                plan.padded_channels, runs, channels, weights, at * channels * block, zeros, 0,
            )  # fmt: skip


@kernel
def write_forward(outputs, inputs, bias, plan, epilogue, tiles, start, stop):
    """Outputs as of write_tiles from inputs: products (blocks * taps * block_step,) and a residual.

    `tiles` is (first tile, count). Items are the blocks of filters of PIXELS tiles, then those of the next.
    """
    products, residual = inputs
    first, n_tiles = tiles
    blocks, block = bias.shape
    tile = np.empty(plan.side * plan.side * block, products.dtype)
    for item in range(start, stop):
        p, b = item // blocks * PIXELS, item % blocks
        rest = products[b * plan.extent * plan.extent * plan.block_step + p * block :]
        write_tiles(outputs, (rest, residual), bias, tile, plan, epilogue, b, (first + p, min(PIXELS, n_tiles - p)))
