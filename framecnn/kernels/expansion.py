"""A 1 x 1 convolution and the depthwise convolution after it in one pass, which never writes the map between them.

The map has several times the channels of its input, so writing and reading it takes longer than computing it.
"""

import numpy as np

from framecnn.geometry import Pair, Window
from framecnn.kernels.buffers import empty
from framecnn.kernels.codegen.microkernel import PIXELS
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.conv2d import PackedConv
from framecnn.kernels.depthwise import axis_at, depthwise_row, forward_plan, taps_inside
from framecnn.kernels.epilogue import Epilogue, residual_or_none
from framecnn.kernels.jit import kernel
from framecnn.kernels.matrix import RowBlocks, multiply_range
from framecnn.kernels.threads import read_only, run
from framecnn.typing import Array

__all__ = ["expanded_depthwise", "is_worth_expanding"]

STRIP_VALUES = 128 * 1024  # of expanded rows that stay in the L2 cache until they are convolved
LARGE_MAP = 256 * 1024  # values of an expanded frame; smaller ones stay in cache anyway
MOST_REPEATED = 1 / 6  # of the expanded rows, because two strips need them


def is_worth_expanding(window: Window, filters: int) -> bool:
    """Return whether one pass is faster for a depthwise convolution of maps of `filters` channels; by shapes alone."""
    height, width = window.frame
    rows, expanded = _strip(window, filters)
    return (
        height * width * filters >= LARGE_MAP
        and expanded * width * filters <= STRIP_VALUES
        and width >= PIXELS
        and filters >= lanes(np.float32)
        and expanded - rows * window.strides[0] <= MOST_REPEATED * expanded
    )


def _strip(window: Window, filters: int) -> Pair:
    """Return the rows of the output in a strip, and the expanded rows that they need."""
    stride, extent = window.strides[0], window.extent[0]
    rows = min(max((STRIP_VALUES // (window.frame[1] * filters) - extent) // stride + 1, 1), window.output[0])
    strips = -(-window.output[0] // rows)
    rows = -(-window.output[0] // strips)
    return rows, (rows - 1) * stride + extent


def expanded_depthwise(
    x: Array,
    expansion: PackedConv,
    activations: tuple[str, float],
    depthwise: PackedConv,
    window: Window,
    activation: str = "linear",
    negative_slope: float = 0.0,
) -> Array:
    """Return the depthwise convolution of a 1 x 1 convolution of frames, each with its activation.

    The bits are those of two calls of :func:`framecnn.kernels.conv2d.conv2d`.

    Shapes: x (n, h, w, c), result (n, oh, ow, f); both convolutions have f filters, and `window` is that of the second.
    `activations` are the name and the negative slope of the activation between them.
    """
    filters = depthwise.filters
    y = empty((len(x), *window.output, filters), x.dtype)
    rows, expanded = _strip(window, filters)
    plan = forward_plan(window, filters, 1, x.dtype)._replace(rows=rows, buffer_rows=min(expanded, window.frame[0]))
    weights = expansion.weights[0]
    first = (weights, expansion.bias[0], RowBlocks.of(len(weights), x.dtype), Epilogue.of(*activations))
    second = (depthwise.weights.reshape(-1), depthwise.bias, plan, Epilogue.of(activation, negative_slope))
    inputs = (read_only(x.reshape(-1, x.shape[3])), residual_or_none(None, x.dtype))
    work = expanded * window.frame[1] * weights.size + rows * window.output[1] * filters * 16
    run(expanded_depthwise_forward, len(x) * -(-window.output[0] // rows), work, y, inputs, first, second, window.frame)
    return y


@kernel
def expanded_depthwise_forward(y, inputs, first, second, frame, start, stop):
    """y (n, oh, ow, f) from inputs: x (n * h * w, c) and no residual.

    `first` is (weights (blocks, c, block), bias (blocks, block), RowBlocks, Epilogue), `second` is
    (weights (kh * kw * f,), bias (f,), DepthwisePlan, Epilogue), `frame` is (h, w). Items are plan.rows rows.
    """
    weights, bias, blocks, epilogue = first
    kernels, shifts, plan, after = second
    height, width = frame
    filters = y.shape[3]
    row_size = width * filters
    chunks = (y.shape[1] + plan.rows - 1) // plan.rows
    axis = axis_at(plan.vertical, 0)
    buffer = np.empty((plan.buffer_rows * width, filters), y.dtype)
    zeros = np.zeros(plan.lanes, y.dtype)
    flat, values = y.reshape(-1), buffer.reshape(-1)
    for item in range(start, stop):
        n, top = item // chunks, item % chunks * plan.rows
        bottom = min(top + plan.rows, y.shape[1])
        above = max(top * axis.stride + axis.before, 0)
        below = min((bottom - 1) * axis.stride + axis.before + (axis.taps - 1) * axis.dilation + 1, height)
        rows = ((n * height + above) * width, (n * height + below) * width, (n * height + above) * width)
        multiply_range(buffer, inputs, rows, (0, blocks.blocks), weights, bias, blocks, epilogue)
        for i in range(top, bottom):
            u, end = taps_inside(axis, i, height)
            row = i * axis.stride + axis.before + u * axis.dilation
            packed = (kernels, u * plan.kernel_w * filters, plan.kernel_w * filters, shifts, zeros)
            source = ((row - above) * row_size, axis.dilation * row_size, end - u, width)
            to = (n * y.shape[1] + i) * y.shape[2] * filters
            depthwise_row(flat, to, values, source, packed, (y.shape[2], filters), plan, after)
