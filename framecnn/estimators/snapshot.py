"""An estimator may be fitted anew while other threads predict: every call sees the attributes of one moment."""

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["of_one_moment", "set_at_once"]

Method = TypeVar("Method", bound=Callable[..., Any])


def of_one_moment(method: Method) -> Method:
    """Let a method read an estimator as it is when the call begins, whoever fits it meanwhile."""

    @wraps(method)
    def on_a_copy(self: Any, *arguments: Any, **settings: Any) -> Any:
        return method(copy.copy(self), *arguments, **settings)

    return on_a_copy  # type: ignore[return-value]


def set_at_once(method: Method) -> Method:
    """Let a method that fits an estimator set all that it learns when it ends; after an error nothing has changed."""

    @wraps(method)
    def aside(self: Any, *arguments: Any, **settings: Any) -> Any:
        fitted = copy.copy(self)
        result = method(fitted, *arguments, **settings)
        self.__dict__ = vars(fitted)
        return self if result is fitted else result

    return aside  # type: ignore[return-value]
