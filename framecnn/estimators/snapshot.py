"""Decorators for estimators that one thread fits while others predict: each call uses consistent attributes."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["reads_snapshot", "sets_atomically"]

Method = TypeVar("Method", bound=Callable[..., Any])


def reads_snapshot(method: Method) -> Method:
    """Return a method that reads a copy of the estimator, made when the call begins."""

    @wraps(method)
    def on_copy_to_read(self: Any, *arguments: Any, **settings: Any) -> Any:
        return method(copy.copy(self), *arguments, **settings)

    return on_copy_to_read  # type: ignore[return-value]


def sets_atomically(method: Method) -> Method:
    """Return a fitting method that sets all attributes at once when it ends, and none if it raises an error."""

    @wraps(method)
    def on_copy_to_fit(self: Any, *arguments: Any, **settings: Any) -> Any:
        fitted = copy.copy(self)
        result = method(fitted, *arguments, **settings)
        self.__dict__ = vars(fitted)
        return self if result is fitted else result

    return on_copy_to_fit  # type: ignore[return-value]
