"""Gradients of convolutions: with respect to the input a convolution, with respect to the kernel outer products."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from framecnn.kernels.conv import RowPlan, load_rows
from framecnn.kernels.convolution import PackedConv, conv2d
from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, accumulate_block, filter_block
from framecnn.kernels.threads import ordered_map, run
from framecnn.kernels.vectors import clear, copy
from framecnn.kernels.winograd_backward import winograd_gradients, winograd_sums
from framecnn.typing import Array

__all__ = ["Turned", "conv2d_backward", "conv2d_backward_wrt_input"]

PART_WORK = 40_000_000  # multiply-adds whose sums of products are worth a part of their own
MOST_PARTS = 8  # sums that are kept apart, to be added up in order
PART_BYTES = 4 * 1024 * 1024  # of gradients that are computed, used and forgotten: they stay in the last-level cache
PACKED_BYTES = 128 * 1024  # of gradients that wait for all products of a block: a quarter of a second-level cache
Pair = tuple[int, int]


class Turned(NamedTuple):
    """A kernel turned around, its channels the filters, and the border that goes with it."""

    packed: PackedConv
    corner: Pair

    @classmethod
    def of(cls, algorithm: str, kernel: Array, dilation: Pair, groups: int, corner: Pair) -> "Turned":
        """Turn a kernel (kh, kw, c / groups, f); `corner` is the border of the convolution at the top and the left."""
        parts = [part.swapaxes(2, 3) for part in np.split(kernel[::-1, ::-1], groups, axis=3)]
        turned = np.ascontiguousarray(np.concatenate(parts, axis=3))
        top, left = (d * (k - 1) - before for d, k, before in zip(dilation, kernel.shape[:2], corner, strict=True))
        return cls(PackedConv.of(algorithm, turned, None, (1, 1), dilation, groups), (top, left))


def conv2d_backward(
    x: Array,
    gradients: Callable[[slice], Array],
    packed: PackedConv,
    turned: Turned | None,
    corner: Pair,
    output: Pair,
) -> tuple[Any, Array, Array]:
    """Give the gradients with respect to x, kernel and bias; that of x only where the turned kernel is there.

    :func:`framecnn.kernels.reference.conv2d_backward` is the definition. Frames are taken in parts, so that the map of
    gradients, which may be one that pooling has spread, is never there as a whole. Parts and sums follow from shapes
    alone, so the bits do not depend on the number of threads.

    Shapes: x (n, h, w, c); ``gradients(frames)`` gives dy (m, oh, ow, f) of a slice of the frames; results as x,
    (kh, kw, c / groups, f) and (f,); `corner` is the border at the top and the left, `output` the result, in pixels.
    """
    n, channels, filters = len(x), x.shape[3], packed.filters
    frame_bytes = output[0] * output[1] * filters * x.itemsize
    size = max(-(-n // MOST_PARTS), PART_BYTES // frame_bytes, 1)
    slices = [slice(start, start + size) for start in range(0, max(n, 1), size)]
    work = size * output[0] * output[1] * packed.window[0] * packed.window[1] * (channels // packed.groups) * filters
    sums = min(max(work // PART_WORK, 1), max(MOST_PARTS // len(slices), 1))
    dx: Any = None if turned is None else np.empty_like(x)

    def backward(frames: slice) -> Array:
        dy = gradients(frames)
        if turned is not None:
            dx[frames] = conv2d_backward_wrt_input(dy, turned, packed.strides, (x.shape[1], x.shape[2]))
        if packed.algorithm:
            return winograd_sums(x[frames], dy, packed.algorithm, corner, sums)
        return direct_sums(x[frames], dy, packed, corner, sums)

    total, *others = ordered_map(backward, slices)
    for other in others:
        total += other
    finish = winograd_gradients if packed.algorithm else direct_gradients
    return dx, *finish(total, packed, channels // packed.groups)


def conv2d_backward_wrt_input(dy: Array, turned: Turned, strides: Pair, frame: Pair) -> Array:
    """Give the gradient with respect to the input: dy, spread by the strides, convolved with the kernel turned around.

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


def direct_sums(x: Array, dy: Array, packed: PackedConv, corner: Pair, parts: int) -> Array:
    """Add up the products of all pixels and all gradients, in so many parts, with all threads.

    Error of each value at most ``(K + 2) eps`` times the sum of absolute products, K = n oh ow.

    Shapes: x (n, h, w, c), dy (n, oh, ow, f), result (groups, blocks, n_runs * lines + 1, block), a line for every
    value of a window (:class:`framecnn.kernels.conv.RowPlan`), and one for the sum of dy.
    """
    n, height, width, filters = dy.shape
    block, groups = filter_block(x.dtype), packed.groups
    rows = max(1, PACKED_BYTES // (width * block * x.itemsize))
    plan = RowPlan.of(x, packed.window, (height, width), packed.strides, corner, packed.dilation, groups, rows=rows)
    lines = -(-plan.run_length // PIXELS) * PIXELS
    shape = (parts, groups, -(-(filters // groups) // block), plan.runs.shape[1] * lines + 1, block)
    sums = np.zeros(shape, x.dtype)
    run(backward_wrt_kernel, parts, n * height * width / parts * sums[0].size, sums, x, dy, plan)
    return sums.sum(axis=0)


def direct_gradients(total: Array, packed: PackedConv, channels: int) -> tuple[Array, Array]:
    """Give the gradients with respect to kernel (kh, kw, channels, f) and bias (f,) from :func:`direct_sums`."""
    groups, blocks, _, block = total.shape
    own = packed.filters // groups
    values = packed.window[0] * packed.window[1] * channels
    n_runs = packed.window[0] if packed.dilation[1] == 1 and groups == 1 else packed.window[0] * packed.window[1]
    runs = total[:, :, :-1].reshape(groups, blocks, n_runs, -1, block)[:, :, :, : values // n_runs]
    joined = runs.transpose(2, 3, 0, 1, 4).reshape(values, groups, blocks * block)
    kernel = joined[..., :own].reshape(*packed.window, channels, packed.filters)
    return kernel, total[:, :, -1].reshape(groups, -1)[:, :own].reshape(-1)


@kernel
def load_gradients(packed, sums, bias_at, dy, n, first, rows, at, own):
    """packed (rows * ow, block) = so many rows of dy (n, oh, ow, f) from row first on, `own` filters of them from `at`
    on; sums[bias_at:], flat, += their sums.
    """
    height, width, filters = dy.shape[1], dy.shape[2], dy.shape[3]
    block = packed.shape[1]
    flat, values = packed.reshape(-1), dy.reshape(-1)
    base = (n * height + first) * width * filters + at
    for p in range(rows * width):
        if own < block:
            clear(flat, p * block, block)
        copy(flat, p * block, values, base + p * filters, min(own, block))
        for f in range(block):
            sums[bias_at + f] += packed[p, f]


@kernel
def backward_wrt_kernel(sums, x, dy, plan, start, stop):
    """sums (parts, groups, blocks, n_runs * lines + 1, block), zeros on entry, += products of x (n, h, w, c) and
    dy (n, oh, ow, f), in the last line those of dy alone; items are parts.
    """
    height, width, filters = dy.shape[1], dy.shape[2], dy.shape[3]
    parts, groups, blocks, all_lines, block = sums.shape
    n_runs = plan.runs.shape[1]
    lines = (all_lines - 1) // n_runs
    row_blocks = (height + plan.rows - 1) // plan.rows
    items = len(dy) * row_blocks
    row_size = plan.row_width * x.shape[3]
    padded = np.zeros(plan.buffer_rows * row_size + PIXELS, x.dtype)
    buffer = padded[: plan.buffer_rows * row_size].reshape(plan.buffer_rows, plan.row_width, x.shape[3])
    packed = np.empty((plan.rows * width, block), x.dtype)
    down = np.arange(plan.rows) * (plan.stride_h * row_size)
    flat, weights = sums.reshape(-1), packed.reshape(-1)
    own = filters // groups
    for part in range(start, stop):
        for item in range(part * items // parts, (part + 1) * items // parts):
            n, first = item // row_blocks, item % row_blocks * plan.rows
            rows = min(plan.rows, height - first)
            load_rows(buffer, x, n, first * plan.stride_h - plan.top, plan.left)
            for g in range(groups):
                for b in range(blocks):
                    to = ((part * groups + g) * blocks + b) * all_lines * block
                    load_gradients(
                        packed, flat, to + n_runs * lines * block, dy, n, first, rows, g * own + b * block,
                        own - b * block,
                    )  # fmt: skip
                    for r in range(n_runs):
                        for p in range(0, lines, PIXELS):
                            accumulate_block(
                                flat, to + (r * lines + p) * block, block, padded, plan.runs[g, r] + p,
                                plan.stride_w * x.shape[3], down[:rows], width, weights, 0,
                            )  # fmt: skip
