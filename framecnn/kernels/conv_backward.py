"""Gradients of convolutions: with respect to the input a convolution, with respect to the kernel outer products."""

import numpy as np

from framecnn.kernels.conv import RowPlan, load_rows
from framecnn.kernels.convolution import PackedConv, conv2d
from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, accumulate_block, filter_block
from framecnn.kernels.threads import run
from framecnn.kernels.vectors import clear, copy
from framecnn.typing import Array

__all__ = ["conv2d_backward_wrt_input", "conv2d_backward_wrt_kernel", "pack_backward"]

PART_WORK = 40_000_000  # multiply-adds whose sums of products are kept apart, to be added up in order
MOST_PARTS = 8
PACKED_BYTES = (
    128 * 1024
)  # of gradients that wait for all products of a block: a quarter of the smallest second-level cache
Pair = tuple[int, int]


def pack_backward(algorithm: str, kernel: Array, dilation: Pair, groups: int) -> PackedConv:
    """Pack a kernel (kh, kw, c / groups, f) for :func:`conv2d_backward_wrt_input`: turned around, its channels the
    filters.
    """
    parts = [part.swapaxes(2, 3) for part in np.split(kernel[::-1, ::-1], groups, axis=3)]
    turned = np.ascontiguousarray(np.concatenate(parts, axis=3))
    return PackedConv.of(algorithm, turned, None, (1, 1), dilation, groups)


def conv2d_backward_wrt_input(dy: Array, packed: PackedConv, strides: Pair, corner: Pair, frame: Pair) -> Array:
    """Give the gradient with respect to the input: dy, spread by the strides, convolved with the kernel turned around.

    :func:`framecnn.kernels.reference.conv2d_backward` is the definition.

    Shapes: dy (n, oh, ow, f), packed as :func:`pack_backward` gives it; `corner` is the border of the convolution at
    the top and the left and `frame` its input, in pixels; result (n, h, w, c).
    """
    if strides != (1, 1):
        n, rows, columns, filters = dy.shape
        spread = np.zeros((n, (rows - 1) * strides[0] + 1, (columns - 1) * strides[1] + 1, filters), dy.dtype)
        spread[:, :: strides[0], :: strides[1]] = dy
        dy = spread
    reach = [d * (k - 1) for k, d in zip(packed.window, packed.dilation, strict=True)]
    top, left = reach[0] - corner[0], reach[1] - corner[1]
    dy = np.ascontiguousarray(dy[:, max(-top, 0) :, max(-left, 0) :])
    return conv2d(dy, packed, (max(top, 0), max(left, 0)), frame)


def conv2d_backward_wrt_kernel(
    x: Array, dy: Array, window: Pair, strides: Pair, corner: Pair, dilation: Pair, groups: int
) -> tuple[Array, Array]:
    """Give the gradients with respect to kernel and bias.

    :func:`framecnn.kernels.reference.conv2d_backward` is the definition. Error of each value at most ``(K + 2) eps``
    times the sum of absolute products, K = n oh ow. The order of the sum follows from shapes alone.

    Shapes: x (n, h, w, c), dy (n, oh, ow, f), results (kh, kw, c / groups, f) and (f,); `corner` is the border at the
    top and the left in pixels.
    """
    n, height, width, filters = dy.shape
    block, own = filter_block(x.dtype), filters // groups
    blocks = -(-own // block)
    row_work = width * window[0] * window[1] * (x.shape[3] // groups) * filters
    rows = max(1, PACKED_BYTES // (width * block * x.itemsize))
    plan = RowPlan.of(x, window, (height, width), strides, corner, dilation, groups, rows=rows)
    items = n * -(-height // plan.rows)
    parts = min(max(round(n * height * row_work / PART_WORK), 1), MOST_PARTS, max(items, 1))
    lines = -(-plan.run_length // PIXELS) * PIXELS
    n_runs = plan.runs.shape[1]
    sums = np.zeros((parts, groups, blocks, n_runs * lines + 1, block), x.dtype)
    run(backward_wrt_kernel, parts, items / parts * plan.rows * row_work, sums, x, dy, plan)
    total = sums.sum(axis=0)
    taps = total[:, :, :-1].reshape(groups, blocks, n_runs, lines, block)[:, :, :, : plan.run_length]
    joined = taps.transpose(2, 3, 0, 1, 4).reshape(-1, groups, blocks * block)  # (kh * kw * c / groups, ...)
    dkernel = joined[..., :own].reshape(*window, -1, filters)
    return dkernel, total[:, :, -1].reshape(groups, -1)[:, :own].reshape(filters)


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
