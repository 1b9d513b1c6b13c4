"""The register-blocked inner product, in LLVM vectors: every intrinsic of the package.

A block of pixels times a block of filters stays in registers while the products run: each kernel vector that is
loaded serves all pixels, each pixel value that is broadcast serves all filters. Numba's autovectoriser does not find
this form, hence the explicit instructions.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from framecnn.kernels.jit import REGISTER_BLOCK, VECTOR_BYTES, cpu_kind
from framecnn.typing import Array

__all__ = ["PIXELS", "filter_block", "multiply_block", "multiply_pixel", "pack_filters"]

PIXELS, VECTORS = REGISTER_BLOCK
INT32, INT64 = ir.IntType(32), ir.IntType(64)


def filter_block(dtype: Any) -> int:
    """Give how many filters of `dtype` the register block holds.

    Examples
    --------
    >>> filter_block(np.float32) == 2 * filter_block(np.float64)
    True
    """
    return VECTORS * VECTOR_BYTES // np.dtype(dtype).itemsize


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


def _multiply(pixels: int) -> Callable[..., Any]:
    """Make the intrinsic ``multiply`` for so many pixels at a time.

    For ``p < pixels`` and ``f < filter_block`` it sets ``y[y_at + p y_step + f]`` to ``bias[bias_at + f]`` plus the
    sum of ``x[x_at + p x_step + runs[r] + t] kernel[kernel_at + (r run_length + t) filter_block + f]``, run by run,
    t upwards, one fused multiply-add at a time. Positions and steps count elements of contiguous arrays, and all that
    is read or written must lie inside them.
    """

    @intrinsic
    def multiply(typing, y, y_at, y_step, x, x_at, x_step, runs, run_length, kernel, kernel_at, bias, bias_at):
        """Add up the products of so many pixels and a block of filters; positions and steps count elements."""
        arrays = (y, x, kernel, bias)
        if {(array.dtype, array.layout) for array in arrays} != {(y.dtype, "C")} or runs.dtype != types.int64:
            raise TypingError(
                f"multiply: expected contiguous arrays of one dtype and int64 runs, got {arrays} and {runs}"
            )
        signature = types.void(
            y, types.intp, types.intp, x, types.intp, types.intp, runs, types.intp, kernel, types.intp, bias, types.intp
        )

        def generate(context, builder, signature, arguments):
            emit = _Emitter(context, builder, signature.args[0].dtype)
            y, x, kernel, bias = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 3, 8, 10))
            offsets = emit.array(signature.args[6], arguments[6])
            n_runs = builder.extract_value(offsets.shape, 0)
            emit.products(pixels, y, x, kernel, bias, arguments[2], arguments[5], offsets.data, n_runs, arguments[7])
            return context.get_dummy_value()

        return signature, generate

    return multiply


class _Emitter:
    """Writes vector instructions for one element type at the builder's place."""

    def __init__(self, context: Any, builder: ir.IRBuilder, dtype: Any):
        self.context, self.builder = context, builder
        scalar = context.get_data_type(dtype)
        self.itemsize = dtype.bitwidth // 8
        self.lanes = VECTOR_BYTES // self.itemsize
        self.vector = ir.VectorType(scalar, self.lanes)
        name = "fmuladd" if cpu_kind() == "plain" else "fma"  # without FMA hardware, llvm.fma is a slow library call
        suffix = f"v{self.lanes}f{dtype.bitwidth}"
        operands = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, operands, f"llvm.{name}.{suffix}")

    def array(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.builder, value)

    def pointer(self, kind: Any, value: Any, position: Any) -> Any:
        return self.builder.gep(self.array(kind, value).data, [position])

    def load(self, pointer: Any, vector: int) -> Any:
        return self.builder.load(self._vector_pointer(pointer, vector), align=self.itemsize)

    def store(self, value: Any, pointer: Any, vector: int) -> None:
        self.builder.store(value, self._vector_pointer(pointer, vector), align=self.itemsize)

    def _vector_pointer(self, pointer: Any, vector: int) -> Any:
        place = self.builder.gep(pointer, [INT64(vector * self.lanes)])
        return self.builder.bitcast(place, self.vector.as_pointer())

    def broadcast(self, pointer: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        single = self.builder.insert_element(undefined, self.builder.load(pointer), INT32(0))
        first = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, first)

    def products(
        self,
        pixels: int,
        y: Any,
        x: Any,
        kernel: Any,
        bias: Any,
        y_step: Any,
        x_step: Any,
        runs: Any,
        n_runs: Any,
        run_length: Any,
    ) -> None:
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
        values = [self.broadcast(b.gep(pixel, [b.mul(x_step, INT64(p))])) for p in range(pixels)]
        factors = [(value, weight) for value in values for weight in weights]
        new_sums = [b.call(self.fma, [*factor, total]) for factor, total in zip(factors, sums, strict=True)]
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
        for index, total in enumerate(new_sums):
            p, v = divmod(index, VECTORS)
            self.store(total, b.gep(y, [b.mul(y_step, INT64(p))]), v)


multiply_block = _multiply(PIXELS)
multiply_pixel = _multiply(1)
