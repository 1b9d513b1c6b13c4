"""LLVM vectors: the instructions from which the micro-kernel and the tile transforms are built."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from framecnn.kernels.epilogue import HARD_SIGMOID, HARD_SWISH, LEAKY_RELU, RELU, RELU6
from framecnn.kernels.jit import VECTOR_BYTES, current_isa

__all__ = ["INT64", "Emitter", "lanes"]

INT32, INT64 = ir.IntType(32), ir.IntType(64)


def lanes(dtype: Any) -> int:
    """Return the number of values of `dtype` in a vector register.

    Examples
    --------
    >>> lanes(np.float32) == 2 * lanes(np.float64)
    True
    """
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class Emitter:
    """A writer of vector instructions for one element type, at the builder's position."""

    def __init__(self, context: Any, builder: ir.IRBuilder, dtype: Any):
        self.context, self.builder = context, builder
        self.scalar = context.get_data_type(dtype)
        self.itemsize = dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.itemsize
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zero = self.constant(0)

    def array(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, value)

    def pointer(self, kind: Any, value: Any, position: Any) -> Any:
        return self.builder.gep(self.array(kind, value).data, [position])

    def at(self, pointer: Any, *steps: tuple[Any, int]) -> Any:
        """Return the pointer advanced by each step times its count."""
        for step, times in steps:
            pointer = self.builder.gep(pointer, [self.builder.mul(step, INT64(times))])
        return pointer

    def load(self, pointer: Any, vector: int = 0) -> Any:
        return self.builder.load(self._vector_pointer(pointer, vector), align=self.itemsize)

    def store(self, value: Any, pointer: Any, vector: int = 0) -> None:
        position = self._vector_pointer(pointer, vector, value.type)
        self.builder.store(value, position, align=1)

    def store_block(self, values: Sequence[Any], pointer: Any, count: Any) -> None:
        """Store the first `count` elements of adjacent vectors, or all of them if `count` is larger."""
        b = self.builder
        size = INT64(len(values) * self.lanes)
        with b.if_else(b.icmp_signed(">=", count, size)) as (all_of_them, some):
            with all_of_them:
                for vector, value in enumerate(values):
                    self.store(value, pointer, vector)
            with some:
                for vector, value in enumerate(values):
                    self._store_some(value, pointer, vector, count)

    def load_block(self, pointer: Any, vectors: int, count: Any) -> list[Any]:
        """Return the first `count` elements of adjacent vectors, and zeros, which are not read, behind them."""
        b = self.builder
        with b.if_else(b.icmp_signed(">=", count, INT64(vectors * self.lanes))) as (all_of_them, some):
            with all_of_them:
                whole, after_whole = [self.load(pointer, vector) for vector in range(vectors)], b.block
            with some:
                parts = [self._load_some(pointer, vector, count) for vector in range(vectors)]
                after_parts = b.block
        return self.merge((whole, after_whole), (parts, after_parts))

    def merge(self, *branches: tuple[Sequence[Any], Any]) -> list[Any]:
        """Return the values of whichever branch was taken; each comes with its last block."""
        merged = []
        for values in zip(*(values for values, _ in branches), strict=True):
            phi = self.builder.phi(values[0].type)
            for value, (_, block) in zip(values, branches, strict=True):
                phi.add_incoming(value, block)
            merged.append(phi)
        return merged

    def _load_some(self, pointer: Any, vector: int, count: Any) -> Any:
        b = self.builder
        position, mask = self._vector_pointer(pointer, vector), self._mask(vector, count)
        kind = ir.FunctionType(self.vector, [position.type, INT32, mask.type, self.vector])
        name = f"llvm.masked.load.v{self.lanes}f{8 * self.itemsize}.p0"
        load = cgutils.get_or_insert_function(b.module, kind, name)
        return b.call(load, [position, INT32(self.itemsize), mask, self.zero])

    def _mask(self, vector: int, count: Any) -> Any:
        indices = ir.Constant(ir.VectorType(INT64, self.lanes), [vector * self.lanes + i for i in range(self.lanes)])
        return self.builder.icmp_signed("<", indices, self.broadcast(count))

    def _store_some(self, value: Any, pointer: Any, vector: int, count: Any) -> None:
        b = self.builder
        position = self._vector_pointer(pointer, vector, value.type)
        mask = self._mask(vector, count)
        kind = ir.FunctionType(ir.VoidType(), [value.type, position.type, INT32, mask.type])
        element = "i8" if value.type.element == ir.IntType(8) else f"f{8 * self.itemsize}"
        name = f"llvm.masked.store.v{self.lanes}{element}.p0"
        b.call(cgutils.get_or_insert_function(b.module, kind, name), [value, position, INT32(1), mask])

    def load_bytes(self, pointer: Any) -> Any:
        """Return adjacent bytes, one for every lane."""
        kind = self.bytes_constant(0).type
        return self.builder.load(self._vector_pointer(pointer, 0, kind), align=1)

    def _vector_pointer(self, pointer: Any, vector: int, kind: Any = None) -> Any:
        position = self.builder.gep(pointer, [INT64(vector * self.lanes)])
        return self.builder.bitcast(position, (kind or self.vector).as_pointer())

    def bytes_constant(self, value: int) -> Any:
        return ir.Constant(ir.VectorType(ir.IntType(8), self.lanes), [value] * self.lanes)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.lanes)

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(scalar.type, self.lanes), ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, INT32(0))
        first = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, first)

    def fma(self, factor: Any, value: Any, total: Any) -> Any:
        name = "fmuladd" if current_isa() == "plain" else "fma"  # without FMA hardware, llvm.fma is a slow library call
        operands = ir.FunctionType(self.vector, [self.vector] * 3)
        suffix = f"v{self.lanes}f{8 * self.itemsize}"
        fma = cgutils.get_or_insert_function(self.builder.module, operands, f"llvm.{name}.{suffix}")
        return self.builder.call(fma, [factor, value, total])

    def combine(self, factors: Sequence[float], values: Sequence[Any]) -> Any:
        """Return the sum of factors times vectors, starting with a term of factor 1 if there is any."""
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

    def activated(self, values: Sequence[Any], function: Any, negative_slope: Any) -> list[Any]:
        """Return vectors activated; the code `function` is known at run time only."""
        b = self.builder
        is_swish = b.icmp_signed("==", function, INT64(HARD_SWISH))
        is_hard = b.or_(is_swish, b.icmp_signed("==", function, INT64(HARD_SIGMOID)))
        with b.if_else(is_hard) as (hard, piecewise):
            with hard:
                gated = [self._hard(value, is_swish) for value in values]
                after_hard = b.block
            with piecewise:
                apply = self.piecewise(function, negative_slope)
                others, after_piecewise = [apply(value) for value in values], b.block
        return self.merge((gated, after_hard), (others, after_piecewise))

    def _hard(self, value: Any, is_swish: Any) -> Any:
        """Return relu6(x + 3) / 6, times x if it is the swish."""
        b, three, one = self.builder, self.constant(3), self.constant(1)
        sixth = self.constant(float((np.float32 if self.itemsize == 4 else np.float64)(1 / 6)))
        inside = b.fmul(b.select(is_swish, value, one), b.fmul(b.fadd(value, three), sixth))
        below_end = b.select(b.fcmp_ordered(">", value, three), b.select(is_swish, value, one), inside)
        return b.select(b.fcmp_ordered("<", value, self.constant(-3)), self.zero, below_end)

    def piecewise(self, function: Any, negative_slope: Any) -> Callable[[Any], Any]:
        """Return a function that applies a piecewise linear activation; its code is known at run time only."""
        b = self.builder
        bits = ir.VectorType(ir.IntType(8 * self.itemsize), self.lanes)
        leaky, relu = (b.icmp_signed("==", function, INT64(code)) for code in (LEAKY_RELU, RELU))
        relu = b.or_(relu, b.icmp_signed("==", function, INT64(RELU6)))
        slopes = self.broadcast(b.select(leaky, negative_slope, ir.Constant(self.scalar, 1)))
        limit = b.select(b.icmp_signed("==", function, INT64(RELU6)), self.constant(6), self.constant(float("inf")))
        kept = b.select(relu, ir.Constant(bits, [0] * self.lanes), ir.Constant(bits, [-1] * self.lanes))

        def apply(value: Any) -> Any:
            below = b.bitcast(b.and_(b.bitcast(b.fmul(slopes, value), bits), kept), self.vector)
            above = b.select(b.fcmp_ordered(">", value, limit), limit, value)
            return b.select(b.fcmp_ordered("<", value, self.zero), below, above)

        return apply

    def maximum(self, values: Sequence[Any]) -> tuple[Any, Any]:
        """Return the maximum and its index, a byte; the last NaN wins, else the first of equal maxima."""
        b = self.builder
        best, best_index = values[0], self.bytes_constant(0)
        for index, value in enumerate(values[1:], 1):
            wins = b.or_(b.fcmp_ordered(">", value, best), b.fcmp_unordered("uno", value, value))
            best = b.select(wins, value, best)
            best_index = b.select(wins, self.bytes_constant(index), best_index)
        return best, best_index
