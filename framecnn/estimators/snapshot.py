"""Decorators for estimators that a thread fits while others predict: each call sees one set of attributes."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["reads_snapshot", "sets_atomically"]

Method = TypeVar("Method", bound=Callable[..., Any])


def reads_snapshot(method: Method) -> Method:
    """Return a method that reads a copy of the estimator, made when the call begins."""

    @wraps(method)
    def on_a_copy(self: Any, *arguments: Any, **settings: Any) -> Any:
        return method(copy.copy(self), *arguments, **settings)

    return on_a_copy  # type: ignore[return-value]


def sets_atomically(method: Method) -> Method:
    """Return a fitting method that sets all attributes at once when it ends; after an error none has changed."""

    @wraps(method)
    def on_a_copy(self: Any, *arguments: Any, **settings: Any) -> Any:
        fitted = copy.copy(self)
        result = method(fitted, *arguments, **settings)
        self.__dict__ = vars(fitted)
        return self if result is fitted else result

    return on_a_copy  # type: ignore[return-value]
