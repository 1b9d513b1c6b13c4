"""The output-size and padding formulas; every other module imports them from here."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from framecnn.errors import ShapeError
from framecnn.typing import Array

__all__ = ["Padding", "Windows", "adaptive_cells", "as_padding", "pair", "window_output", "window_pixels"]

Pair = tuple[int, int]
Padding = Literal["valid", "same"] | tuple[Pair, Pair]
Windows = tuple[Array, Array, int]
"""``(starts, stops, step)``: the pixels of window ``i`` along an axis are ``range(starts[i], stops[i], step)``."""


def pair(value: int | Sequence[int], who: str, name: str) -> Pair:
    """Give ``(rows, columns)`` from one positive integer or two.

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
    ShapeError
        If `value` is anything but one or two positive integers.

    Examples
    --------
    >>> pair(3, "ConvLayer", "kernel_size")
    (3, 3)
    """
    values = (value, value) if isinstance(value, int | np.integer) else tuple(value) if np.iterable(value) else ()
    whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) and v >= 1 for v in values)
    if len(values) != 2 or not whole:
        raise ShapeError(f"{who}: expected {name} as one positive integer or two, got {value!r}")
    return int(values[0]), int(values[1])


def as_padding(value: object, who: str) -> Padding:
    """Give one of the three forms of padding; lists, as JSON has them, become tuples.

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
    ShapeError
        If `value` has none of the three forms.

    Examples
    --------
    >>> as_padding([[1, 1], [0, 2]], "ConvLayer")
    ((1, 1), (0, 2))
    """
    if isinstance(value, str):
        if value in ("valid", "same"):
            return value  # type: ignore[return-value]
    elif np.shape(value) == (2, 2):
        border = np.asarray(value)
        if border.dtype.kind in "iu" and border.min() >= 0:
            return tuple((int(before), int(after)) for before, after in border)  # type: ignore[return-value]
    raise ShapeError(
        f"{who}: expected padding 'valid', 'same' or ((top, bottom), (left, right)) of whole pixels, got {value!r}"
    )


def window_output(
    frame: Pair, window: Pair, strides: Pair, dilation: Pair, padding: Padding, who: str
) -> tuple[Pair, tuple[Pair, Pair]]:
    r"""Give the output size of a sliding window and the border it needs.

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
    reach = tuple(d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True))
    if padding == "valid":
        border = ((0, 0), (0, 0))
    elif padding == "same":
        totals = (max(0, -(-n // s) * s - s + r - n) for n, r, s in zip(frame, reach, strides, strict=True))
        border = tuple((total // 2, total - total // 2) for total in totals)
    else:
        border = padding
    output = tuple((n + sum(p) - r) // s + 1 for n, p, r, s in zip(frame, border, reach, strides, strict=True))
    if min(output) < 1:
        raise ShapeError(
            f"{who}: expected frames of at least {reach[0]}x{reach[1]} with the border, got {frame[0]}x{frame[1]}"
        )
    return output, border


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
