"""Intrinsics with named arguments: one annotated signature defines both the call and the generator's arguments.

A generator is a function of an :class:`Emitter` and of parameters annotated with the classes below::

    @intrinsic
    def clear(emit: Emitter, y: Pointer, length: Integer) -> None: ...

Jitted code then calls ``clear(y, y_at, length)``. When such a call is compiled, the generator runs once, with an LLVM
value for each of its parameters. A :class:`Pointer` takes two arguments, the array and a position in it.
"""

import inspect
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic as numba_intrinsic

from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["Bytes", "Flag", "Integer", "Optional", "Pointer", "Runs", "Scalar", "Values", "intrinsic"]


class Parameter:
    """A type of parameter: the suffixes of the arguments that it takes, and the LLVM value that the generator receives.

    Subclasses stand for LLVM values in annotations; they have no instances.
    """

    suffixes: tuple[str, ...] = ("",)
    is_values = False

    @staticmethod
    def expected(given: Any, dtype: Any) -> Any:
        """Return the Numba type of the first argument, from its type in the call and the dtype of the values."""
        return given

    @staticmethod
    def receive(emit: Emitter, kind: Any, *values: Any) -> Any:
        """Return the value that the generator receives for an argument of the Numba type `kind`."""
        return values[0]


class Values(Parameter):
    """An array of values; received as the pointer to its first value."""

    is_values = True

    @staticmethod
    def receive(emit: Emitter, kind: Any, *values: Any) -> Any:
        return emit.array(kind, values[0]).data


class Pointer(Parameter):
    """An array of values and a position in it; received as the pointer to that position."""

    suffixes = ("", "_at")
    is_values = True

    @staticmethod
    def receive(emit: Emitter, kind: Any, *values: Any) -> Any:
        return emit.pointer(kind, *values)


class Bytes(Parameter):
    """An array of bytes, or None; received as the pointer to its first byte, or None."""

    @staticmethod
    def receive(emit: Emitter, kind: Any, *values: Any) -> Any:
        return None if kind is types.none else emit.array(kind, values[0]).data


class Optional(Parameter):
    """An array of values, which may be empty; received as the pointer to its first value and whether it has any."""

    is_values = True

    @staticmethod
    def receive(emit: Emitter, kind: Any, *values: Any) -> Any:
        array = emit.array(kind, values[0])
        return array.data, emit.builder.icmp_signed("!=", emit.builder.extract_value(array.shape, 0), INT64(0))


class Runs(Parameter):
    """An int64 array of positions; received as the pointer to the first and their count."""

    @staticmethod
    def expected(given: Any, dtype: Any) -> Any:
        if given.dtype != types.int64:
            raise TypingError(f"expected int64 runs, got {given}")
        return given

    @staticmethod
    def receive(emit: Emitter, kind: Any, *values: Any) -> Any:
        array = emit.array(kind, values[0])
        return array.data, emit.builder.extract_value(array.shape, 0)


class Integer(Parameter):
    """A count, a position or a step."""

    @staticmethod
    def expected(given: Any, dtype: Any) -> Any:
        return types.intp


class Flag(Parameter):
    """True or False."""

    @staticmethod
    def expected(given: Any, dtype: Any) -> Any:
        return types.boolean


class Scalar(Parameter):
    """A number of the dtype of the values."""

    @staticmethod
    def expected(given: Any, dtype: Any) -> Any:
        return dtype


def intrinsic(generate: Callable[..., None]) -> Callable[..., Any]:
    """Return the intrinsic whose instructions a generator writes.

    Compiling a call raises TypingError unless all arrays of values are contiguous and of one dtype.
    """
    parameters = list(inspect.signature(generate).parameters.values())[1:]
    names = [parameter.name + suffix for parameter in parameters for suffix in parameter.annotation.suffixes]

    def definition(typing: Any, *given: Any) -> Any:
        kinds = dict(zip(names, given, strict=True))
        arrays = [kinds[parameter.name] for parameter in parameters if parameter.annotation.is_values]
        if {(array.dtype, array.layout) for array in arrays} != {(arrays[0].dtype, "C")}:
            raise TypingError(f"{generate.__name__}: expected contiguous arrays of one dtype, got {arrays}")
        expected = dict.fromkeys(names, types.intp)
        for parameter in parameters:
            expected[parameter.name] = parameter.annotation.expected(kinds[parameter.name], arrays[0].dtype)

        def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            emit, values = Emitter(context, builder, arrays[0].dtype), dict(zip(names, arguments, strict=True))
            received = {
                name: kind.receive(emit, kinds[name], *(values[name + suffix] for suffix in kind.suffixes))
                for name, kind in ((parameter.name, parameter.annotation) for parameter in parameters)
            }
            generate(emit, **received)
            return context.get_dummy_value()

        return types.void(*expected.values()), lower

    named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("typing", *names)]
    definition.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    definition.__name__, definition.__doc__ = generate.__name__, generate.__doc__
    result: Callable[..., Any] = numba_intrinsic(definition)
    return result
