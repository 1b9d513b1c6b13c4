"""The gradient of a depthwise convolution with respect to its kernel."""

import numpy as np

from framecnn.geometry import Window
from framecnn.kernels.codegen.depthwise_line import accumulate_line
from framecnn.kernels.codegen.memory import clear
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.conv2d import PackedConv
from framecnn.kernels.depthwise import axis_at, form_of, forward_plan, taps_inside
from framecnn.kernels.gradients import items_of_part
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["depthwise_gradients", "depthwise_sums", "depthwise_sums_shape"]


def depthwise_sums(x: Array, dy: Array, packed: PackedConv, window: Window, sums: Array, size: int) -> None:
    """Write to `sums` those of the products of all pixels and all gradients, with all threads.

    Error of each value at most ``(K + 2) eps`` times the sum of absolute products, K = n oh ow.

    Shapes: x (n, h, w, c), dy (n, oh, ow, f), sums as :func:`depthwise_sums_shape` returns it, of groups of `size`
    frames (:func:`framecnn.kernels.gradients.items_of_part`).
    """
    filters, vector = dy.shape[3], lanes(x.dtype)
    if packed.filters > packed.groups:
        x = np.repeat(x, packed.filters // packed.groups, axis=3)
    if filters < vector:
        x, dy = (np.pad(values, ((0, 0), (0, 0), (0, 0), (0, vector - filters))) for values in (x, dy))
    plan = forward_plan(window, dy.shape[3], 1, x.dtype)
    work = dy.size / len(sums) * sums.shape[1]
    run(depthwise_wrt_kernel, len(sums), work, sums, x, np.ascontiguousarray(dy), plan, size)


def depthwise_sums_shape(packed: PackedConv, window: Window, channels: int, parts: int) -> tuple[int, ...]:
    """Return (parts, kh * kw + 1, size), a line for each value of a kernel and a last one for the bias.

    They consist of whole vectors, of which the last has the last filters, even if the one before has some of them too.
    """
    vector = lanes(packed.weights.dtype)
    return parts, window.kernel[0] * window.kernel[1] + 1, -(-packed.filters // vector) * vector


def depthwise_gradients(sums: Array, packed: PackedConv, window: Window, channels: int) -> tuple[Array, Array]:
    """Return the gradients with respect to kernel (kh, kw, 1, f) and bias (f,) from :func:`depthwise_sums`."""
    total, filters = sums.sum(axis=0), packed.filters
    vector = lanes(sums.dtype)
    if filters > vector:
        whole = filters // vector * vector
        total = np.concatenate([total[:, :whole], total[:, total.shape[1] - (filters - whole) :]], axis=1)
    total = total[:, :filters]
    return total[:-1].reshape(*window.kernel, 1, filters), total[-1]


@kernel
def depthwise_wrt_kernel(sums, x, dy, plan, size, start, stop):
    """sums (parts, kh * kw + 1, line) of products of x (n, h, w, f) and dy (n, oh, ow, f).

    The last line is the sum of the gradients. Items are parts: rows of dy, of groups of `size` frames.
    """
    parts, all_lines, line = sums.shape
    height, width, filters = dy.shape[1], dy.shape[2], dy.shape[3]
    vertical, horizontal = axis_at(plan.vertical, 0), axis_at(plan.horizontal, 0)
    row_size = x.shape[2] * filters
    zeros = np.zeros(plan.lanes, x.dtype)
    flat, values, gradients = sums.reshape(-1), x.reshape(-1), dy.reshape(-1)
    for part in range(start, stop):
        to = part * all_lines * line
        clear(flat, to, all_lines * line)
        begin, end = items_of_part(part, parts, len(dy), size, height)
        for item in range(begin, end):
            n, i = item // height, item % height
            u, last = taps_inside(vertical, i, x.shape[1])
            row = n * x.shape[1] + i * vertical.stride + vertical.before + u * vertical.dilation
            accumulate_line(
                form_of(horizontal), flat, to + u * plan.kernel_w * line, plan.kernel_w * line, line,
                flat, to + (all_lines - 1) * line, gradients, item * width * filters, filters, width, filters,
                values, row * row_size, horizontal.before, horizontal.stride, horizontal.dilation, x.shape[2], filters,
                vertical.dilation * row_size, last - u, horizontal.taps, zeros, 0,
            )  # fmt: skip
