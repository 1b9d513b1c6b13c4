"""The parameters of a layer: arrays by name, checked when they are set and never changed in place."""

import operator
import os
import threading
from collections import UserDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np

from framecnn.errors import ShapeError
from framecnn.kernels.threads import recording
from framecnn.typing import Array, Shape

__all__ = ["REAL", "SWAPPING", "Param", "Params"]

REAL = "fiub"  # kinds of dtypes
Result = TypeVar("Result")

SWAPPING = threading.RLock()
"""A lock held while parameters are replaced or looked up, never during a computation."""

if hasattr(os, "register_at_fork"):  # else a forked child would wait for a thread that it does not have
    os.register_at_fork(before=SWAPPING.acquire, after_in_parent=SWAPPING.release, after_in_child=SWAPPING.release)


@dataclass(frozen=True)
class Param:
    """The shape of a parameter, the initializer that draws it, and whether training changes it."""

    shape: Shape
    initializer: str
    trainable: bool = True


class Params(UserDict[str, Array]):
    """Read-only arrays by name; new values are checked against the layer's shape and copied in its dtype.

    A value that is already stored somewhere as a parameter, read-only and not a view, is not copied.
    """

    def __init__(self, who: str, specs: Mapping[str, Param], dtype: np.dtype, values: Mapping[str, Array]):
        self._who, self._specs, self._dtype = who, specs, dtype
        if set(values) != set(specs):
            raise ShapeError(f"{who}: expected the parameters {sorted(specs)}, got {sorted(values)}")
        super().__init__()
        self.replace(self.checked({name: values[name] for name in specs}))

    def __delitem__(self, name: str) -> None:
        raise ShapeError(f"{self._who}: expected all of the parameters {sorted(self._specs)}, got {name!r} deleted")

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without derived values: packed kernels fit this CPU's vector registers only."""
        return self.__dict__ | {"_derived": {}}

    def derived(self, name: str, compute: Callable[[], Result], *others: Any) -> Result:
        """Return the result of `compute`, such as a packed kernel, computed once until a parameter is set.

        If it depends on other objects too, it is computed again for others than the last ones. Threads that compute it
        at the same time get the same result, since two copies in use would not fit the cache. Whoever records what this
        thread computes is not told: the result is part of the computation, computing it is not.
        """
        derived = self._derived

        def current() -> tuple[Any, Result] | None:
            found = derived.get(name)
            return found if found and all(map(operator.is_, found[0], others)) else None

        if not (found := current()):
            with recording(None):
                result = compute()
            with SWAPPING:
                found = derived[name] = current() or (others, result)
        return found[1]

    def checked(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Return the copies of values to be stored; raise ShapeError unless all fit."""
        return {name: self._checked(name, value) for name, value in values.items()}

    def _checked(self, name: str, value: Array) -> Array:
        if name not in self._specs:
            raise ShapeError(f"{self._who}: expected one of the parameters {sorted(self._specs)}, got {name!r}")
        expected = self._specs[name].shape
        value = np.asarray(value)
        if value.shape != expected or value.dtype.kind not in REAL:
            raise ShapeError(
                f"{self._who}: expected {name} as real numbers of shape {expected}, got {value.dtype} of {value.shape}"
            )
        if value.dtype == self._dtype and value.flags.c_contiguous and value.base is None and not value.flags.writeable:
            return value
        stored = np.array(value, self._dtype, order="C")
        stored.flags.writeable = False
        return stored

    def replace(self, checked: Mapping[str, Array]) -> None:
        """Set values that :meth:`checked` returned, in a new dict; copies keep the old one."""
        with SWAPPING:
            self.data, self._derived = {**self.data, **checked}, dict[str, Any]()

    def update(self, *values: Any, **more: Array) -> None:
        """Set several parameters atomically."""
        self.replace(self.checked(dict(*values, **more)))

    def __ior__(self, values: Any) -> Self:  # type: ignore[override,misc]
        self.update(values)
        return self

    def __setitem__(self, name: str, value: Array) -> None:
        self.update({name: value})
