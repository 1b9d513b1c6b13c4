"""Tables of functions that convert layers to another library, by exact layer class."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from framecnn.errors import FormatError
from framecnn.layers import Layer

__all__ = ["LayerConverters"]

Converter = TypeVar("Converter", bound=Callable[..., Any])


class LayerConverters(Generic[Converter]):
    """The functions that convert layers to another library.

    A converter belongs to one class and not to its subclasses, which may compute something else.

    Parameters
    ----------
    library, who, table : str
        For errors: the library, the function that exports, and the dotted name of this table.
    """

    def __init__(self, library: str, who: str, table: str):
        self._library, self._who, self._table = library, who, table
        self._converters: dict[type[Layer], Converter] = {}

    def register(self, kind: type[Layer]) -> Callable[[Converter], Converter]:
        """Return a decorator that registers a function as the converter of a layer class."""

        def registered(converter: Converter) -> Converter:
            self._converters[kind] = converter
            return converter

        return registered

    def of(self, layer: Layer) -> Converter:
        """Return the converter of a layer; raise FormatError if its class has none."""
        if type(layer) not in self._converters:
            raise self.unsupported(layer)
        return self._converters[type(layer)]

    def unsupported(self, layer: Layer) -> FormatError:
        """Return the error for a layer or setting without an equivalent."""
        return FormatError(
            f"{self._who}: expected layers that {self._library} has, got {layer}; replace it, or register a function "
            f"that converts a layer class of your own with {self._table}.register"
        )
