"""LLVM vectors: what the micro-kernel and the tile transforms write their instructions with.

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

from framecnn.kernels.jit import VECTOR_BYTES, current_isa

__all__ = ["INT64", "LEAKY_RELU", "NO_ACTIVATION", "RELU", "Emitter", "check_arrays", "clear", "copy", "lanes"]

INT32, INT64 = ir.IntType(32), ir.IntType(64)
NO_ACTIVATION, RELU, LEAKY_RELU = 0, 1, 2


def lanes(dtype: Any) -> int:
    """Return how many values of `dtype` a vector register holds.

    Examples
    --------
    >>> lanes(np.float32) == 2 * lanes(np.float64)
    True
    """
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def check_arrays(name: str, *arrays: Any) -> None:
    """A TypingError, when a kernel is compiled, unless all arrays are contiguous and of one dtype."""
    if {(array.dtype, array.layout) for array in arrays} != {(arrays[0].dtype, "C")}:
        raise TypingError(f"{name}: expected contiguous arrays of one dtype, got {arrays}")


class Emitter:
    """Writes vector instructions for one element type at the builder's place."""

    def __init__(self, context: Any, builder: ir.IRBuilder, kind: Any):
        self.context, self.builder = context, builder
        self.scalar = context.get_data_type(kind.dtype)
        self.itemsize = kind.dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.itemsize
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zero = self.constant(0)

    def array(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, value)

    def pointer(self, kind: Any, value: Any, position: Any) -> Any:
        return self.builder.gep(self.array(kind, value).data, [position])

    def at(self, pointer: Any, *steps: tuple[Any, int]) -> Any:
        """Return the pointer so many times further on, step by step."""
        for step, times in steps:
            pointer = self.builder.gep(pointer, [self.builder.mul(step, INT64(times))])
        return pointer

    def load(self, pointer: Any, vector: int = 0) -> Any:
        return self.builder.load(self._vector_pointer(pointer, vector), align=self.itemsize)

    def store(self, value: Any, pointer: Any, vector: int = 0) -> None:
        place = self._vector_pointer(pointer, vector, value.type)
        self.builder.store(value, place, align=1)

    def store_block(self, values: Sequence[Any], pointer: Any, count: Any) -> None:
        """Store vectors side by side, or of their elements the first `count`, if there are fewer."""
        b = self.builder
        whole = INT64(len(values) * self.lanes)
        with b.if_else(b.icmp_signed(">=", count, whole)) as (all_of_them, some):
            with all_of_them:
                for vector, value in enumerate(values):
                    self.store(value, pointer, vector)
            with some:
                for vector, value in enumerate(values):
                    self._store_some(value, pointer, vector, count)

    def _store_some(self, value: Any, pointer: Any, vector: int, count: Any) -> None:
        b = self.builder
        place = self._vector_pointer(pointer, vector, value.type)
        numbers = ir.Constant(ir.VectorType(INT64, self.lanes), [vector * self.lanes + i for i in range(self.lanes)])
        mask = b.icmp_signed("<", numbers, self.broadcast(count))
        kind = ir.FunctionType(ir.VoidType(), [value.type, place.type, INT32, mask.type])
        element = "i8" if value.type.element == ir.IntType(8) else f"f{8 * self.itemsize}"
        name = f"llvm.masked.store.v{self.lanes}{element}.p0"
        b.call(cgutils.get_or_insert_function(b.module, kind, name), [value, place, INT32(1), mask])

    def load_bytes(self, pointer: Any) -> Any:
        """Load a byte for every lane."""
        kind = self.bytes_constant(0).type
        return self.builder.load(self._vector_pointer(pointer, 0, kind), align=1)

    def _vector_pointer(self, pointer: Any, vector: int, kind: Any = None) -> Any:
        place = self.builder.gep(pointer, [INT64(vector * self.lanes)])
        return self.builder.bitcast(place, (kind or self.vector).as_pointer())

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

    def activation(self, function: Any, slope: Any) -> Callable[[Any], Any]:
        """Return what applies an activation, known only when running, to a vector."""
        b = self.builder
        bits = ir.VectorType(ir.IntType(8 * self.itemsize), self.lanes)
        leaky, relu = (b.icmp_signed("==", function, INT64(code)) for code in (LEAKY_RELU, RELU))
        slopes = self.broadcast(b.select(leaky, slope, ir.Constant(self.scalar, 1)))
        kept = b.select(relu, ir.Constant(bits, [0] * self.lanes), ir.Constant(bits, [-1] * self.lanes))

        def apply(value: Any) -> Any:
            below = b.bitcast(b.and_(b.bitcast(b.fmul(slopes, value), bits), kept), self.vector)
            return b.select(b.fcmp_ordered("<", value, self.zero), below, value)

        return apply

    def largest(self, values: Sequence[Any]) -> tuple[Any, Any]:
        """Return the largest and its number, in bytes: a NaN wins, the last of them, and of equals the first."""
        b = self.builder
        best, number = values[0], self.bytes_constant(0)
        for place, value in enumerate(values[1:], 1):
            wins = b.or_(b.fcmp_ordered(">", value, best), b.fcmp_unordered("uno", value, value))
            best = b.select(wins, value, best)
            number = b.select(wins, self.bytes_constant(place), number)
        return best, number


@intrinsic
def copy(typing, y, y_at, x, x_at, length):
    """Set ``y[y_at : y_at + length]`` to ``x[x_at : x_at + length]``, as one copy of memory."""
    check_arrays("copy", y, x)
    i = types.intp

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature.args[0])
        to, source = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 2))
        cgutils.raw_memcpy(builder, to, source, arguments[4], emit.itemsize)
        return context.get_dummy_value()

    return types.void(y, i, x, i, i), generate


@intrinsic
def clear(typing, y, y_at, length):
    """Set ``y[y_at : y_at + length]`` to zero."""
    check_arrays("clear", y)
    i = types.intp

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature.args[0])
        n_bytes = builder.mul(arguments[2], INT64(emit.itemsize))
        cgutils.memset(builder, emit.pointer(signature.args[0], *arguments[:2]), n_bytes, 0)
        return context.get_dummy_value()

    return types.void(y, i, i), generate
