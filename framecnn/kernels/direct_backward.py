"""The gradient of a direct convolution with respect to its kernel: outer products of pixels and gradients."""

import numpy as np

from framecnn.geometry import Pair, Window
from framecnn.kernels.codegen.memory import clear, copy
from framecnn.kernels.codegen.microkernel import FEW, PIXELS, accumulate_block, accumulate_few, add_blocks
from framecnn.kernels.codegen.pooling import pool_window, unpool_window
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.conv2d import PackedConv
from framecnn.kernels.direct import RowPlan, load_rows
from framecnn.kernels.gradients import Gradients
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["direct_gradients", "direct_sums", "direct_sums_shape"]

PACKED_BYTES = 128 * 1024  # of gradients that wait for all products of a block: a quarter of a second-level cache


def direct_sums(x: Array, gradients: Gradients, packed: PackedConv, window: Window, sums: Array) -> None:
    """Add up the products of all pixels and all gradients, with all threads.

    Error of each value at most ``(K + 2) eps`` times the sum of absolute products, K = n oh ow.

    Shapes: x (n, h, w, c), gradients of (n, oh, ow, f), sums as :func:`direct_sums_shape` returns it, zeros on entry.
    """
    groups, block, output = packed.groups, sums.shape[-1], window.output
    if packed.filters // groups % lanes(x.dtype):
        gradients = Gradients(gradients.unpooled(output))
    side = 2 if gradients.is_pooled else 1
    plan = RowPlan.of(x, window, groups, max(side, PACKED_BYTES // (output[1] * block * x.itemsize)), side)
    step = FEW if (sums.shape[3] - 1) // plan.runs.shape[1] % PIXELS else PIXELS
    work = len(x) * output[0] * output[1] / len(sums) * sums[0].size
    run(backward_wrt_kernel, len(sums), work, sums, x, gradients.for_kernel(), output, plan, step)


def direct_sums_shape(packed: PackedConv, window: Window, channels: int, parts: int) -> tuple[int, ...]:
    """Return (parts, groups, blocks, n_runs * lines + 1, block), for `channels` channels of a group.

    There is a line for every value of a window (:class:`framecnn.kernels.direct.RowPlan`), and one for the sum of the
    gradients.
    """
    n_runs, run_length = _runs(packed, window, channels)
    lines = min(-(-run_length // step) * step for step in (PIXELS, FEW))
    groups, blocks, _, block = packed.weights.shape
    return parts, groups, blocks, n_runs * lines + 1, block


def direct_gradients(sums: Array, packed: PackedConv, window: Window, channels: int) -> tuple[Array, Array]:
    """Return the gradients with respect to kernel (kh, kw, channels, f) and bias (f,) from :func:`direct_sums`."""
    total = sums.sum(axis=0)
    groups, blocks, _, block = total.shape
    own = packed.filters // groups
    n_runs, run_length = _runs(packed, window, channels)
    runs = total[:, :, :-1].reshape(groups, blocks, n_runs, -1, block)[:, :, :, :run_length]
    joined = runs.transpose(2, 3, 0, 1, 4).reshape(n_runs * run_length, groups, blocks * block)
    kernel = joined[..., :own].reshape(*window.kernel, channels, packed.filters)
    return kernel, total[:, :, -1].reshape(groups, -1)[:, :own].reshape(-1)


def _runs(packed: PackedConv, window: Window, channels: int) -> Pair:
    """Return the number of contiguous runs of a window, and the number of values of each."""
    height, width = window.kernel
    return (height, width * channels) if window.dilation[1] == 1 == packed.groups else (height * width, channels)


@kernel
def load_gradients(packed, gradients, width, n, first, rows, at, own):
    """packed (pixels, block) = `rows` rows of `width` gradients of frame n, from row first on.

    Of the filters from `at` on, `own` are present.
    """
    dy, y, where, slope = gradients
    height, columns, filters = dy.shape[1], dy.shape[2], dy.shape[3]
    block = packed.shape[1]
    flat, values, pooled, places = packed.reshape(-1), dy.reshape(-1), y.reshape(-1), where.reshape(-1)
    if where.size or own < block:
        clear(flat, 0, rows * width * block)
    if where.size:
        for i in range(first // 2, min((first + rows) // 2, height)):
            for j in range(columns):
                to = ((2 * i - first) * width + 2 * j) * block
                source = ((n * height + i) * columns + j) * filters + at
                unpool_window(flat, to, width * block, block, pooled, values, places, source, slope, min(own, block))
    else:
        base = (n * height + first) * width * filters + at
        for p in range(rows * width):
            if own < block:
                copy(flat, p * block, values, base + p * filters, own)
            else:
                pool_window(flat, None, p * block, block, values, base + p * filters, 0, 0, 0, 0, slope)


@kernel
def accumulate_rows(sums, to, padded, runs, down, weights, width, steps):
    """sums[to:], flat, runs of lines, += products of padded rows and gradients, rows of `width` each.

    padded (size,), runs (n_runs,), down (rows,) where each row begins, weights (pixels * block,); steps are the lines
    of a run, how many of them are computed at once, and the values between neighbouring pixels.
    """
    lines, step, x_step = steps
    block = weights.size // (len(down) * width)
    for r in range(len(runs)):
        for p in range(0, lines, step):
            at = to + (r * lines + p) * block
            if step == PIXELS:
                accumulate_block(sums, at, block, padded, runs[r] + p, x_step, down, width, weights, 0)
            else:
                accumulate_few(sums, at, block, padded, runs[r] + p, x_step, down, width, weights, 0)


@kernel
def backward_wrt_kernel(sums, x, gradients, output, plan, step, start, stop):
    """sums (parts, groups, blocks, n_runs * lines + 1, block), zeros on entry, += products of x (n, h, w, c) and
    gradients, in the last line the gradients alone; items are parts.
    """
    height, width = output
    parts, groups, blocks, all_lines, block = sums.shape
    n_runs, channels = plan.runs.shape[1], x.shape[3]
    steps = ((all_lines - 1) // n_runs, step, plan.stride_w * channels)
    row_blocks = (height + plan.rows - 1) // plan.rows
    items = len(x) * row_blocks
    row_size = plan.row_width * channels
    padded = np.zeros(plan.buffer_rows * row_size + PIXELS, x.dtype)
    buffer = padded[: plan.buffer_rows * row_size].reshape(plan.buffer_rows, plan.row_width, channels)
    packed = np.empty((plan.rows * width, block), x.dtype)
    down = np.arange(plan.rows) * (plan.stride_h * row_size)
    flat, weights = sums.reshape(-1), packed.reshape(-1)
    own = gradients.dy.shape[3] // groups
    for part in range(start, stop):
        for item in range(part * items // parts, (part + 1) * items // parts):
            n, first = item // row_blocks, item % row_blocks * plan.rows
            rows = min(plan.rows, height - first)
            load_rows(buffer, x, n, first * plan.stride_h - plan.top, plan.left)
            for place in range(groups * blocks):
                g, b = place // blocks, place % blocks
                to = (part * groups * blocks + place) * all_lines * block
                load_gradients(packed, gradients, width, n, first, rows, g * own + b * block, own - b * block)
                add_blocks(flat, to + (all_lines - 1) * block, weights, 0, rows * width)
                used = weights[: rows * width * block]
                accumulate_rows(flat, to, padded, plan.runs[g], down[:rows], used, width, steps)
