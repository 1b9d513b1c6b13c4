"""A decorator for Hypothesis strategies, which imports Hypothesis only when a strategy is used."""

import inspect
from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from framecnn.errors import MissingExtraError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Draw", "composite", "strategies"]

Draw = Callable[..., Any]
"""The function with which a strategy draws a value from another strategy."""

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


def strategies() -> Any:
    """Return the module ``hypothesis.strategies``.

    Raises
    ------
    MissingExtraError
        If Hypothesis is not installed.

    Examples
    --------
    >>> strategies().integers(1, 3)
    integers(min_value=1, max_value=3)
    """
    try:
        from hypothesis import strategies
    except ImportError:
        raise MissingExtraError("framecnn.testing", "hypothesis", "test") from None
    return strategies


def composite(
    function: Callable[Concatenate[Draw, Arguments], Value],
) -> "Callable[Arguments, SearchStrategy[Value]]":
    """Turn a function that draws values into a Hypothesis strategy, imported at its first use.

    Examples
    --------
    >>> from hypothesis import find
    >>> @composite
    ... def squares(draw, largest):
    ...     return draw(strategies().integers(0, largest)) ** 2
    >>> find(squares(9), lambda square: square > 30)
    36
    """
    made = cache(lambda module: module.composite(function))

    @wraps(function)
    def strategy(*args: Arguments.args, **kwargs: Arguments.kwargs) -> "SearchStrategy[Value]":
        return made(strategies())(*args, **kwargs)

    drawn = inspect.signature(function)
    strategy.__signature__ = drawn.replace(parameters=list(drawn.parameters.values())[1:])  # type: ignore[attr-defined]
    return strategy
