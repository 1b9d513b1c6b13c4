"""Gradients of convolutions: a convolution with respect to the input, outer products with respect to the kernel."""

from typing import Any

import numpy as np

from framecnn.geometry import Pair, Window
from framecnn.kernels.buffers import empty
from framecnn.kernels.conv2d import DEPTHWISE, PackedConv
from framecnn.kernels.depthwise import conv2d_depthwise_wrt_input
from framecnn.kernels.depthwise_backward import depthwise_gradients, depthwise_sums, depthwise_sums_shape
from framecnn.kernels.direct_backward import direct_gradients, direct_sums, direct_sums_shape
from framecnn.kernels.gradients import Gradients
from framecnn.kernels.strided_backward import StridedConv, convolve_transposed, flip, strided_wrt_input
from framecnn.kernels.threads import not_recorded, ordered_map
from framecnn.kernels.winograd_backward import winograd_gradients, winograd_sums, winograd_sums_shape
from framecnn.typing import Array

__all__ = ["conv2d_backward", "conv2d_backward_wrt_input", "pack_flipped"]

Flipped = PackedConv | StridedConv

PART_WORK = 40_000_000  # multiply-adds for which a separate part pays off
DEPTHWISE_PART_WORK = 2_000_000  # each of which takes longer, and the sums of a part are few
FEWEST_PARTS, MOST_PARTS = 4, 8  # limits of the number of parts; their sums are added in a fixed order
PART_BYTES = 4 * 1024 * 1024  # of gradients held at a time, so that they stay in the last-level cache


def pack_flipped(
    algorithm: str, kernel: Array, groups: int, strides: Pair = (1, 1), dilation: Pair = (1, 1)
) -> Flipped:
    """Return a kernel (kh, kw, c / groups, f) packed for the input gradient: flipped, with channels and filters
    swapped; for "depthwise" as it is."""
    if algorithm == "depthwise":
        return PackedConv.of(algorithm, kernel, None, groups)
    if strides != (1, 1) and dilation == (1, 1):
        return StridedConv.of(kernel, strides, groups)
    return PackedConv.of(algorithm, flip(kernel, groups), None, groups)


def conv2d_backward(
    x: Array, gradients: Gradients, packed: PackedConv, flipped: Flipped | None, window: Window
) -> tuple[Any, Array, Array]:
    """Return the gradients with respect to x, kernel and bias; the first is None if `flipped` is None.

    :func:`framecnn.kernels.reference.conv2d_backward` is the definition. After pooling, frames are processed in parts,
    so that the map of gradients before it is never in memory as a whole. Parts and sums follow from shapes alone, so
    the bits do not depend on the number of threads.

    Shapes: x (n, h, w, c), gradients of (n, oh, ow, f), results as x, (kh, kw, c / groups, f) and (f,).
    """
    n, channels = len(x), x.shape[3] // packed.groups
    rows, columns = window.output
    frame_bytes = rows * columns * packed.filters * x.itemsize
    size = max(-(-n // MOST_PARTS), min(PART_BYTES // frame_bytes, -(-n // FEWEST_PARTS)), 1)
    slices = [slice(start, start + size) for start in range(0, max(n, 1), size)]
    work = size * rows * columns * window.kernel[0] * window.kernel[1] * channels * packed.filters
    part_work = DEPTHWISE_PART_WORK if packed.algorithm == DEPTHWISE else PART_WORK
    parts = min(max(work // part_work, 1), max(MOST_PARTS // len(slices), 1))
    is_direct = packed.algorithm == 0 or (packed.groups > 1 and packed.algorithm != DEPTHWISE)
    shape_of, finish = direct_sums_shape, direct_gradients
    if not is_direct:
        shape_of, write, finish = (
            (depthwise_sums_shape, depthwise_sums, depthwise_gradients)
            if packed.algorithm == DEPTHWISE
            else (winograd_sums_shape, winograd_sums, winograd_gradients)
        )
    sums = empty(shape_of(packed, window, channels, parts * len(slices)), x.dtype)

    def backward(frames: slice, sums: Array) -> Any:
        """Write the sums of some frames; return the gradient with respect to them, or None."""
        selected = gradients.select(frames)
        if flipped is not None or not is_direct:
            selected = Gradients(selected.unpooled(window.output))
        if not is_direct:
            write(x[frames], selected.dy, packed, window, sums, size)
        else:
            direct_sums(x[frames], selected, packed, window, sums, size)
        return None if flipped is None else conv2d_backward_wrt_input(selected.dy, flipped, window, x.shape[3])

    if not gradients.is_pooled:
        dx = backward(slice(n), sums)
    else:
        dx = None if flipped is None else empty(x.shape, x.dtype)

        def backward_in_place(index: int) -> None:
            part = backward(slices[index], sums[index * parts : (index + 1) * parts])
            if dx is not None:
                dx[slices[index]] = part

        ordered_map(backward_in_place, range(len(slices)))
    return dx, *finish(sums, packed, window, channels)


def conv2d_backward_wrt_input(dy: Array, flipped: Flipped, window: Window, channels: int) -> Array:
    """Return the gradient with respect to the input: dy, spread by the strides and convolved with the flipped kernel.

    Shapes: dy (n, oh, ow, f), result (n, h, w, channels).
    """
    if isinstance(flipped, StridedConv) or flipped.algorithm == DEPTHWISE:
        dx = empty((len(dy), *window.frame, channels), dy.dtype)
        if isinstance(flipped, StridedConv):
            strided_wrt_input(dy, flipped, window, dx)
        else:
            conv2d_depthwise_wrt_input(dy, flipped.weights, window, dx)
        return dx
    if window.strides != (1, 1):
        not_recorded()
        spread = np.zeros((len(dy), *window.transposed().frame, dy.shape[3]), dy.dtype)
        spread[:, :: window.strides[0], :: window.strides[1]] = dy
        dy = spread
    return convolve_transposed(dy, flipped, window)
