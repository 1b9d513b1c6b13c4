"""Constants of ONNX graphs: stored weights, and operators on constants alone, computed when a file is read."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from framecnn.interop.onnx_library import FLOATS
from framecnn.typing import Array

__all__ = ["Folding", "constant_value", "stored_array"]

LARGEST_FOLDED = 2**24  # values of all folded constants together: 64 MiB of float32
BY_VALUE: dict[str, Callable[[Array, Array], Array]] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}


def stored_array(onnx: Any, tensor: Any) -> Array:
    """Return a stored weight; raise ValueError if it is in another file or not a finite number."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(f"expected weights in the file, got {tensor.name!r} in another file; save it as one file")
    array = onnx.numpy_helper.to_array(tensor)
    if array.dtype not in FLOATS.values() and array.dtype.kind not in "ib":
        raise ValueError(f"expected weights of float32 or float64, got {tensor.name!r} of {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite weights, got NaN or infinity in {tensor.name!r}")
    return array


def constant_value(settings: Mapping[str, Any]) -> Array:
    """Return the value of a Constant node; raise ValueError if it is not numeric."""
    match settings:
        case {"value": np.ndarray() as array}:
            return array
        case {"value_float": number} | {"value_floats": number}:
            return np.asarray(number, np.float32)
        case {"value_int": number} | {"value_ints": number}:
            return np.asarray(number, np.int64)
    raise ValueError(f"expected numeric constants, got {', '.join(settings)}")


class Folding:
    """Operators on constants, computed by NumPy, within a limit on the memory of all results.

    Examples
    --------
    >>> Folding().folded("Add", {}, [np.array([1, 2]), np.array(3)])
    array([4, 5])
    """

    def __init__(self) -> None:
        self._left = LARGEST_FOLDED

    def can_fold(self, operator: str) -> bool:
        """Return whether an operator on constants is computed here."""
        return operator in OPERATIONS or operator in BY_VALUE

    def folded(self, operator: str, settings: Mapping[str, Any], inputs: Sequence[Any]) -> Array:
        """Return the result of an operator on constants.

        Parameters
        ----------
        operator : str
            One that :meth:`can_fold`.
        settings : mapping of str to value
            The attributes of the node.
        inputs : sequence of array or None
            None for an input that is left out.

        Raises
        ------
        ValueError
            If the inputs do not fit the operator, the result is too large, or it is not finite.
        """
        try:
            self._take(_result_size(operator, settings, inputs))
            with np.errstate(all="ignore"):
                if operator in BY_VALUE:
                    result = BY_VALUE[operator](*inputs)
                else:
                    result = OPERATIONS[operator](settings, *inputs)
        except (IndexError, TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"expected constants that fit the operator ({error})") from error
        if not np.isfinite(result).all():
            raise ValueError("expected constants that give finite numbers, got NaN or infinity")
        return result

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"expected at most {LARGEST_FOLDED:,} values computed from constants")


def _result_size(operator: str, settings: Mapping[str, Any], inputs: Sequence[Any]) -> int:
    """Return how many values an operator will allocate; views cost nothing."""
    if operator in BY_VALUE or operator == "Div":
        return math.prod(np.broadcast_shapes(*(value.shape for value in inputs)))
    if operator == "Concat":
        return sum(value.size for value in inputs)
    if operator == "ConstantOfShape":
        return math.prod(inputs[0].tolist())
    if operator == "Gather":
        data, indices = inputs
        return indices.size * (data.size // max(data.shape[settings.get("axis", 0)], 1))
    return inputs[0].size if operator in ("Cast", "Neg", "Sqrt") else 0


def _cast(settings: Mapping[str, Any], x: Array) -> Array:
    names = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}
    if settings["to"] not in names:
        raise ValueError(f"expected a cast to float32, float64, int32, int64 or bool, got type {settings['to']}")
    return x.astype(names[settings["to"]])


def _concatenated(settings: Mapping[str, Any], *parts: Array) -> Array:
    return np.concatenate(parts, axis=settings["axis"])


def _quotient(settings: Mapping[str, Any], x: Array, y: Array) -> Array:
    if not y.all():
        raise ValueError("expected a divisor other than 0")
    if x.dtype.kind == "f":
        return np.divide(x, y)
    return (x - np.fmod(x, y)) // y  # towards zero


def _gathered(settings: Mapping[str, Any], x: Array, indices: Array) -> Array:
    return np.take(x, indices, axis=settings.get("axis", 0))


def _reshaped(settings: Mapping[str, Any], x: Array, shape: Array) -> Array:
    sizes = shape.tolist()
    if not settings.get("allowzero", 0):
        sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


def _sliced(settings: Mapping[str, Any], x: Array, *limits: Any) -> Array:
    starts, ends, axes, steps = (*limits, None, None, None, None)[:4] if limits else _older_limits(settings)
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # -1 as the end of a slice that runs backwards to the first value is far below -length in ONNX
        stop = None if step < 0 and end < -x.shape[axis] else int(end)
        index[int(axis)] = slice(int(start), stop, int(step))
    return x[tuple(index)]


def _older_limits(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    return settings["starts"], settings["ends"], settings.get("axes"), None


def _squeezed(settings: Mapping[str, Any], x: Array, axes: Any = None) -> Array:
    axes = settings.get("axes") if axes is None else axes
    return np.squeeze(x) if axes is None else np.squeeze(x, tuple(map(int, axes)))


def _unsqueezed(settings: Mapping[str, Any], x: Array, axes: Any = None) -> Array:
    return np.expand_dims(x, tuple(map(int, settings["axes"] if axes is None else axes)))


def _filled(settings: Mapping[str, Any], shape: Array) -> Array:
    value = settings.get("value", np.zeros(1, np.float32))
    return np.full(shape.tolist(), value.item(), value.dtype)


OPERATIONS: dict[str, Callable[..., Array]] = {
    "Cast": _cast,
    "Concat": _concatenated,
    "ConstantOfShape": _filled,
    "Div": _quotient,
    "Gather": _gathered,
    "Neg": lambda settings, x: -x,
    "Reshape": _reshaped,
    "Slice": _sliced,
    "Sqrt": lambda settings, x: np.sqrt(x),
    "Squeeze": _squeezed,
    "Transpose": lambda settings, x: x.transpose(settings.get("perm")),
    "Unsqueeze": _unsqueezed,
}
"""Functions of the attributes and the inputs."""
