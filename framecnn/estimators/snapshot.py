"""Decorators for estimators that one thread fits while others predict: each call uses consistent attributes."""

import copy
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

import numpy as np

__all__ = ["maps_rows", "reads_snapshot", "sets_atomically"]

Method = TypeVar("Method", bound=Callable[..., Any])


def reads_snapshot(method: Method) -> Method:
    """Return a method that reads a copy of the estimator, made when the call begins."""

    @wraps(method)
    def on_copy_to_read(self: Any, *arguments: Any, **settings: Any) -> Any:
        return method(copy.copy(self), *arguments, **settings)

    return on_copy_to_read  # type: ignore[return-value]


def maps_rows(method: Method) -> Method:
    """Return a method as :func:`reads_snapshot` does; of a Dask array it returns a Dask array, which is computed later.

    The method takes rows of frames or vectors and returns a result for each, whose dtype and shape those of a row of
    zeros tell.
    """
    name = method.__name__

    @wraps(method)
    def on_copy_to_read(self: Any, X: Any) -> Any:
        fitted = copy.copy(self)
        if not (type(X).__module__.startswith("dask.") and hasattr(X, "map_blocks")):
            return method(fitted, X)
        example = method(fitted, np.zeros((1, *X.shape[1:]), X.dtype))
        others = list(range(1, X.ndim))
        rows = X.rechunk(dict.fromkeys(others, -1))
        return rows.map_blocks(
            partial(_call, fitted, name, example[:0]),
            drop_axis=others,
            new_axis=list(range(1, example.ndim)),
            chunks=(rows.chunks[0], *((n,) for n in example.shape[1:])),
            meta=example[:0],
        )

    return on_copy_to_read  # type: ignore[return-value]


def _call(fitted: Any, name: str, nothing: Any, block: Any) -> Any:
    """Return what a method returns for a block of rows; `nothing` for one without rows, as a mask leaves it."""
    return getattr(fitted, name)(block) if len(block) else nothing


def sets_atomically(method: Method) -> Method:
    """Return a fitting method that sets all attributes at once when it ends, and none if it raises an error."""

    @wraps(method)
    def on_copy_to_fit(self: Any, *arguments: Any, **settings: Any) -> Any:
        fitted = copy.copy(self)
        result = method(fitted, *arguments, **settings)
        self.__dict__ = vars(fitted)
        return self if result is fitted else result

    return on_copy_to_fit  # type: ignore[return-value]
