"""The gradient of a direct convolution with respect to its kernel: outer products of pixels and gradients."""

import numpy as np

from framecnn.geometry import Pair, Window
from framecnn.kernels.buffers import empty
from framecnn.kernels.codegen.memory import clear
from framecnn.kernels.codegen.microkernel import (
    FEW,
    PIXELS,
    accumulate_block,
    accumulate_few,
    accumulate_few_narrow,
    accumulate_narrow,
    add_blocks,
    add_narrow,
)
from framecnn.kernels.codegen.pooling import unpool_window
from framecnn.kernels.codegen.rows import copy_row
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.conv2d import PackedConv
from framecnn.kernels.direct import RowPlan, load_rows
from framecnn.kernels.gradients import Gradients, gradient_block, is_narrow, items_of_part
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["direct_gradients", "direct_sums", "direct_sums_shape"]

PACKED_BYTES = 128 * 1024  # of packed gradients, which stay in cache while a block is computed: a quarter of L2


def direct_sums(x: Array, gradients: Gradients, packed: PackedConv, window: Window, sums: Array, size: int) -> None:
    """Write to `sums` those of the products of all pixels and all gradients, with all threads.

    Error of each value at most ``(K + 2) eps`` times the sum of absolute products, K = n oh ow.

    Shapes: x (n, h, w, c), gradients of (n, oh, ow, f), sums as :func:`direct_sums_shape` returns it,
    of groups of `size` frames (:func:`framecnn.kernels.gradients.items_of_part`).
    """
    groups, block, output = packed.groups, sums.shape[-1], window.output
    if packed.filters // groups % lanes(x.dtype):
        gradients = Gradients(gradients.unpooled(output))
    side = 2 if gradients.is_pooled else 1
    plan = RowPlan.of(x, window, groups, max(side, PACKED_BYTES // (output[1] * block * x.itemsize)), side)
    step = FEW if (sums.shape[3] - 1) // plan.runs.shape[1] % PIXELS else PIXELS
    work = len(x) * output[0] * output[1] / len(sums) * sums[0].size
    form = step, is_narrow(sums), size
    run(backward_wrt_kernel, len(sums), work, sums, x, gradients.for_jit(), output, plan, form)


def direct_sums_shape(packed: PackedConv, window: Window, channels: int, parts: int) -> tuple[int, ...]:
    """Return (parts, groups, blocks, n_runs * lines + 1, block), for `channels` channels per group.

    There is one line for each value of a window, in runs (:class:`framecnn.kernels.direct.RowPlan`) that are padded to
    `lines`, and a last one for the sum of the gradients.
    """
    n_runs, run_length = _runs(packed, window, channels)
    lines = min(-(-run_length // step) * step for step in (PIXELS, FEW))
    groups, dtype = packed.groups, packed.weights.dtype
    block = gradient_block(packed.filters // groups, dtype)
    blocks = -(-packed.filters // groups // block)
    return parts, groups, blocks, n_runs * lines + 1, block


def direct_gradients(sums: Array, packed: PackedConv, window: Window, channels: int) -> tuple[Array, Array]:
    """Return the gradients with respect to kernel (kh, kw, channels, f) and bias (f,) from :func:`direct_sums`."""
    n_runs, run_length = _runs(packed, window, channels)
    lines = (sums.shape[3] - 1) // n_runs
    kernel = empty((*window.kernel, channels, packed.filters), sums.dtype)
    bias = empty((packed.filters,), sums.dtype)
    steps, n_lines = (run_length, lines), n_runs * run_length
    run(direct_gradients_forward, n_lines + 1, len(sums) * packed.filters, (kernel, bias), sums, steps)
    return kernel, bias


def _runs(packed: PackedConv, window: Window, channels: int) -> Pair:
    """Return the number of contiguous runs in a window and the number of values in each."""
    height, width = window.kernel
    return (height, width * channels) if window.dilation[1] == 1 == packed.groups else (height * width, channels)


@kernel
def direct_gradients_forward(outputs, sums, steps, start, stop):
    """Outputs dkernel (kh, kw, c / groups, f) and dbias (f,) = the sum of sums over all parts.

    sums (parts, groups, blocks, n_runs * lines + 1, block), steps (values in a run, lines of a run). Items are the
    values of a window, and the bias.
    """
    dkernel, dbias = outputs
    run_length, lines = steps
    parts, groups, _, all_lines, block = sums.shape
    filters = len(dbias)
    values = dkernel.size // filters
    flat, group_filters = dkernel.reshape(-1), filters // groups
    for item in range(start, stop):
        is_bias = item == values
        line = all_lines - 1 if is_bias else item // run_length * lines + item % run_length
        to, at = (dbias, 0) if is_bias else (flat, item * filters)
        for g in range(groups):
            for f in range(group_filters):
                total = sums[0, g, f // block, line, f % block]
                for part in range(1, parts):
                    total += sums[part, g, f // block, line, f % block]
                to[at + g * group_filters + f] = total


@kernel
def load_gradients(packed, gradients, width, n, first, rows, at, n_valid):
    """packed (pixels, block) = `rows` rows of `width` gradients of frame n, from row first on.

    From Gradients (n, oh, ow, f); only the first `n_valid` filters from `at` on exist.
    """
    dy, y, argmax, negative_slope = gradients
    height, columns, filters = dy.shape[1], dy.shape[2], dy.shape[3]
    block = packed.shape[1]
    flat, values, pooled, indices = packed.reshape(-1), dy.reshape(-1), y.reshape(-1), argmax.reshape(-1)
    if argmax.size or n_valid < block:
        clear(flat, 0, rows * width * block)
    if argmax.size:
        for i in range(first // 2, min((first + rows) // 2, height)):
            for j in range(columns):
                to = ((2 * i - first) * width + 2 * j) * block
                source = ((n * height + i) * columns + j) * filters + at
                unpool_window(
                    flat, to, width * block, block, pooled, values, indices, source, negative_slope, min(n_valid, block)
                )
    else:
        base = (n * height + first) * width * filters + at
        for p in range(rows * width):
            copy_row(flat, p * block, values, base + p * filters, min(n_valid, block))


@kernel
def accumulate_rows(sums, to, padded, runs, down, weights, width, steps):
    """sums[to:] (flat, one line per window value) += products of padded rows with rows of `width` gradients.

    padded (size,), runs (n_runs,), down (rows,) the starts of the rows, weights (pixels * block,); steps are (lines per
    run, lines computed at a time, values from a pixel to the next, whether a block is half a register block).
    """
    lines, step, x_step, narrow = steps
    block = weights.size // (len(down) * width)
    for r in range(len(runs)):
        for p in range(0, lines, step):
            at = to + (r * lines + p) * block
            if narrow and step == PIXELS:
                accumulate_narrow(sums, at, block, padded, runs[r] + p, x_step, down, width, weights, 0)
            elif narrow:
                accumulate_few_narrow(sums, at, block, padded, runs[r] + p, x_step, down, width, weights, 0)
            elif step == PIXELS:
                accumulate_block(sums, at, block, padded, runs[r] + p, x_step, down, width, weights, 0)
            else:
                accumulate_few(sums, at, block, padded, runs[r] + p, x_step, down, width, weights, 0)


@kernel
def backward_wrt_kernel(sums, x, gradients, output, plan, form, start, stop):
    """sums (parts, groups, blocks, n_runs * lines + 1, block) of products of x (n, h, w, c) and gradients.

    The last line is the sum of the gradients. `form` is (lines computed at a time, whether a block is half a register
    block, frames of a group of parts). Items are parts.
    """
    step, narrow, size = form
    height, width = output
    parts, groups, blocks, all_lines, block = sums.shape
    n_runs, channels = plan.runs.shape[1], x.shape[3]
    steps = ((all_lines - 1) // n_runs, step, plan.stride_w * channels, narrow)
    row_blocks = (height + plan.rows - 1) // plan.rows
    row_size = plan.row_width * channels
    padded = np.zeros(plan.buffer_rows * row_size + PIXELS, x.dtype)
    buffer = padded[: plan.buffer_rows * row_size].reshape(plan.buffer_rows, plan.row_width, channels)
    packed = np.empty((plan.rows * width, block), x.dtype)
    down = np.arange(plan.rows) * (plan.stride_h * row_size)
    flat, weights = sums.reshape(-1), packed.reshape(-1)
    group_filters = gradients.dy.shape[3] // groups
    for part in range(start, stop):
        clear(flat, part * sums[0].size, sums[0].size)
        begin, end = items_of_part(part, parts, len(x), size, row_blocks)
        for item in range(begin, end):
            n, first = item // row_blocks, item % row_blocks * plan.rows
            rows = min(plan.rows, height - first)
            load_rows(buffer, x, n, first * plan.stride_h - plan.top, plan.left)
            for index in range(groups * blocks):
                g, b = index // blocks, index % blocks
                to = (part * groups * blocks + index) * all_lines * block
                load_gradients(
                    packed, gradients, width, n, first, rows, g * group_filters + b * block, group_filters - b * block
                )
                if narrow:
                    add_narrow(flat, to + (all_lines - 1) * block, weights, 0, rows * width)
                else:
                    add_blocks(flat, to + (all_lines - 1) * block, weights, 0, rows * width)
                filled = weights[: rows * width * block]
                accumulate_rows(flat, to, padded, plan.runs[g], down[:rows], filled, width, steps)
