"""What a back-end has in the place of each layer: functions by exact layer class."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from framecnn.errors import FormatError
from framecnn.layers import Layer

__all__ = ["LayerConverters"]

Form = TypeVar("Form", bound=Callable[..., Any])


class LayerConverters(Generic[Form]):
    """The functions that express layers in a back-end.

    A form belongs to one class and not to its subclasses, which may compute something else.

    Parameters
    ----------
    backend, who, table : str
        For errors: the back-end, the function that exports, and the dotted name of this table.
    """

    def __init__(self, backend: str, who: str, table: str):
        self._backend, self._who, self._table = backend, who, table
        self._forms: dict[type[Layer], Form] = {}

    def register(self, kind: type[Layer]) -> Callable[[Form], Form]:
        """Return a decorator that makes a function the form of a layer class."""

        def registered(form: Form) -> Form:
            self._forms[kind] = form
            return form

        return registered

    def of(self, layer: Layer) -> Form:
        """Return the form of a layer; raise FormatError if its class has none."""
        if type(layer) not in self._forms:
            raise self.unsupported(layer)
        return self._forms[type(layer)]

    def unsupported(self, layer: Layer) -> FormatError:
        """Return the error for a layer that cannot be expressed, or not with its settings."""
        return FormatError(
            f"{self._who}: expected layers that {self._backend} has, got {layer}; use another, or register a function "
            f"that expresses a layer class of your own with {self._table}.register"
        )
