"""Settings that several layers share: pairs of integers, sliding windows, biases and initializers."""

from collections.abc import Sequence
from typing import Any, overload

from framecnn.arguments import check_choice
from framecnn.geometry import Pair, Window, pair, sliding_window
from framecnn.layers import initializers

__all__ = ["PairSetting", "check_initial", "layer_window"]


class PairSetting:
    """A field of a layer that is given as one positive integer or two, and read as ``(rows, columns)``.

    Dataclasses read the default of a field from the class attribute; a field without a default is required.

    Parameters
    ----------
    default : int, optional
    same_as : str, optional
        An earlier field whose value is the default.
    """

    def __init__(self, default: int | None = None, same_as: str | None = None):
        self._default, self._same_as = default, same_as

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, layer: None, owner: type) -> int | None: ...

    @overload
    def __get__(self, layer: object, owner: type) -> Pair: ...

    def __get__(self, layer: object | None, owner: type) -> Any:
        if layer is not None:
            return vars(layer)[self._name]
        if self._default is None and self._same_as is None:
            raise AttributeError(f"{owner.__name__} has no default for {self._name}")
        return self._default

    def __set__(self, layer: object, value: int | Sequence[int] | None) -> None:
        if value is None and self._same_as is not None:
            value = getattr(layer, self._same_as)
        vars(layer)[self._name] = pair(value, type(layer).__name__, self._name)


def layer_window(layer: Any, frame: Pair, size: Pair) -> Window:
    """Return the window of `size` pixels that slides over a frame by a layer's strides, dilation rate and padding."""
    dilation, padding = getattr(layer, "dilation_rate", (1, 1)), getattr(layer, "padding", "valid")
    return sliding_window(frame, size, layer.strides, dilation, padding, type(layer).__name__)


def check_initial(who: str, use_bias: Any, kernel_initializer: Any) -> None:
    """Raise SettingError unless `use_bias` is a bool and `kernel_initializer` the name of an initializer."""
    check_choice(who, "use_bias", use_bias, (True, False))
    check_choice(who, "kernel_initializer", kernel_initializer, initializers.NAMES)
