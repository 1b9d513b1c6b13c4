"""Lines of a depthwise convolution: a vector holds channels, each with kernels of its own.

Positions and steps count elements of contiguous arrays; all reads and writes must lie inside the arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Integer, Pointer, Scalar, intrinsic
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["ANY_TAPS", "FORMS", "depthwise_line"]

PIXELS = 7  # adjacent sums in registers: frames of 224 x 224 are halved to multiples of 7


class Form(NamedTuple):
    """Windows of `size` adjacent pixels in a row, `stride` pixels apart, so that neighbours share pixels.

    With size 0, any number of pixels and any steps.
    """

    size: int
    stride: int


FORMS = (Form(0, 0), *(Form(size, stride) for size in (3, 5) for stride in (1, 2)))
ANY_TAPS = 0  # in FORMS


class Window(NamedTuple):
    """The pixels and taps that a line adds up; LLVM values."""

    before: Any
    stride: Any
    dilation: Any
    width: Any
    x_step: Any
    row_step: Any
    n_rows: Any
    n_taps: Any
    kernel_row: Any
    kernel_tap: Any


@intrinsic
def depthwise_line(
    emit: Emitter, form: Integer, y: Pointer, y_step: Integer, length: Integer, n_valid: Integer, x: Pointer,
    before: Integer, stride: Integer, dilation: Integer, width: Integer, x_step: Integer, row_step: Integer,
    n_rows: Integer, n_taps: Integer, kernel: Pointer, kernel_row: Integer, kernel_tap: Integer, bias: Pointer,
    zeros: Pointer, function: Integer, negative_slope: Scalar,
) -> None:  # fmt: skip
    """Convolve a line of `length` pixels for one vector of channels, and write the first `n_valid` of them.

    ``y[y_at + j y_step + k]`` becomes the activated sum of ``bias[bias_at + k]`` and of
    ``x[x_at + u row_step + (j stride + before + v dilation) x_step + k]`` times
    ``kernel[kernel_at + u kernel_row + v kernel_tap + k]``, for u < n_rows, v < n_taps, row by row; pixels outside
    [0, width) count as zeros, of which `zeros` has a vector. `form` is an index in FORMS that fits.
    """
    b = emit.builder
    activate = emit.activation(function, negative_slope)
    window = Window(before, stride, dilation, width, x_step, row_step, n_rows, n_taps, kernel_row, kernel_tap)
    start = emit.load(bias)
    last = b.sub(length, INT64(PIXELS))
    last = b.select(b.icmp_signed("<", last, INT64(0)), INT64(0), last)
    done = b.append_basic_block("done")
    jump = b.switch(form, done)
    for index, shape in enumerate(FORMS):
        with b.goto_block(b.append_basic_block("form")):
            jump.add_case(INT64(index), b.block)
            with cgutils.for_range_slice(b, INT64(0), length, INT64(PIXELS), INT64) as (position, _):
                j = b.select(b.icmp_signed("<", position, last), position, last)
                _write_block(emit, shape, j, y, y_step, length, n_valid, x, kernel, start, zeros, window, activate)
            b.branch(done)
    b.position_at_end(done)


def _write_block(emit, shape, j, y, y_step, length, n_valid, x, kernel, start, zeros, window, activate):
    b = emit.builder
    first = b.add(b.mul(j, window.stride), window.before)
    to = b.gep(y, [b.mul(j, y_step)])
    extent = b.add(b.mul(window.stride, INT64(PIXELS - 1)), b.mul(b.sub(window.n_taps, INT64(1)), window.dilation))
    inside = b.and_(
        b.icmp_signed(">=", first, INT64(0)),
        b.and_(
            b.icmp_signed("<", b.add(first, extent), window.width),
            b.icmp_signed("<=", b.add(j, INT64(PIXELS)), length),
        ),
    )
    if shape.size:
        with b.if_else(inside) as (then, other):
            with then:
                sums = _sums(emit, shape, start, x, kernel, zeros, first, window, False)
                for p, total in enumerate(sums):
                    emit.store_block([activate(total)], emit.at(to, (y_step, p)), n_valid)
            with other:
                edge(emit, shape, start, x, kernel, zeros, first, window, length, j, to, y_step, n_valid, activate)
    else:
        edge(emit, shape, start, x, kernel, zeros, first, window, length, j, to, y_step, n_valid, activate)


def edge(emit, shape, start, x, kernel, zeros, first, window, length, j, to, y_step, n_valid, activate):
    b = emit.builder
    sums = _sums(emit, shape, start, x, kernel, zeros, first, window, True)
    for p, total in enumerate(sums):
        with b.if_then(b.icmp_signed("<", b.add(j, INT64(p)), length)):
            emit.store_block([activate(total)], emit.at(to, (y_step, p)), n_valid)


def _sums(
    emit: Emitter, shape: Form, start: Any, x: Any, kernel: Any, zeros: Any, first: Any, window: Window, checked
) -> list[Any]:
    """Return the sums of the pixels of a block for one vector of channels."""
    b = emit.builder
    sums = [cgutils.alloca_once(b, emit.vector) for _ in range(PIXELS)]  # LLVM keeps them in registers
    for total in sums:
        b.store(start, total)

    def add(p: int, value: Any, weight: Any) -> None:
        b.store(emit.fma(value, weight, b.load(sums[p])), sums[p])

    def pixel(line: Any, column: Any) -> Any:
        at = b.gep(line, [b.mul(column, window.x_step)])
        if checked:
            at = b.select(b.icmp_unsigned("<", column, window.width), at, zeros)
        return emit.load(at)

    with cgutils.for_range(b, window.n_rows) as row:
        line, weights = (b.gep(p, [b.mul(row.index, step)]) for p, step in ((x, window.row_step), (kernel, window.kernel_row)))
        if shape.size:
            taps = [emit.load(emit.at(weights, (window.kernel_tap, v))) for v in range(shape.size)]
            for q in range((PIXELS - 1) * shape.stride + shape.size):
                value = pixel(line, b.add(first, INT64(q)))
                for p in range(PIXELS):
                    if 0 <= q - p * shape.stride < shape.size:
                        add(p, value, taps[q - p * shape.stride])
        else:
            with cgutils.for_range(b, window.n_taps) as column:
                weight = emit.load(b.gep(weights, [b.mul(column.index, window.kernel_tap)]))
                tap = b.add(first, b.mul(column.index, window.dilation))
                for p in range(PIXELS):
                    add(p, pixel(line, b.add(tap, b.mul(window.stride, INT64(p)))), weight)
    return [b.load(total) for total in sums]
