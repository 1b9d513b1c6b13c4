"""Gradients of convolutions: with respect to the input a convolution, with respect to the kernel outer products."""

from typing import Any, NamedTuple

import numpy as np

from framecnn.kernels.conv import RowPlan, load_rows
from framecnn.kernels.convolution import PackedConv, conv2d
from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import FEW, PIXELS, accumulate_block, accumulate_few, add_blocks
from framecnn.kernels.pool import unpool2d
from framecnn.kernels.threads import ordered_map, run
from framecnn.kernels.tiles import pool_window, unpool_window
from framecnn.kernels.vectors import clear, copy, lanes
from framecnn.kernels.winograd_backward import winograd_gradients, winograd_sums, winograd_sums_shape
from framecnn.typing import Array

__all__ = ["FlippedKernel", "Gradients", "conv2d_backward", "conv2d_backward_wrt_input"]

PART_WORK = 40_000_000  # multiply-adds whose sums of products are worth a part of their own
FEWEST_PARTS, MOST_PARTS = 4, 8  # of frames and of their sums, which are kept apart, to be added up in order
PART_BYTES = 4 * 1024 * 1024  # of gradients that are computed, used and forgotten: they stay in the last-level cache
PACKED_BYTES = 128 * 1024  # of gradients that wait for all products of a block: a quarter of a second-level cache
NOWHERE = np.empty((0, 0, 0, 0), np.uint8)
Pair = tuple[int, int]


class Gradients(NamedTuple):
    """Gradients of a map (n, oh, ow, f); where y is given, of what was activated and then pooled to y.

    Shapes: dy, y, where (n, oh, ow, f) of the pooled; `where` has the numbers 2 u + v of the largest of 2 x 2 pixels.
    Where y is not positive, the activation multiplied by `slope`.
    """

    dy: Array
    y: Array = NOWHERE
    where: Array = NOWHERE
    slope: float = 1.0

    def of(self, frames: slice) -> "Gradients":
        """Return those of some frames."""
        return Gradients(self.dy[frames], self.y[frames], self.where[frames], self.slope)

    def spread(self, output: Pair) -> Array:
        """Return the map."""
        return unpool2d(*self, output) if self.where.size else self.dy


class FlippedKernel(NamedTuple):
    """A kernel turned around, its channels the filters, and the border that goes with it."""

    packed: PackedConv
    corner: Pair

    @classmethod
    def of(cls, algorithm: str, kernel: Array, dilation: Pair, groups: int, corner: Pair) -> "FlippedKernel":
        """Turn a kernel (kh, kw, c / groups, f); `corner` is the border of the convolution at the top and the left."""
        parts = [part.swapaxes(2, 3) for part in np.split(kernel[::-1, ::-1], groups, axis=3)]
        turned = np.ascontiguousarray(np.concatenate(parts, axis=3))
        top, left = (d * (k - 1) - before for d, k, before in zip(dilation, kernel.shape[:2], corner, strict=True))
        return cls(PackedConv.of(algorithm, turned, None, (1, 1), dilation, groups), (top, left))


def conv2d_backward(
    x: Array,
    gradients: Gradients,
    packed: PackedConv,
    turned: FlippedKernel | None,
    corner: Pair,
    output: Pair,
) -> tuple[Any, Array, Array]:
    """Return the gradients with respect to x, kernel and bias; that of x only where the turned kernel is there.

    :func:`framecnn.kernels.reference.conv2d_backward` is the definition. Frames are taken in parts, so that the map of
    gradients, where pooling has to be undone, is never there as a whole. Parts and sums follow from shapes alone, so
    the bits do not depend on the number of threads.

    Shapes: x (n, h, w, c), gradients of (n, oh, ow, f), results as x, (kh, kw, c / groups, f) and (f,); `corner` is the
    border at the top and the left, `output` the size of the map, in pixels.
    """
    n, channels, filters = len(x), x.shape[3], packed.filters
    frame_bytes = output[0] * output[1] * filters * x.itemsize
    size = max(-(-n // MOST_PARTS), min(PART_BYTES // frame_bytes, -(-n // FEWEST_PARTS)), 1)
    slices = [slice(start, start + size) for start in range(0, max(n, 1), size)]
    work = size * output[0] * output[1] * packed.window[0] * packed.window[1] * (channels // packed.groups) * filters
    parts = min(max(work // PART_WORK, 1), max(MOST_PARTS // len(slices), 1))
    shape_of, finish = (
        (winograd_sums_shape, winograd_gradients) if packed.algorithm else (direct_sums_shape, direct_gradients)
    )
    sums = np.zeros(shape_of(packed, channels // packed.groups, parts * len(slices)), x.dtype)
    dx: Any = None if turned is None else np.empty_like(x)

    def backward(number: int) -> None:
        frames, own = slices[number], sums[number * parts : (number + 1) * parts]
        here = gradients.of(frames)
        if turned is not None or packed.algorithm:
            here = Gradients(here.spread(output))
        if turned is not None:
            dx[frames] = conv2d_backward_wrt_input(here.dy, turned, packed.strides, (x.shape[1], x.shape[2]))
        if packed.algorithm:
            winograd_sums(x[frames], here.dy, packed, corner, own)
        else:
            direct_sums(x[frames], here, packed, corner, output, own)

    ordered_map(backward, range(len(slices)))
    return dx, *finish(sums, packed, channels // packed.groups)


def conv2d_backward_wrt_input(dy: Array, turned: FlippedKernel, strides: Pair, frame: Pair) -> Array:
    """Return the gradient with respect to the input: dy, spread by the strides, convolved with the flipped kernel.

    Shapes: dy (n, oh, ow, f); `frame` is the input, in pixels; result (n, h, w, c).
    """
    if strides != (1, 1):
        n, rows, columns, filters = dy.shape
        spread = np.zeros((n, (rows - 1) * strides[0] + 1, (columns - 1) * strides[1] + 1, filters), dy.dtype)
        spread[:, :: strides[0], :: strides[1]] = dy
        dy = spread
    top, left = turned.corner
    dy = np.ascontiguousarray(dy[:, max(-top, 0) :, max(-left, 0) :])
    return conv2d(dy, turned.packed, (max(top, 0), max(left, 0)), frame)


def direct_sums(x: Array, gradients: Gradients, packed: PackedConv, corner: Pair, output: Pair, sums: Array) -> None:
    """Add up the products of all pixels and all gradients, with all threads.

    Error of each value at most ``(K + 2) eps`` times the sum of absolute products, K = n oh ow.

    Shapes: x (n, h, w, c), gradients of (n, oh, ow, f), sums as :func:`direct_sums_shape` gives it, zeros on entry.
    """
    groups, block = packed.groups, sums.shape[-1]
    if packed.filters // groups % lanes(x.dtype):
        gradients = Gradients(gradients.spread(output))
    side = 2 if gradients.where.size else 1
    rows = max(side, PACKED_BYTES // (output[1] * block * x.itemsize))
    plan = RowPlan.of(x, packed.window, output, packed.strides, corner, packed.dilation, groups, rows=rows, side=side)
    step = FEW if (sums.shape[3] - 1) // plan.runs.shape[1] % PIXELS else PIXELS
    work = len(x) * output[0] * output[1] / len(sums) * sums[0].size
    dy, y, where, slope = gradients
    arrays = (np.ascontiguousarray(dy), y if side == 2 else np.empty((0, 0, 0, 0), x.dtype), where)
    run(backward_wrt_kernel, len(sums), work, sums, x, *arrays, x.dtype.type(slope), output, plan, step)


def direct_sums_shape(packed: PackedConv, channels: int, parts: int) -> tuple[int, ...]:
    """Return (parts, groups, blocks, n_runs * lines + 1, block): a line for every value of a window
    (:class:`framecnn.kernels.conv.RowPlan`), and one for the sum of the gradients; channels are those of a group.
    """
    n_runs, run_length = _runs(packed, channels)
    lines = min(-(-run_length // step) * step for step in (PIXELS, FEW))
    groups, blocks, _, block = packed.weights.shape
    return parts, groups, blocks, n_runs * lines + 1, block


def direct_gradients(sums: Array, packed: PackedConv, channels: int) -> tuple[Array, Array]:
    """Return the gradients with respect to kernel (kh, kw, channels, f) and bias (f,) from :func:`direct_sums`."""
    total = sums.sum(axis=0)
    groups, blocks, _, block = total.shape
    own = packed.filters // groups
    n_runs, run_length = _runs(packed, channels)
    runs = total[:, :, :-1].reshape(groups, blocks, n_runs, -1, block)[:, :, :, :run_length]
    joined = runs.transpose(2, 3, 0, 1, 4).reshape(n_runs * run_length, groups, blocks * block)
    kernel = joined[..., :own].reshape(*packed.window, channels, packed.filters)
    return kernel, total[:, :, -1].reshape(groups, -1)[:, :own].reshape(-1)


def _runs(packed: PackedConv, channels: int) -> Pair:
    """Return how many contiguous stretches a window has, and how many values each."""
    height, width = packed.window
    return (height, width * channels) if packed.dilation[1] == 1 == packed.groups else (height * width, channels)


@kernel
def load_gradients(packed, dy, y, where, slope, width, n, first, rows, at, own):
    """packed (pixels, block) = so many rows of `width` gradients of frame n, from row first on, of `own` filters from
    `at` on; dy, y, where (n, oh, ow, f) as in Gradients.
    """
    height, columns, filters = dy.shape[1], dy.shape[2], dy.shape[3]
    block = packed.shape[1]
    flat, gradients, pooled, places = packed.reshape(-1), dy.reshape(-1), y.reshape(-1), where.reshape(-1)
    if where.size or own < block:
        clear(flat, 0, rows * width * block)
    if where.size:
        for i in range(first // 2, min((first + rows) // 2, height)):
            for j in range(columns):
                to = ((2 * i - first) * width + 2 * j) * block
                source = ((n * height + i) * columns + j) * filters + at
                unpool_window(flat, to, width * block, block, pooled, gradients, places, source, slope, min(own, block))
    else:
        base = (n * height + first) * width * filters + at
        for p in range(rows * width):
            if own < block:
                copy(flat, p * block, gradients, base + p * filters, own)
            else:
                pool_window(flat, None, p * block, block, gradients, base + p * filters, 0, 0, 0, 0, slope)


@kernel
def accumulate_rows(sums, to, lines, padded, runs, x_step, down, width, weights, step):
    """sums[to:], flat, n_runs times `lines` lines, += products of padded rows and gradients, rows of `width` each.

    padded (size,), runs (n_runs,), down (rows,) where each row begins, weights (pixels * block,); step lines at once.
    """
    block = weights.size // (len(down) * width)
    for r in range(len(runs)):
        for p in range(0, lines, step):
            at = to + (r * lines + p) * block
            if step == PIXELS:
                accumulate_block(sums, at, block, padded, runs[r] + p, x_step, down, width, weights, 0)
            else:
                accumulate_few(sums, at, block, padded, runs[r] + p, x_step, down, width, weights, 0)


@kernel
def backward_wrt_kernel(sums, x, dy, y, where, slope, output, plan, step, start, stop):
    """sums (parts, groups, blocks, n_runs * lines + 1, block), zeros on entry, += products of x (n, h, w, c) and
    gradients, in the last line those alone; dy, y, where (n, oh, ow, f) as in Gradients; items are parts.
    """
    height, width = output
    parts, groups, blocks, all_lines, block = sums.shape
    n_runs = plan.runs.shape[1]
    lines = (all_lines - 1) // n_runs
    row_blocks = (height + plan.rows - 1) // plan.rows
    items = len(x) * row_blocks
    channels = x.shape[3]
    row_size = plan.row_width * channels
    padded = np.zeros(plan.buffer_rows * row_size + PIXELS, x.dtype)
    buffer = padded[: plan.buffer_rows * row_size].reshape(plan.buffer_rows, plan.row_width, channels)
    packed = np.empty((plan.rows * width, block), x.dtype)
    down = np.arange(plan.rows) * (plan.stride_h * row_size)
    flat, weights = sums.reshape(-1), packed.reshape(-1)
    own = dy.shape[3] // groups
    for part in range(start, stop):
        for item in range(part * items // parts, (part + 1) * items // parts):
            n, first = item // row_blocks, item % row_blocks * plan.rows
            rows = min(plan.rows, height - first)
            load_rows(buffer, x, n, first * plan.stride_h - plan.top, plan.left)
            for place in range(groups * blocks):
                g, b = place // blocks, place % blocks
                to = (part * groups * blocks + place) * all_lines * block
                load_gradients(packed, dy, y, where, slope, width, n, first, rows, g * own + b * block, own - b * block)
                add_blocks(flat, to + (all_lines - 1) * block, weights, 0, rows * width)
                accumulate_rows(
                    flat, to, lines, padded, plan.runs[g], plan.stride_w * channels, down[:rows], width,
                    weights[: rows * width * block], step,
                )  # fmt: skip
