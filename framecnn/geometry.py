"""Sliding windows over frames: the formulas of output sizes and padding, and the pixels that each window covers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from framecnn.arguments import LARGEST_SIZE, is_integer
from framecnn.errors import SettingError, ShapeError
from framecnn.typing import Array

__all__ = [
    "Border",
    "Padding",
    "Pair",
    "Ranges",
    "Window",
    "adaptive_cells",
    "as_padding",
    "pair",
    "sliding_window",
    "window_pixels",
]

Pair = tuple[int, int]
"""Rows and columns."""

Border = tuple[Pair, Pair]
"""``((top, bottom), (left, right))`` in pixels."""

Padding = Literal["valid", "same"] | Border
Ranges = tuple[Array, Array, int]
"""``(starts, stops, step)``: the pixels of window ``i`` along an axis are ``range(starts[i], stops[i], step)``."""


@dataclass(frozen=True)
class Window:
    """A window that slides over a frame; all in pixels, rows before columns.

    Attributes
    ----------
    frame, kernel, strides, dilation : (int, int)
        Sizes of the frame and of the kernel, step from window to window, step between the pixels of a window.
    border : ((int, int), (int, int))
        ``((top, bottom), (left, right))``; negative if the windows leave out pixels of the frame.

    Examples
    --------
    >>> window = Window((240, 360), (3, 3), strides=(2, 2))
    >>> window.output, window.extent
    ((119, 179), (3, 3))
    """

    frame: Pair
    kernel: Pair
    strides: Pair = (1, 1)
    dilation: Pair = (1, 1)
    border: Border = ((0, 0), (0, 0))

    @cached_property
    def extent(self) -> Pair:
        """Pixels from the first to the last pixel of a window, gaps included."""
        rows, columns = (d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return rows, columns

    @cached_property
    def output(self) -> Pair:
        """Number of windows down and across: ``floor((frame + border - extent) / stride) + 1``."""
        axes = zip(self.frame, self.border, self.extent, self.strides, strict=True)
        rows, columns = ((length + sum(sides) - extent) // stride + 1 for length, sides, extent, stride in axes)
        return rows, columns

    @property
    def top_left(self) -> Pair:
        """The padding at the top and at the left."""
        return self.border[0][0], self.border[1][0]

    @cached_property
    def pixels(self) -> tuple[Ranges, Ranges]:
        """The pixels of the windows along the rows and the columns, without pixels of the border."""
        axes = zip(self.frame, self.output, self.kernel, self.strides, self.dilation, self.top_left, strict=True)
        rows, columns = (window_pixels(*axis) for axis in axes)
        return rows, columns

    def rows(self, start: int, stop: int) -> "Window":
        """Return the window that yields output rows `start` to `stop` only."""
        top = self.border[0][0] - start * self.strides[0]
        bottom = (stop - start - 1) * self.strides[0] + self.extent[0] - self.frame[0] - top
        return replace(self, border=((top, bottom), self.border[1]))

    def transposed(self) -> "Window":
        """Return the window of the convolution that maps the output gradient to the input gradient.

        It slides over the output with ``stride - 1`` zeros between its pixels.
        """
        sizes, border = [], []
        axes = zip(self.frame, self.output, self.strides, self.extent, self.top_left, strict=True)
        for length, output, stride, extent, before in axes:
            sizes.append((output - 1) * stride + 1)
            border.append((extent - 1 - before, length + before - sizes[-1]))
        return Window((sizes[0], sizes[1]), self.kernel, (1, 1), self.dilation, (border[0], border[1]))

    def cropped(self) -> "Window":
        """Return the same windows on a frame cropped by the leading rows and columns of a negative border."""
        sizes, border = [], []
        for length, (before, after) in zip(self.frame, self.border, strict=True):
            sizes.append(max(length + min(before, 0), 0))
            border.append((max(before, 0), length + before + after - sizes[-1] - max(before, 0)))
        return replace(self, frame=(sizes[0], sizes[1]), border=(border[0], border[1]))


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
        If `value` is not one or two positive integers below 2**31.

    Examples
    --------
    >>> pair(3, "ConvLayer", "kernel_size")
    (3, 3)
    """
    values = (value, value) if isinstance(value, int | np.integer) else tuple(value) if np.iterable(value) else ()
    if len(values) != 2 or not all(is_integer(v, 1, LARGEST_SIZE) for v in values):
        raise SettingError(f"{who}: expected {name} as one positive integer or two, got {value!r}")
    return int(values[0]), int(values[1])


def as_padding(value: Any, who: str) -> Padding:
    """Return padding in one of its three forms; lists, as JSON stores them, become tuples.

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
    if not sides or not all(is_integer(side, 0, LARGEST_SIZE) for side in sides):
        raise SettingError(
            f"{who}: expected padding 'valid', 'same' or ((top, bottom), (left, right)) in pixels, got {value!r}"
        )
    return (int(top), int(bottom)), (int(left), int(right))


@lru_cache  # layers compute the same window at every call, a tenth of the time of a small frame
def sliding_window(frame: Pair, kernel: Pair, strides: Pair, dilation: Pair, padding: Padding, who: str) -> Window:
    r"""Return the sliding window of a layer's settings on a frame.

    .. math:: out = \lfloor (in + before + after - dilation (kernel - 1) - 1) / stride \rfloor + 1

    ``"valid"`` adds no border. ``"same"`` is TensorFlow's rule: ``out = ceil(in / stride)``, the odd pixel of the
    border goes to the bottom and right. Explicit borders are ``((top, bottom), (left, right))``.

    Parameters
    ----------
    frame, kernel, strides, dilation : (int, int)
        Rows and columns, in pixels.
    padding : "valid", "same" or ((int, int), (int, int))
        The border, in pixels.
    who : str
        The layer, for the error.

    Returns
    -------
    Window
        Its dilation is 1 along an axis on which the kernel has one pixel.

    Raises
    ------
    ShapeError
        If no window fits.

    Examples
    --------
    >>> sliding_window((240, 360), (3, 3), (2, 2), (1, 1), "same", "ConvLayer").border
    ((0, 1), (0, 1))
    """
    rows, columns = (1 if k == 1 else d for k, d in zip(kernel, dilation, strict=True))
    window = Window(frame, kernel, strides, (rows, columns))
    if padding == "same":
        vertical, horizontal = map(_same_border, frame, window.extent, strides)
        window = replace(window, border=(vertical, horizontal))
    elif padding != "valid":
        window = replace(window, border=padding)
    if min(window.output) < 1:
        least = "x".join(map(str, window.extent))
        raise ShapeError(f"{who}: expected frames of at least {least} with the border, got {frame[0]}x{frame[1]}")
    return window


def _same_border(length: int, extent: int, stride: int) -> Pair:
    """Return the border before and after an axis with which ``ceil(length / stride)`` windows fit."""
    total = max(0, (-(-length // stride) - 1) * stride + extent - length)
    return total // 2, total - total // 2


def window_pixels(length: int, output: int, kernel: int, stride: int, dilation: int, before: int) -> Ranges:
    """Return the pixels of each sliding window along an axis, without pixels of the border.

    Parameters
    ----------
    length, output : int
        Pixels of the frame, number of windows.
    kernel, stride, dilation, before : int
        Pixels of a kernel, step from window to window, step between the pixels of a window, border before the frame.

    Returns
    -------
    starts, stops : (output,) int64
    step : int

    Examples
    --------
    >>> window_pixels(length=4, output=2, kernel=3, stride=2, dilation=1, before=0)
    (array([0, 2]), array([3, 4]), 1)
    """
    first = np.arange(output, dtype=np.int64) * stride - before
    starts = np.where(first < 0, first + -(first // dilation) * dilation, first)
    return starts, np.minimum(first + (kernel - 1) * dilation + 1, length), dilation


def adaptive_cells(length: int, cells: int) -> Ranges:
    """Return `cells` windows that cover an axis: cell ``i`` is ``floor(i n / m)`` to ``ceil((i + 1) n / m)``.

    This is the rule of PyTorch's adaptive pooling. If `length` is not a multiple of `cells`, neighbours may
    overlap by a pixel.

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
