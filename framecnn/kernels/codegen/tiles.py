"""Winograd's transforms of tiles; `transform` is an index of the table of transforms.

Positions and steps count elements of contiguous arrays; all reads and writes must lie inside the arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Flag, Integer, Pointer, Values, intrinsic
from framecnn.kernels.codegen.microkernel import VECTORS
from framecnn.kernels.codegen.transforms import TRANSFORMS, Matrix
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["gradient_tile", "input_tile", "kernel_gradient_tile", "kernel_tile", "output_tile"]


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _expand(emit: Emitter, matrix: Matrix, values: Sequence[Any]) -> list[Any]:
    """Return a transform (B^T, A or G) times vectors. Inner rows pair up: equal but for the signs of odd columns."""
    first, *inner, last = matrix
    result = [emit.combine(first, values)]
    for row in inner[::2]:
        even, odd = (emit.combine(row[start::2], values[start::2]) for start in (0, 1))
        result += [emit.builder.fadd(even, odd), emit.builder.fsub(even, odd)]
    return [*result, emit.combine(last, values)]


def _contract(emit: Emitter, matrix: Matrix, values: Sequence[Any]) -> list[Any]:
    """Return a transform (A^T or G^T) times vectors. Inner columns pair up: equal but for the signs of odd rows."""
    first, *inner, last = values
    pairs = list(zip(inner[::2], inner[1::2], strict=True))
    halves = [[combine(*pair) for pair in pairs] for combine in (emit.builder.fadd, emit.builder.fsub)]
    return [
        emit.combine((row[0], *row[1:-1:2], row[-1]), (first, *halves[index % 2], last))
        for index, row in enumerate(matrix)
    ]


def _dispatch(emit: Emitter, transform: Any, matrices: Sequence[Matrix], write: Callable[[Matrix], None]) -> None:
    """Emit code for each distinct matrix, and a switch to that of `transform`."""
    b = emit.builder
    done = b.append_basic_block("done")
    jump = b.switch(transform, done)
    for matrix in dict.fromkeys(matrices):
        with b.goto_block(b.append_basic_block("transform")):
            for index in (index for index, other in enumerate(matrices) if other == matrix):
                jump.add_case(INT64(index), b.block)
            write(matrix)
            b.branch(done)
    b.position_at_end(done)


def _expanding(matrices: Sequence[Matrix]) -> Callable[..., Any]:
    """Return the intrinsic that transforms a square of pixels d to ``T d T^T``, T a matrix of taps by pixels.

    From ``x[x_at + u row_step + v column_step + at + k]``, or from a patch with the same steps if not from_x, it
    sets ``y[y_at + (u taps + v) y_step + k]``, for k < channels, a multiple of the lanes.
    """

    @intrinsic
    def expand(
        emit: Emitter, transform: Integer, y: Pointer, y_step: Integer, from_x: Flag, x: Pointer, patch: Values,
        row_step: Integer, column_step: Integer, at: Integer, channels: Integer,
    ) -> None:  # fmt: skip
        """Transform the pixels of a tile, channel by channel."""
        b = emit.builder
        source = b.gep(b.select(from_x, x, patch), [at])

        def write(matrix: Matrix) -> None:
            taps, pixels = range(len(matrix)), range(len(matrix[0]))
            with cgutils.for_range_slice(b, INT64(0), channels, INT64(emit.lanes), INT64) as (channel, _):
                pixel, tap = b.gep(source, [channel]), b.gep(y, [channel])
                columns = [
                    _expand(emit, matrix, [emit.load(emit.at(pixel, (row_step, u), (column_step, v))) for u in pixels])
                    for v in pixels
                ]
                for u in taps:
                    line = _expand(emit, matrix, [columns[v][u] for v in pixels])
                    for v in taps:
                        emit.store(line[v], emit.at(tap, (y_step, u * len(taps) + v)))

        _dispatch(emit, transform, matrices, write)

    return expand


def _contracting(matrices: Sequence[Matrix]) -> Callable[..., Any]:
    """Return the intrinsic that computes a tile of ``side x side`` values, ``T m T^T + bias``, T of side by extent.

    From ``m[m_at + (u extent + v) m_step + f]`` it sets ``y[(i side + j) filter_block + f]``.
    """

    @intrinsic
    def contract(emit: Emitter, transform: Integer, y: Values, m: Pointer, m_step: Integer, bias: Pointer) -> None:
        """Transform the products of a tile and a block of filters back."""

        def write(matrix: Matrix) -> None:
            side, taps = len(matrix), range(len(matrix[0]))
            for vector in range(VECTORS):
                columns = [
                    _contract(emit, matrix, [emit.load(emit.at(m, (m_step, u * len(taps) + v)), vector) for u in taps])
                    for v in taps
                ]
                shift = emit.load(bias, vector)
                for u in range(side):
                    line = _contract(emit, matrix, [columns[v][u] for v in taps])
                    for v in range(side):
                        emit.store(emit.builder.fadd(line[v], shift), y, (u * side + v) * VECTORS + vector)

        _dispatch(emit, transform, matrices, write)

    return contract


input_tile = _expanding([transform.input for transform in TRANSFORMS])
kernel_tile = _expanding([transform.kernel for transform in TRANSFORMS])
gradient_tile = _expanding([_transposed(transform.output) for transform in TRANSFORMS])
output_tile = _contracting([transform.output for transform in TRANSFORMS])
kernel_gradient_tile = _contracting([_transposed(transform.kernel) for transform in TRANSFORMS])
