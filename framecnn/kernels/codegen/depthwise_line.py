"""Lines of a depthwise convolution: a vector holds channels, each with kernels of its own.

Positions and steps count elements of contiguous arrays; all reads and writes must lie inside the arrays.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Integer, Pointer, Scalar, intrinsic
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["ANY_TAPS", "FORMS", "depthwise_line"]

LINE_PIXELS = 7  # sums in registers; maps of 224 x 224 frames are multiples of 7 wide


class Form(NamedTuple):
    """Windows of `size` adjacent pixels, `stride` pixels apart, which share the vectors of pixels in common.

    With size 0, windows of any number of pixels and any steps.
    """

    size: int
    stride: int


FORMS = (Form(0, 0), *(Form(size, stride) for size in (3, 5) for stride in (1, 2)))
ANY_TAPS = 0  # in FORMS


class Taps(NamedTuple):
    """What :func:`depthwise_line` adds up, for one vector of channels: LLVM values named as its parameters."""

    x: Any
    before: Any
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
def depthwise_line(
    emit: Emitter, form: Integer, y: Pointer, y_step: Integer, length: Integer, channels: Integer, x: Pointer,
    before: Integer, stride: Integer, dilation: Integer, width: Integer, x_step: Integer, row_step: Integer,
    n_rows: Integer, n_taps: Integer, kernel: Pointer, kernel_row: Integer, kernel_tap: Integer, zeros: Pointer,
    bias: Pointer, function: Integer, negative_slope: Scalar,
) -> None:  # fmt: skip
    """Convolve a line of `length` pixels.

    For k < channels, ``y[y_at + j y_step + k]`` becomes the activated sum of ``bias[bias_at + k]`` and of
    ``x[x_at + u row_step + (j stride + before + v dilation) x_step + k]`` times
    ``kernel[kernel_at + u kernel_row + v kernel_tap + k]``, for u < n_rows, v < n_taps, row by row. Pixels outside
    ``range(width)`` are zeros, of which `zeros` has a vector. `form` is the index of one of FORMS that fits. Pixels of
    x, kernel and bias have a vector of channels at least.
    """
    b = emit.builder
    activate = emit.activation(function, negative_slope)
    last_pixel = _at_least_0(emit, b.sub(length, INT64(LINE_PIXELS)))
    last_vector = _at_least_0(emit, b.sub(channels, INT64(emit.lanes)))
    sums = [cgutils.alloca_once(b, emit.vector) for _ in range(LINE_PIXELS)]  # LLVM keeps them in registers
    with cgutils.for_range_slice(b, INT64(0), length, INT64(LINE_PIXELS), INT64) as (pixel, _):
        j = _smaller(emit, pixel, last_pixel)
        with cgutils.for_range_slice(b, INT64(0), channels, INT64(emit.lanes), INT64) as (channel, _):
            k = _smaller(emit, channel, last_vector)
            start, to = emit.load(b.gep(bias, [k])), b.gep(y, [b.add(b.mul(j, y_step), k)])
            for total in sums:
                b.store(start, total)
            taps = Taps(
                b.gep(x, [k]), before, stride, dilation, width, x_step, row_step, n_rows, n_taps,
                b.gep(kernel, [k]), kernel_row, kernel_tap, zeros,
            )  # fmt: skip
            _add_taps(emit, form, sums, taps, b.add(b.mul(j, stride), before))
            for p, total in enumerate(sums):
                with b.if_then(b.icmp_signed("<", b.add(j, INT64(p)), length)):
                    emit.store_block([activate(b.load(total))], emit.at(to, (y_step, p)), channels)


def _smaller(emit: Emitter, a: Any, b: Any) -> Any:
    return emit.builder.select(emit.builder.icmp_signed("<", a, b), a, b)


def _at_least_0(emit: Emitter, value: Any) -> Any:
    return emit.builder.select(emit.builder.icmp_signed(">", value, INT64(0)), value, INT64(0))


def _add_taps(emit: Emitter, form: Any, sums: list[Any], taps: Taps, first: Any) -> None:
    """Add the products of a block whose windows begin at column `first`, in the code of its form."""
    b = emit.builder
    done = b.append_basic_block("done")
    jump = b.switch(form, done)
    for index, shape in enumerate(FORMS):
        with b.goto_block(b.append_basic_block("form")):
            jump.add_case(INT64(index), b.block)
            if shape.size:
                columns = (LINE_PIXELS - 1) * shape.stride + shape.size
                lies_inside = b.and_(
                    b.icmp_signed(">=", first, INT64(0)),
                    b.icmp_signed("<=", b.add(first, INT64(columns)), taps.width),
                )
                with b.if_else(lies_inside) as (inside, at_border):
                    with inside:
                        _add_adjacent(emit, shape, columns, sums, taps, first, _unchecked(emit, taps))
                    with at_border:
                        _add_adjacent(emit, shape, columns, sums, taps, first, _checked(emit, taps))
            else:
                _add_any(emit, sums, taps, first, _checked(emit, taps))
            b.branch(done)
    b.position_at_end(done)


Read = Callable[[Any, Any], Any]
"""A function that loads the vector at a column of a row, given the pointer to the row."""


def _unchecked(emit: Emitter, taps: Taps) -> Read:
    b = emit.builder
    return lambda row, column: emit.load(b.gep(row, [b.mul(column, taps.x_step)]))


def _checked(emit: Emitter, taps: Taps) -> Read:
    b = emit.builder

    def read(row: Any, column: Any) -> Any:
        lies_inside = b.icmp_unsigned("<", column, taps.width)
        return emit.load(b.select(lies_inside, b.gep(row, [b.mul(column, taps.x_step)]), taps.zeros))

    return read


def _add_adjacent(
    emit: Emitter, shape: Form, columns: int, sums: list[Any], taps: Taps, first: Any, read: Read
) -> None:
    """Add row after row of products: each of the `columns` vectors is loaded once and serves all windows over it."""
    b = emit.builder
    with cgutils.for_range(b, taps.n_rows) as u:
        row, kernel = b.gep(taps.x, [b.mul(u.index, taps.row_step)]), b.gep(taps.kernel, [b.mul(u.index, taps.kernel_row)])
        weights = [emit.load(emit.at(kernel, (taps.kernel_tap, v))) for v in range(shape.size)]
        for q in range(columns):
            value = read(row, b.add(first, INT64(q)))
            for p, total in enumerate(sums):
                if 0 <= q - p * shape.stride < shape.size:
                    b.store(emit.fma(value, weights[q - p * shape.stride], b.load(total)), total)


def _add_any(emit: Emitter, sums: list[Any], taps: Taps, first: Any, read: Read) -> None:
    """Add row after row of products, tap after tap."""
    b = emit.builder
    with cgutils.for_range(b, taps.n_rows) as u, cgutils.for_range(b, taps.n_taps) as v:
        row, kernel = b.gep(taps.x, [b.mul(u.index, taps.row_step)]), b.gep(taps.kernel, [b.mul(u.index, taps.kernel_row)])
        weight = emit.load(b.gep(kernel, [b.mul(v.index, taps.kernel_tap)]))
        column = b.add(first, b.mul(v.index, taps.dilation))
        for p, total in enumerate(sums):
            value = read(row, b.add(column, b.mul(taps.stride, INT64(p))))
            b.store(emit.fma(value, weight, b.load(total)), total)
