"""Direct convolution: padded rows in a buffer, register blocks of pixels and filters over it."""

from typing import NamedTuple

import numpy as np

from framecnn.kernels.conv_block import POOLED, convolved_block, pooled_block
from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.microkernel import PIXELS, pack_filters
from framecnn.kernels.threads import CHUNK_WORK, run
from framecnn.kernels.vectors import clear, copy
from framecnn.typing import Array

__all__ = ["RowPlan", "conv2d_direct", "load_rows", "pack_bias", "pack_conv2d"]

BUFFER_BYTES = 256 * 1024  # rows of a chunk: half of the smallest second-level cache in use
Pair = tuple[int, int]


class RowPlan(NamedTuple):
    """How a window meets a buffer of padded rows (buffer_rows, row_width, c); follows from shapes alone.

    Shapes: ``runs`` (groups, n_runs) says where, from the window's first value, contiguous stretches of ``run_length``
    values begin. A chunk is `rows` output rows of `width` pixels, at least a register block.
    """

    runs: Array
    run_length: int
    window_w: int
    row_width: int
    width: int
    rows: int
    buffer_rows: int
    stride_h: int
    stride_w: int
    top: int
    left: int

    @classmethod
    def of(
        cls,
        x: Array,
        window: Pair,
        output: Pair,
        strides: Pair,
        corner: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        rows: int = 1,
        side: int = 1,
    ) -> "RowPlan":
        """Plan for frames x (n, h, w, c) and a window; `corner` is the border at the top and the left in pixels.

        A chunk is about `rows` output rows, fewer where the buffer would not fit the cache, a multiple of `side`. A
        single position takes no step, however long: the buffer need not reach for the next.
        """
        width, channels = x.shape[2:]
        down, across = (step if size > 1 else 1 for step, size in zip(strides, output, strict=True))
        output_width = max(output[1], PIXELS)
        reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
        row_width = max(corner[1] + width, (output_width - 1) * across + reach[1])
        own = channels // groups
        whole_rows = dilation[1] == 1 and groups == 1  # then a row of the window is one contiguous stretch
        columns = [0] if whole_rows else [v * dilation[1] * channels for v in range(window[1])]
        taps = [u * dilation[0] * row_width * channels + column for u in range(window[0]) for column in columns]
        runs = np.array([[tap + group * own for tap in taps] for group in range(groups)], np.int64)
        fitting = BUFFER_BYTES // (row_width * channels * x.itemsize)
        rows = max(min(rows, (fitting - reach[0]) // down + 1, output[0]) // side * side, side)
        run_length = window[1] * channels if whole_rows else own
        buffer_rows = (rows - 1) * down + reach[0]
        return cls(runs, run_length, window[1], row_width, output_width, rows, buffer_rows, down, across, *corner)


def pack_conv2d(weights: Array, groups: int = 1) -> Array:
    """Pack a kernel (kh, kw, c / groups, f) as (groups, blocks, kh * kw * c / groups, filter_block)."""
    parts = np.split(weights.reshape(-1, weights.shape[3]), groups, axis=1)
    return np.stack([pack_filters(np.ascontiguousarray(part)) for part in parts])


def pack_bias(bias: Array, groups: int = 1) -> Array:
    """Pack a bias (f,) as (groups, blocks, filter_block)."""
    return pack_conv2d(bias[None, None, None], groups)[:, :, 0]


def conv2d_direct(
    x: Array,
    packed: Array,
    packed_bias: Array,
    filters: int,
    window: Pair,
    strides: Pair,
    corner: Pair,
    output: Pair,
    dilation: Pair,
    epilogue: Epilogue,
    where: Array | None,
) -> Array:
    """Convolve frames with all threads; :func:`framecnn.kernels.reference.conv2d` is the definition.

    Error of each value at most ``(K + 2) eps conv(|x|, |w|)``, K = kh * kw * c / groups products.

    Shapes: x (n, h, w, c), packed (groups, blocks, K, block), packed_bias (groups, blocks, block), result
    (n, oh, ow, filters), where oh and ow are those of `output`, halved where the epilogue pools; `corner` is the
    border at the top and the left in pixels. `where`, unless it is None, has as many bytes as the result values, and is
    set to the numbers of the largest of what is pooled.
    """
    side, groups = epilogue.side, len(packed)
    row_work = output[1] * packed.size
    rows = round(CHUNK_WORK / row_work)
    plan = RowPlan.of(x, window, output, strides, corner, dilation, groups, rows, side)
    y = np.empty((len(x), *(length // side for length in output), filters), x.dtype)
    chunks = -(-y.shape[1] // (plan.rows // side))
    run(conv2d_forward, len(x) * chunks, plan.rows * row_work, (y, where), x, packed, packed_bias, plan, epilogue)
    return y


@kernel
def load_rows(buffer, x, n, first_row, left):
    """buffer (rows, width, c) = rows of x (batch, h, w, c) from first_row on, zeros outside; columns begin at left."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    flat, values = buffer.reshape(-1), x.reshape(-1)
    row_size = buffer.shape[1] * channels
    for r in range(buffer.shape[0]):
        row, to = first_row + r, r * row_size
        if 0 <= row < height:
            copy(flat, to + left * channels, values, (n * height + row) * width * channels, width * channels)
        else:
            clear(flat, to, row_size)


@kernel
def convolve_row(y, where, target, own, buffer, row, weights, bias, runs, plan, epilogue, width, filters, part):
    """y[target:], flat, = a row of `width` pixels of a block of filters, of which `own` count, `filters` apart.

    From buffer (rows, row_width, c) from `row` on; weights (blocks, K, block), bias (blocks, block), block number part.
    """
    _, products, block = weights.shape
    across, down = plan.stride_w * buffer.shape[2], plan.stride_h * plan.row_width * buffer.shape[2]
    slope = y.dtype.type(epilogue.slope)
    step = POOLED if epilogue.side == 2 else PIXELS
    for j in range(0, width, step):
        at = min(j, max(width - step, 0))
        to, start = target + at * filters, row * down + at * epilogue.side * across
        if epilogue.side == 2:
            pooled_block(
                y, where, to, filters, width - at, own, buffer, start, across, down, runs, plan.run_length,
                weights, part * products * block, bias, part * block, epilogue.activation, slope, epilogue.pooling,
            )  # fmt: skip
        else:
            convolved_block(
                y, where, to, filters, width - at, own, buffer, start, across, down, runs, plan.run_length,
                weights, part * products * block, bias, part * block, epilogue.activation, slope, epilogue.pooling,
            )  # fmt: skip


@kernel
def conv2d_forward(outputs, x, weights, bias, plan, epilogue, start, stop):
    """y (n, oh, ow, f) and where (size of y,), unless None, from x (n, h, w, c), weights (groups, blocks, K, block),
    bias (groups, blocks, block).

    Items are blocks of plan.rows rows, before pooling.
    """
    y, where = outputs
    height, width, filters = y.shape[1], y.shape[2], y.shape[3]
    side = epilogue.side
    groups, blocks, products, block = weights.shape
    rows = plan.rows // side
    row_blocks = (height + rows - 1) // rows
    buffer = np.zeros((plan.buffer_rows, plan.row_width, x.shape[3]), x.dtype)
    pixels = y.reshape(-1)
    packed, packed_bias = weights.reshape(-1, products, block), bias.reshape(-1, block)
    own = filters // groups
    for item in range(start, stop):
        n, first = item // row_blocks, item % row_blocks * rows
        load_rows(buffer, x, n, first * side * plan.stride_h - plan.top, plan.left)
        for part in range(groups * blocks):
            g, b = part // blocks, part % blocks
            for i in range(min(rows, height - first)):
                target = (n * height + first + i) * width * filters + g * own + b * block
                convolve_row(
                    pixels, where, target, own - b * block, buffer, i * side,
                    packed, packed_bias, plan.runs[g], plan, epilogue, width, filters, part,
                )  # fmt: skip
