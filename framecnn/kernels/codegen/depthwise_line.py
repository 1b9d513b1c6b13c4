"""Lines of a depthwise convolution: a vector holds channels, each with kernels of its own.

A block of adjacent windows is in registers while their taps are walked. Positions and steps count elements of
contiguous arrays; all reads and writes must lie inside the arrays.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Integer, Pointer, Scalar, intrinsic
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["ANY_TAPS", "FORMS", "accumulate_line", "convolve_line"]

WINDOWS = 7  # in a block; the maps of frames of 224 x 224 pixels are multiples of 7 wide


class Form(NamedTuple):
    """Windows of `size` adjacent pixels, `stride` pixels apart, which share the vectors that they have in common.

    With size 0, windows of any number of pixels and any steps.
    """

    size: int
    stride: int


FORMS = (Form(0, 0), Form(1, 1), Form(2, 1), Form(3, 1), Form(5, 1), Form(3, 2), Form(5, 2))
ANY_TAPS = 0  # in FORMS


class Taps(NamedTuple):
    """The pixels and the kernel's values that a block reads, for one vector of channels: LLVM values.

    Window p has the pixels ``x + u row_step + (first + p stride + v dilation) x_step`` and the values
    ``kernel + u kernel_row + v kernel_tap``, for u < n_rows, v < n_taps; pixels outside ``range(width)`` are `zeros`.
    """

    x: Any
    first: Any
    stride: Any
    dilation: Any
    width: Any
    x_step: Any
    row_step: Any
    n_rows: Any
    n_taps: Any
    kernel: Any
    kernel_row: Any
    kernel_tap: Any
    zeros: Any


@intrinsic
def convolve_line(
    emit: Emitter, form: Integer, y: Pointer, y_step: Integer, length: Integer, channels: Integer, x: Pointer,
    before: Integer, stride: Integer, dilation: Integer, width: Integer, x_step: Integer, row_step: Integer,
    n_rows: Integer, n_taps: Integer, kernel: Pointer, kernel_row: Integer, kernel_tap: Integer, zeros: Pointer,
    bias: Pointer, function: Integer, negative_slope: Scalar,
) -> None:  # fmt: skip
    """Convolve a line of `length` windows.

    For k < channels, ``y[y_at + j y_step + k]`` becomes the activated sum of ``bias[bias_at + k]`` and of
    ``x[x_at + u row_step + (j stride + before + v dilation) x_step + k]`` times
    ``kernel[kernel_at + u kernel_row + v kernel_tap + k]``, for u < n_rows, v < n_taps, row by row. Pixels outside
    ``range(width)`` are zeros, of which `zeros` has a vector. `form` is the index of one of FORMS that fits. Pixels of
    x, kernel and bias have a vector of channels at least.
    """
    b = emit.builder
    sums = [cgutils.alloca_once(b, emit.vector) for _ in range(WINDOWS)]  # LLVM keeps them in registers
    with _blocks(emit, length, channels) as (_, j, _, k):
        start, to = emit.load(b.gep(bias, [k])), b.gep(y, [b.add(b.mul(j, y_step), k)])
        for total in sums:
            b.store(start, total)
        taps = Taps(
            b.gep(x, [k]), b.add(b.mul(j, stride), before), stride, dilation, width, x_step, row_step, n_rows, n_taps,
            b.gep(kernel, [k]), kernel_row, kernel_tap, zeros,
        )  # fmt: skip
        _walk(emit, form, taps, sums, wrt_kernel=False)
        values = emit.activated([b.load(total) for total in sums], function, negative_slope)
        for p, value in enumerate(values):
            with b.if_then(b.icmp_signed("<", b.add(j, INT64(p)), length)):
                emit.store_block([value], emit.at(to, (y_step, p)), channels)


@intrinsic
def accumulate_line(
    emit: Emitter, form: Integer, dkernel: Pointer, kernel_row: Integer, kernel_tap: Integer, dbias: Pointer,
    dy: Pointer, dy_step: Integer, length: Integer, channels: Integer, x: Pointer, before: Integer, stride: Integer,
    dilation: Integer, width: Integer, x_step: Integer, row_step: Integer, n_rows: Integer, n_taps: Integer,
    zeros: Pointer,
) -> None:  # fmt: skip
    """Add the gradients of a line of `length` windows with respect to the kernel and the bias.

    ``dkernel[dkernel_at + u kernel_row + v kernel_tap + k]`` grows by the sum over j < length of
    ``x[x_at + u row_step + (j stride + before + v dilation) x_step + k] dy[dy_at + j dy_step + k]``, and
    ``dbias[dbias_at + k]`` by that of dy, for the channels k of whole vectors. The last vector of x and dy ends at the
    last channel. Other parameters are those of :func:`convolve_line`; pixels of dy have a vector of channels at least.
    """
    b = emit.builder
    gradients = [cgutils.alloca_once(b, emit.vector) for _ in range(WINDOWS)]
    with _blocks(emit, length, channels) as (new, j, channel, k):
        at, total_at = b.gep(dy, [b.add(b.mul(j, dy_step), k)]), b.gep(dbias, [channel])
        total = emit.load(total_at)
        for p, gradient in enumerate(gradients):
            window = b.add(j, INT64(p))
            is_new = b.and_(b.icmp_signed(">=", window, new), b.icmp_signed("<", window, length))
            value = emit.load(b.select(is_new, emit.at(at, (dy_step, p)), zeros))
            b.store(value, gradient)
            total = b.fadd(total, value)
        emit.store(total, total_at)
        taps = Taps(
            b.gep(x, [k]), b.add(b.mul(j, stride), before), stride, dilation, width, x_step, row_step, n_rows, n_taps,
            b.gep(dkernel, [channel]), kernel_row, kernel_tap, zeros,
        )  # fmt: skip
        _walk(emit, form, taps, gradients, wrt_kernel=True)


@contextmanager
def _blocks(emit: Emitter, length: Any, channels: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Loop over blocks of windows and vectors of channels: (first new window, first window, first new channel, first).

    The last block and vector begin earlier, if they can, to end at the last window and channel.
    """
    b = emit.builder
    last_window, last_channel = (
        b.select(b.icmp_signed(">", size, INT64(width)), b.sub(size, INT64(width)), INT64(0))
        for size, width in ((length, WINDOWS), (channels, emit.lanes))
    )
    with cgutils.for_range_slice(b, INT64(0), length, INT64(WINDOWS), INT64) as (window, _):
        j = b.select(b.icmp_signed("<", window, last_window), window, last_window)
        with cgutils.for_range_slice(b, INT64(0), channels, INT64(emit.lanes), INT64) as (channel, _):
            yield window, j, channel, b.select(b.icmp_signed("<", channel, last_channel), channel, last_channel)


def _walk(emit: Emitter, form: Any, taps: Taps, windows: Sequence[Any], wrt_kernel: bool) -> None:
    """Add up the products of a block, in the code of its form.

    `windows` points to a vector for each window. These grow by pixels times the kernel's values or, if `wrt_kernel`,
    the kernel's values grow by pixels times these.
    """
    b = emit.builder

    def unchecked(row: Any, column: Any) -> Any:
        return emit.load(b.gep(row, [b.mul(column, taps.x_step)]))

    def checked(row: Any, column: Any) -> Any:
        is_inside = b.icmp_unsigned("<", column, taps.width)
        return emit.load(b.select(is_inside, b.gep(row, [b.mul(column, taps.x_step)]), taps.zeros))

    done = b.append_basic_block("done")
    jump = b.switch(form, done)
    for index, shape in enumerate(FORMS):
        with b.goto_block(b.append_basic_block("form")):
            jump.add_case(INT64(index), b.block)
            if shape.size:
                end = b.add(taps.first, INT64((WINDOWS - 1) * shape.stride + shape.size))
                is_inside = b.and_(b.icmp_signed(">=", taps.first, INT64(0)), b.icmp_signed("<=", end, taps.width))
                with b.if_else(is_inside) as (inside, at_border):
                    with inside:
                        _walk_adjacent(emit, shape, taps, windows, unchecked, wrt_kernel)
                    with at_border:
                        _walk_adjacent(emit, shape, taps, windows, checked, wrt_kernel)
            else:
                _walk_any(emit, taps, windows, checked, wrt_kernel)
            b.branch(done)
    b.position_at_end(done)


def _walk_adjacent(
    emit: Emitter, shape: Form, taps: Taps, windows: Sequence[Any], read: Callable[..., Any], wrt_kernel: bool
) -> None:
    """Walk row after row: each vector of pixels is read once and serves all windows over it."""
    b = emit.builder
    with cgutils.for_range(b, taps.n_rows) as u:
        row, kernel = (
            b.gep(taps.x, [b.mul(u.index, taps.row_step)]),
            b.gep(taps.kernel, [b.mul(u.index, taps.kernel_row)]),
        )
        values = [emit.load(emit.at(kernel, (taps.kernel_tap, v))) for v in range(shape.size)]
        for q in range((WINDOWS - 1) * shape.stride + shape.size):
            pixel = read(row, b.add(taps.first, INT64(q)))
            for p, window in enumerate(windows):
                v = q - p * shape.stride
                if v in range(shape.size) and wrt_kernel:
                    values[v] = emit.fma(pixel, b.load(window), values[v])
                elif v in range(shape.size):
                    b.store(emit.fma(pixel, values[v], b.load(window)), window)
        for v in range(shape.size) if wrt_kernel else ():
            emit.store(values[v], emit.at(kernel, (taps.kernel_tap, v)))


def _walk_any(emit: Emitter, taps: Taps, windows: Sequence[Any], read: Callable[..., Any], wrt_kernel: bool) -> None:
    """Walk row after row, tap after tap."""
    b = emit.builder
    with cgutils.for_range(b, taps.n_rows) as u, cgutils.for_range(b, taps.n_taps) as v:
        row, kernel = (
            b.gep(taps.x, [b.mul(u.index, taps.row_step)]),
            b.gep(taps.kernel, [b.mul(u.index, taps.kernel_row)]),
        )
        at = b.gep(kernel, [b.mul(v.index, taps.kernel_tap)])
        value, column = emit.load(at), b.add(taps.first, b.mul(v.index, taps.dilation))
        for p, window in enumerate(windows):
            pixel = read(row, b.add(column, b.mul(taps.stride, INT64(p))))
            if wrt_kernel:
                value = emit.fma(pixel, b.load(window), value)
            else:
                b.store(emit.fma(pixel, value, b.load(window)), window)
        if wrt_kernel:
            emit.store(value, at)
