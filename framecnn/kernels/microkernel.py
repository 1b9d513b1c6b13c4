"""The register-blocked inner product and the transforms of Winograd: every vector instruction of the package.

A block of pixels times a block of filters stays in registers while the products run: each kernel vector that is
loaded serves all pixels, each pixel value that is broadcast serves all filters. Numba's autovectoriser does not find
this form, hence the explicit instructions.

Positions and steps count elements of contiguous arrays; all that is read or written must lie inside them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from framecnn.kernels.jit import REGISTER_BLOCK, VECTOR_BYTES, cpu_kind
from framecnn.typing import Array

__all__ = [
    "INPUT_TRANSFORM",
    "LEAKY_RELU",
    "NO_ACTIVATION",
    "OUTPUT_TRANSFORM",
    "PIXELS",
    "RELU",
    "filter_block",
    "input_tile_2",
    "input_tile_4",
    "lanes",
    "multiply_block",
    "multiply_pixel",
    "output_tile_2",
    "output_tile_4",
    "pack_filters",
    "pool_window",
]

PIXELS, VECTORS = REGISTER_BLOCK
INT32, INT64 = ir.IntType(32), ir.IntType(64)
NO_ACTIVATION, RELU, LEAKY_RELU = 0, 1, 2

INPUT_TRANSFORM = {  # B^T of Lavin & Gray (2016), by rows of the output tile
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
OUTPUT_TRANSFORM = {  # A^T
    2: ((1, 1, 1, 0), (0, 1, -1, 1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}


def lanes(dtype: Any) -> int:
    """Give how many values of `dtype` a vector register holds.

    Examples
    --------
    >>> lanes(np.float32) == 2 * lanes(np.float64)
    True
    """
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def filter_block(dtype: Any) -> int:
    """Give how many filters of `dtype` the register block holds.

    Examples
    --------
    >>> filter_block(np.float32) == 2 * filter_block(np.float64)
    True
    """
    return VECTORS * lanes(dtype)


def pack_filters(kernel: Array) -> Array:
    """Reorder a kernel so that the filters of a register block lie side by side, the last block filled with zeros.

    Parameters
    ----------
    kernel : (products, filters) array

    Returns
    -------
    (blocks, products, filter_block) array
    """
    products, filters = kernel.shape
    block = filter_block(kernel.dtype)
    padded = np.zeros((products, -(-filters // block) * block), kernel.dtype)
    padded[:, :filters] = kernel
    return np.ascontiguousarray(padded.reshape(products, -1, block).transpose(1, 0, 2))


class _Emitter:
    """Writes vector instructions for one element type at the builder's place."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: Any):
        self.context, self.builder = context, builder
        self.scalar = context.get_data_type(kind.dtype)
        self.itemsize = kind.dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.itemsize
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zero = self.constant(0)
        name = "fmuladd" if cpu_kind() == "plain" else "fma"  # without FMA hardware, llvm.fma is a slow library call
        suffix = f"v{self.lanes}f{kind.dtype.bitwidth}"
        operands = ir.FunctionType(self.vector, [self.vector] * 3)
        self._fma = cgutils.get_or_insert_function(builder.module, operands, f"llvm.{name}.{suffix}")

    def array(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, value)

    def pointer(self, kind: Any, value: Any, position: Any) -> Any:
        return self.builder.gep(self.array(kind, value).data, [position])

    def at(self, pointer: Any, *steps: tuple[Any, int]) -> Any:
        """Give the pointer so many times further on, step by step."""
        for step, times in steps:
            pointer = self.builder.gep(pointer, [self.builder.mul(step, INT64(times))])
        return pointer

    def load(self, pointer: Any, vector: int = 0) -> Any:
        return self.builder.load(self._vector_pointer(pointer, vector), align=self.itemsize)

    def store(self, value: Any, pointer: Any, vector: int = 0) -> None:
        self.builder.store(value, self._vector_pointer(pointer, vector), align=self.itemsize)

    def _vector_pointer(self, pointer: Any, vector: int) -> Any:
        place = self.builder.gep(pointer, [INT64(vector * self.lanes)])
        return self.builder.bitcast(place, self.vector.as_pointer())

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.lanes)

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, INT32(0))
        first = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, first)

    def fma(self, factor: Any, value: Any, total: Any) -> Any:
        return self.builder.call(self._fma, [factor, value, total])

    def combine(self, factors: Sequence[float], values: Sequence[Any]) -> Any:
        """Add up factors times vectors; a vector with the factor one, where there is one, comes first."""
        terms = [(factor, value) for factor, value in zip(factors, values, strict=True) if factor]
        terms.sort(key=lambda term: term[0] != 1)
        (factor, value), *rest = terms
        total = value if factor == 1 else self.builder.fmul(self.constant(factor), value)
        for factor, value in rest:
            match factor:
                case 1:
                    total = self.builder.fadd(total, value)
                case -1:
                    total = self.builder.fsub(total, value)
                case _:
                    total = self.fma(self.constant(factor), value, total)
        return total

    def transform_input(self, side: int, values: Sequence[Any]) -> list[Any]:
        """Multiply B^T by vectors. Inner rows come in pairs that differ in the sign of their odd columns only."""
        first, *inner, last = INPUT_TRANSFORM[side]
        result = [self.combine(first, values)]
        for row in inner[::2]:
            even, odd = (self.combine(row[start::2], values[start::2]) for start in (0, 1))
            result += [self.builder.fadd(even, odd), self.builder.fsub(even, odd)]
        return [*result, self.combine(last, values)]

    def transform_output(self, side: int, values: Sequence[Any]) -> list[Any]:
        """Multiply A^T by vectors. Inner columns come in pairs that differ in the sign of their odd rows only."""
        first, *inner, last = values
        pairs = list(zip(inner[::2], inner[1::2], strict=True))
        halves = [[combine(*pair) for pair in pairs] for combine in (self.builder.fadd, self.builder.fsub)]
        return [
            self.combine((row[0], *row[1:-1:2], row[-1]), (first, *halves[number % 2], last))
            for number, row in enumerate(OUTPUT_TRANSFORM[side])
        ]

    def activation(self, function: Any, slope: Any) -> Callable[[Any], Any]:
        """Give what applies an activation, known only when running, to a vector."""
        b = self.builder
        slopes = self.broadcast(slope)
        none, leaky = (b.icmp_signed("==", function, INT64(code)) for code in (NO_ACTIVATION, LEAKY_RELU))

        def apply(value: Any) -> Any:
            below = b.select(none, value, b.select(leaky, b.fmul(slopes, value), self.zero))
            return b.select(b.fcmp_ordered("<", value, self.zero), below, value)

        return apply

    def largest(self, values: Sequence[Any]) -> Any:
        """Give the largest: NaN wins, and of equals the first."""
        b = self.builder
        best = values[0]
        for value in values[1:]:
            wins = b.or_(b.fcmp_ordered(">", value, best), b.fcmp_unordered("uno", value, value))
            best = b.select(wins, value, best)
        return best

    def products(
        self, pixels: int, x: Any, x_step: Any, runs: Any, n_runs: Any, run_length: Any, kernel: Any, bias: Any
    ) -> list[Any]:
        """Two nested loops, runs and the elements of a run, with the accumulators as phi nodes of both."""
        b = self.builder
        start = [self.load(bias, v) for _ in range(pixels) for v in range(VECTORS)]
        entry = b.block
        run_head, element, run_end, done = (b.append_basic_block(n) for n in ("run", "element", "run_end", "done"))
        b.branch(run_head)

        b.position_at_end(run_head)
        run, run_kernel = b.phi(INT64), b.phi(kernel.type)
        run_sums = [b.phi(self.vector) for _ in start]
        offset = b.load(b.gep(runs, [run]))
        b.branch(element)

        b.position_at_end(element)
        t, here = b.phi(INT64), b.phi(kernel.type)
        sums = [b.phi(self.vector) for _ in start]
        weights = [self.load(here, v) for v in range(VECTORS)]
        pixel = b.gep(x, [b.add(offset, t)])
        values = [self.broadcast(b.load(self.at(pixel, (x_step, p)))) for p in range(pixels)]
        factors = [(value, weight) for value in values for weight in weights]
        new_sums = [self.fma(*factor, total) for factor, total in zip(factors, sums, strict=True)]
        next_t, next_here = b.add(t, INT64(1)), b.gep(here, [INT64(VECTORS * self.lanes)])
        b.cbranch(b.icmp_signed("<", next_t, run_length), element, run_end)

        b.position_at_end(run_end)
        next_run = b.add(run, INT64(1))
        b.cbranch(b.icmp_signed("<", next_run, n_runs), run_head, done)

        for phi, first, following in (
            (run, INT64(0), next_run),
            (run_kernel, kernel, next_here),
            *zip(run_sums, start, new_sums, strict=True),
        ):
            phi.add_incoming(first, entry)
            phi.add_incoming(following, run_end)
        for phi, first, following in (
            (t, INT64(0), next_t),
            (here, run_kernel, next_here),
            *zip(sums, run_sums, new_sums, strict=True),
        ):
            phi.add_incoming(first, run_head)
            phi.add_incoming(following, element)

        b.position_at_end(done)
        return new_sums


def _same_dtype(name: str, *arrays: Any) -> None:
    if {(array.dtype, array.layout) for array in arrays} != {(arrays[0].dtype, "C")}:
        raise TypingError(f"{name}: expected contiguous arrays of one dtype, got {arrays}")


def _multiply(pixels: int) -> Callable[..., Any]:
    """Make the intrinsic ``multiply`` for so many pixels at a time.

    For ``p < pixels`` and ``f < filter_block`` it sets ``y[y_at + p y_step + f]`` to the activation of
    ``bias[bias_at + f]`` plus the sum of ``x[x_at + p x_step + runs[r] + t]
    kernel[kernel_at + (r run_length + t) filter_block + f]``, run by run, t upwards, one fused multiply-add at a time.
    """

    @intrinsic
    def multiply(
        typing, y, y_at, y_step, x, x_at, x_step, runs, run_length, kernel, kernel_at, bias, bias_at, function, slope
    ):
        """Add up the products of so many pixels and a block of filters."""
        _same_dtype("multiply", y, x, kernel, bias)
        if runs.dtype != types.int64:
            raise TypingError(f"multiply: expected int64 runs, got {runs}")
        i = types.intp
        signature = types.void(y, i, i, x, i, i, runs, i, kernel, i, bias, i, i, y.dtype)

        def generate(context, builder, signature, arguments):
            emit = _Emitter(context, builder, signature.args[0])
            y, x, kernel, bias = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 3, 8, 10))
            offsets = emit.array(signature.args[6], arguments[6])
            n_runs = builder.extract_value(offsets.shape, 0)
            sums = emit.products(pixels, x, arguments[5], offsets.data, n_runs, arguments[7], kernel, bias)
            activate = emit.activation(*arguments[12:])
            for index, total in enumerate(sums):
                p, v = divmod(index, VECTORS)
                emit.store(activate(total), emit.at(y, (arguments[2], p)), v)
            return context.get_dummy_value()

        return signature, generate

    return multiply


multiply_block = _multiply(PIXELS)
multiply_pixel = _multiply(1)


@intrinsic
def pool_window(typing, y, y_at, x, x_at, row_step, column_step, mode):
    """Set a block of y to that of x (mode 0), or to the largest (1) or the mean (2) of the 2 x 2 blocks at x.

    ``y[y_at + f]`` from ``x[x_at + u row_step + v column_step + f]``, u and v below 2, f below filter_block.
    """
    _same_dtype("pool_window", y, x)
    i = types.intp

    def generate(context, builder, signature, arguments):
        emit = _Emitter(context, builder, signature.args[0])
        y, x = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 2))
        row, column, mode = arguments[4:]
        is_max, is_mean = (builder.icmp_signed("==", mode, INT64(code)) for code in (1, 2))
        for vector in range(VECTORS):
            window = [emit.load(emit.at(x, (row, u), (column, v)), vector) for u in range(2) for v in range(2)]
            total = builder.fadd(builder.fadd(*window[:2]), builder.fadd(*window[2:]))
            mean = builder.fmul(emit.constant(0.25), total)
            pooled = builder.select(is_max, emit.largest(window), builder.select(is_mean, mean, window[0]))
            emit.store(pooled, y, vector)
        return context.get_dummy_value()

    return types.void(y, i, x, i, i, i, i), generate


def _input_tile(side: int) -> Callable[..., Any]:
    """Make the intrinsic that transforms the input of an output tile of ``side x side`` pixels, ``B^T d B``.

    From ``x[x_at + u row_step + v column_step + k]``, u and v below side + 2, or from a patch with the same steps where
    not from_x, it sets ``y[y_at + (u (side + 2) + v) y_step + k]``, k below channels, a multiple of the lanes.
    """
    taps = range(side + 2)

    @intrinsic
    def input_tile(typing, y, y_at, y_step, from_x, x, x_at, patch, row_step, column_step, channels):
        """Transform the pixels of a tile, channel by channel."""
        _same_dtype("input_tile", y, x, patch)
        i = types.intp

        def generate(context, builder, signature, arguments):
            emit = _Emitter(context, builder, signature.args[0])
            y, x = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 4))
            x = builder.select(arguments[3], x, emit.array(signature.args[6], arguments[6]).data)
            y_step, row, column, channels = arguments[2], *arguments[7:]
            step = INT64(emit.lanes)
            with cgutils.for_range_slice(builder, INT64(0), channels, step, INT64) as (channel, _):
                here, there = builder.gep(x, [channel]), builder.gep(y, [channel])
                columns = [
                    emit.transform_input(side, [emit.load(emit.at(here, (row, u), (column, v))) for u in taps])
                    for v in taps
                ]
                for u in taps:
                    line = emit.transform_input(side, [columns[v][u] for v in taps])
                    for v in taps:
                        emit.store(line[v], emit.at(there, (y_step, u * len(taps) + v)))
            return context.get_dummy_value()

        return types.void(y, i, i, types.boolean, x, i, patch, i, i, i), generate

    return input_tile


def _output_tile(side: int) -> Callable[..., Any]:
    """Make the intrinsic that gives an output tile of ``side x side`` pixels, ``activation(A^T m A + bias)``.

    From ``m[m_at + (u (side + 2) + v) m_step + f]`` it sets ``y[(i side + j) filter_block + f]``.
    """
    taps = range(side + 2)

    @intrinsic
    def output_tile(typing, y, m, m_at, m_step, bias, bias_at, function, slope):
        """Transform the products of a tile and a block of filters back to pixels."""
        _same_dtype("output_tile", y, m, bias)
        i = types.intp

        def generate(context, builder, signature, arguments):
            emit = _Emitter(context, builder, signature.args[0])
            y = emit.array(signature.args[0], arguments[0]).data
            m, bias = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (1, 4))
            activate = emit.activation(*arguments[6:])
            for vector in range(VECTORS):
                columns = [
                    emit.transform_output(
                        side, [emit.load(emit.at(m, (arguments[3], u * len(taps) + v)), vector) for u in taps]
                    )
                    for v in taps
                ]
                shift = emit.load(bias, vector)
                for u in range(side):
                    line = emit.transform_output(side, [columns[v][u] for v in taps])
                    for v in range(side):
                        pixel = activate(builder.fadd(line[v], shift))
                        emit.store(pixel, y, (u * side + v) * VECTORS + vector)
            return context.get_dummy_value()

        return types.void(y, m, i, i, bias, i, i, y.dtype), generate

    return output_tile


input_tile_2, input_tile_4 = _input_tile(2), _input_tile(4)
output_tile_2, output_tile_4 = _output_tile(2), _output_tile(4)
