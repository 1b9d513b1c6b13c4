"""The output-size and padding formulas; every other module imports them from here."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from framecnn.errors import SettingError, ShapeError
from framecnn.typing import Array

__all__ = [
    "Border",
    "Padding",
    "Pair",
    "Windows",
    "adaptive_cells",
    "as_padding",
    "pair",
    "window_output",
    "window_pixels",
]

Pair = tuple[int, int]
"""Rows and columns."""

Border = tuple[Pair, Pair]
"""``((top, bottom), (left, right))`` in pixels."""

Padding = Literal["valid", "same"] | Border
Windows = tuple[Array, Array, int]
"""``(starts, stops, step)``: the pixels of window ``i`` along an axis are ``range(starts[i], stops[i], step)``."""


def pair(value: int | Sequence[int] | None, who: str, name: str) -> Pair:
    """Return ``(rows, columns)`` from one positive integer or two.

    Parameters
    ----------
    value : int or two ints
        One number serves both axes.
    who, name : str
        The layer and the field, for the error.

    Returns
    -------
    (int, int)

    Raises
    ------
    SettingError
        If `value` is anything but one or two positive integers below 2**31.

    Examples
    --------
    >>> pair(3, "ConvLayer", "kernel_size")
    (3, 3)
    """
    values = (value, value) if isinstance(value, int | np.integer) else tuple(value) if np.iterable(value) else ()
    if len(values) != 2 or not all(_is_whole(v, 1) for v in values):
        raise SettingError(f"{who}: expected {name} as one positive integer or two, got {value!r}")
    return int(values[0]), int(values[1])


def as_padding(value: Any, who: str) -> Padding:
    """Return one of the three forms of padding; lists, as JSON has them, become tuples.

    Parameters
    ----------
    value : "valid", "same" or ((top, bottom), (left, right))
        Borders in pixels.
    who : str
        The layer, for the error.

    Returns
    -------
    str or ((int, int), (int, int))

    Raises
    ------
    SettingError
        If `value` has none of the three forms.

    Examples
    --------
    >>> as_padding([[1, 1], [0, 2]], "ConvLayer")
    ((1, 1), (0, 2))
    """
    if isinstance(value, str) and value in ("valid", "same"):
        return value  # type: ignore[return-value]
    try:
        (top, bottom), (left, right) = value
        sides = [top, bottom, left, right]
    except (TypeError, ValueError):
        sides = []
    if not sides or not all(_is_whole(side, 0) for side in sides):
        raise SettingError(
            f"{who}: expected padding 'valid', 'same' or ((top, bottom), (left, right)) in pixels, got {value!r}"
        )
    return (int(top), int(bottom)), (int(left), int(right))


def _is_whole(value: Any, smallest: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and smallest <= int(value) < 2**31


def window_output(
    frame: Pair, window: Pair, strides: Pair, dilation: Pair, padding: Padding, who: str
) -> tuple[Pair, Border]:
    r"""Return the output size of a sliding window and the border it needs.

    .. math:: out = \lfloor (in + before + after - dilation (window - 1) - 1) / stride \rfloor + 1

    ``"valid"`` adds no border. ``"same"`` is TensorFlow's rule: ``out = ceil(in / stride)``, the odd pixel of the
    border goes to the bottom and right. Explicit borders are ``((top, bottom), (left, right))``.

    Parameters
    ----------
    frame, window, strides, dilation : (int, int)
        Rows and columns.
    padding : "valid", "same" or ((int, int), (int, int))
        The border, in pixels.
    who : str
        The layer, for the error.

    Returns
    -------
    output : (int, int)
        Rows and columns of the result.
    border : ((int, int), (int, int))
        ``((top, bottom), (left, right))`` in pixels.

    Raises
    ------
    ShapeError
        If no window fits.

    Examples
    --------
    >>> window_output((240, 360), (3, 3), (2, 2), (1, 1), "same", "ConvLayer")
    ((120, 180), ((0, 1), (0, 1)))
    """
    sides = (padding, padding) if isinstance(padding, str) else padding
    axes = zip(frame, window, strides, dilation, sides, strict=True)
    (rows, vertical), (columns, horizontal) = (_axis_output(*axis) for axis in axes)
    if rows < 1 or columns < 1:
        reach = "x".join(str(d * (k - 1) + 1) for k, d in zip(window, dilation, strict=True))
        raise ShapeError(f"{who}: expected frames of at least {reach} with the border, got {frame[0]}x{frame[1]}")
    return (rows, columns), (vertical, horizontal)


def _axis_output(
    length: int, window: int, stride: int, dilation: int, sides: Literal["valid", "same"] | Pair
) -> tuple[int, Pair]:
    """Return the number of windows along an axis, and the border before and after."""
    reach = dilation * (window - 1) + 1
    if sides == "same":
        total = max(0, (-(-length // stride) - 1) * stride + reach - length)
        sides = (total // 2, total - total // 2)
    elif sides == "valid":
        sides = (0, 0)
    return (length + sum(sides) - reach) // stride + 1, sides


def window_pixels(length: int, output: int, window: int, stride: int, dilation: int, before: int) -> Windows:
    """List the pixels of each sliding window along an axis, without those of the border.

    Parameters
    ----------
    length, output : int
        Pixels of the frame, number of windows.
    window, stride, dilation, before : int
        Pixels of a window, step between windows, step inside a window, border before the frame.

    Returns
    -------
    starts, stops : (output,) int64
    step : int

    Examples
    --------
    >>> window_pixels(length=4, output=2, window=3, stride=2, dilation=1, before=0)
    (array([0, 2]), array([3, 4]), 1)
    """
    first = np.arange(output, dtype=np.int64) * stride - before
    starts = np.where(first < 0, first + -(first // dilation) * dilation, first)
    return starts, np.minimum(first + (window - 1) * dilation + 1, length), dilation


def adaptive_cells(length: int, cells: int) -> Windows:
    """Cut an axis into `cells` windows that cover it: cell ``i`` is ``floor(i n / m)`` to ``ceil((i + 1) n / m)``.

    This is the rule of PyTorch's adaptive pooling. Where `length` is no multiple of `cells`, neighbours overlap by a
    pixel.

    Parameters
    ----------
    length : int
        Pixels along the axis.
    cells : int
        Number of windows.

    Returns
    -------
    starts, stops : (cells,) int64
        First pixel of every window, and the pixel after its last.
    step : int
        Always 1.

    Examples
    --------
    >>> adaptive_cells(5, 2)
    (array([0, 2]), array([3, 5]), 1)
    """
    index = np.arange(cells, dtype=np.int64)
    return index * length // cells, -((index + 1) * -length // cells), 1
