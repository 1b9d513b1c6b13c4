"""Calls of compiled kernels by their address, and what threads need to share them: counters and waiting.

A call's arguments lie in memory, one in each slot of eight bytes, in the order in which Numba passes them: an array is
seven values or more, a tuple its elements. An adapter is a small machine function that loads them and calls the kernel.
"""

import itertools
import struct
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core.registry import cpu_target

from framecnn.kernels.codegen.intrinsics import Integer, Pointer, intrinsic
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["call", "slots_of", "take", "wait_for"]

SLOT = 8  # bytes
SPINS = 4096  # a power of two: how often a thread looks before it gives way to others
_engines: list[Any] = []  # whoever drops one frees its code


def slots_of(kernel: Any, arguments: tuple[Any, ...]) -> tuple[int, bytes]:
    """Return the address of the adapter of a compiled kernel, and the slots of a call: its address and arguments.

    The kernel has been called with such arguments before. Arrays are not kept alive. The last two arguments, start and
    stop, are not among `arguments`.
    """
    kinds = (*(typeof(argument) for argument in arguments), types.int64, types.int64)
    compiled = kernel.overloads[kinds]
    address = compiled.library.get_pointer_to_function(compiled.fndesc.mangled_name)
    flat = [address, *itertools.chain.from_iterable(map(_flat, arguments, kinds))]
    packed = b"".join(struct.pack("d" if isinstance(value, float) else "q", value) for value in flat)
    return adapter(kinds), packed


def _flat(value: Any, kind: Any) -> list[Any]:
    """Return the numbers that Numba passes for an argument."""
    if isinstance(value, np.ndarray):
        return [0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides]
    if isinstance(value, tuple):
        inner = kind.types if hasattr(kind, "types") else [kind.dtype] * len(value)
        return list(itertools.chain.from_iterable(map(_flat, value, inner)))
    if value is None:
        return [0]
    if isinstance(value, np.float32):  # its four bytes lie first in the slot
        return [int(value.view(np.int32)) & 0xFFFFFFFF]
    return [float(value) if isinstance(kind, types.Float) else int(value)]


@cache
def adapter(kinds: tuple[Any, ...]) -> int:
    """Return the address of a function (slots, start, stop) that calls a kernel of these types of arguments."""
    context = cpu_target.target_context
    called = context.call_conv.get_function_type(types.none, kinds)
    module = ir.Module("adapter")
    module.triple = llvm.get_process_triple()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [INT64, INT64, INT64]), "adapter")
    b = ir.IRBuilder(function.append_basic_block())
    slots, start, stop = function.args

    def load(number: int, kind: Any) -> Any:
        position = b.add(slots, INT64(number * SLOT))
        return b.load(b.inttoptr(position, kind.as_pointer()), align=1)

    expected = called.args[2:-2]
    arguments = [load(number, kind) for number, kind in enumerate(expected, start=1)]
    results = [b.alloca(kind.pointee) for kind in called.args[:2]]
    b.call(b.inttoptr(load(0, INT64), called.as_pointer()), [*results, *arguments, start, stop])
    b.ret_void()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address("adapter")


@intrinsic
def call(emit: Emitter, calls: Pointer, start: Integer, stop: Integer) -> None:
    """Call the adapter at ``calls[calls_at]`` with the slots at ``calls[calls_at + 1]``."""
    b = emit.builder
    kind = ir.FunctionType(ir.VoidType(), [INT64] * 3)
    function, slots = (b.load(b.gep(calls, [INT64(number)])) for number in range(2))
    b.call(b.inttoptr(function, kind.as_pointer()), [slots, start, stop])


@intrinsic
def take(emit: Emitter, taken: Pointer, counter: Pointer, count: Integer) -> None:
    """Set ``taken[taken_at]`` to a counter and add `count` to the counter, as one step that threads see whole."""
    emit.builder.store(emit.builder.atomic_rmw("add", counter, count, "seq_cst"), taken)


@intrinsic
def wait_for(emit: Emitter, counter: Pointer, count: Integer, give_way: Integer) -> None:
    """Wait until a counter is at least `count`; `give_way` is the address of a function to call meanwhile, or 0."""
    b = emit.builder
    head, waiting, asking, done = (b.append_basic_block(name) for name in ("head", "waiting", "asking", "done"))
    before = b.block
    b.branch(head)
    b.position_at_end(head)
    turns = b.phi(INT64)
    b.cbranch(b.icmp_signed(">=", b.load_atomic(counter, "acquire", 8), count), done, waiting)
    b.position_at_end(waiting)
    many = b.icmp_signed("==", b.and_(turns, INT64(SPINS - 1)), INT64(SPINS - 1))
    b.cbranch(b.and_(many, b.icmp_signed("!=", give_way, INT64(0))), asking, head)
    b.position_at_end(asking)
    b.call(b.inttoptr(give_way, ir.FunctionType(ir.IntType(32), []).as_pointer()), [])
    b.branch(head)
    turns.add_incoming(INT64(0), before)
    for block in (waiting, asking):
        turns.add_incoming(_following(b, block, turns), block)
    b.position_at_end(done)


def _following(b: ir.IRBuilder, block: Any, turns: Any) -> Any:
    with b.goto_block(block):
        return b.add(turns, INT64(1))
