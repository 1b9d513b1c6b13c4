"""Pooling: the maximum or the mean of each window."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from framecnn import geometry, kernels
from framecnn.arguments import check_choice
from framecnn.errors import SettingError, ShapeError
from framecnn.layers.base import Backward, Case, Layer, check_frame
from framecnn.layers.settings import PairSetting, layer_window
from framecnn.typing import Array, Shape

__all__ = ["PoolingLayer"]

MODES = ("max", "average", "adaptive_max", "adaptive_average")


@dataclass(frozen=True)
class PoolingLayer(Layer):
    r"""The maximum or the mean of every window, channel by channel.

    .. math:: y_{ijk} = \max_{u,v} x_{i s + u d - top,\; j s + v d - left,\; k}

    Parameters
    ----------
    pool_size : int or (int, int)
        Rows and columns of the window, in pixels; in the adaptive modes, rows and columns of the output.
    strides : int or (int, int), default `pool_size`
        Step from one window to the next, in pixels.
    padding : "valid" (default), "same" or ((top, bottom), (left, right))
        Border around the frame, in pixels. It has no values: a maximum ignores it, a mean divides by the pixels of the
        frame.
    dilation_rate : int or (int, int), default 1
        Step between the pixels of a window, in pixels.
    mode : "max" (default), "average", "adaptive_max" or "adaptive_average"
        Adaptive windows cover a frame of any size: cell ``i`` of ``m`` runs from ``floor(i h / m)`` to
        ``ceil((i + 1) h / m)``.

    Shapes
    ------
    x (n, h, w, c) -> y (n, oh, ow, c)

    Raises
    ------
    SettingError
        If a setting is not allowed.
    ShapeError
        When it is built or called, if frames do not fit.

    Notes
    -----
    A window with NaN gives NaN. Keras: ``MaxPooling2D``, ``AveragePooling2D``; PyTorch: ``AdaptiveAvgPool2d``.

    Examples
    --------
    >>> layer = PoolingLayer(2).build((2, 4, 1))
    >>> layer([[[[1], [2], [5], [6]], [[3], [4], [7], [8]]]]).ravel()
    array([4., 8.], dtype=float32)
    """

    pool_size: PairSetting = PairSetting()
    _: KW_ONLY
    strides: PairSetting = PairSetting(same_as="pool_size")
    padding: geometry.Padding = "valid"
    dilation_rate: PairSetting = PairSetting(1)
    mode: str = "max"

    cases: ClassVar = (
        Case({"pool_size": 2}, (6, 8, 3)),
        Case({"pool_size": (3, 2), "strides": (2, 1), "padding": "same"}, (7, 6, 2)),
        Case({"pool_size": 3, "strides": 2, "padding": ((1, 0), (2, 1)), "mode": "average"}, (6, 7, 5)),
        Case({"pool_size": 2, "strides": 1, "dilation_rate": (1, 2), "mode": "average", "padding": "same"}, (5, 6, 1)),
        Case({"pool_size": (3, 4), "mode": "adaptive_average"}, (7, 9, 2)),
        Case({"pool_size": 2, "mode": "adaptive_max"}, (5, 5, 3)),
    )

    def __post_init__(self) -> None:
        check_choice(self._who, "mode", self.mode, MODES)
        self._set(padding=geometry.as_padding(self.padding, self._who))
        if self._adaptive and (self.strides, self.padding, self.dilation_rate) != (self.pool_size, "valid", (1, 1)):
            raise SettingError(
                f"{self._who}: expected no strides, padding or dilation_rate with mode={self.mode!r}, "
                f"got {self.strides}, {self.padding!r} and {self.dilation_rate}"
            )

    def infer_shape(self, input_shape: Shape) -> Shape:
        height, width, channels = check_frame(self._who, input_shape)
        if self._adaptive:
            return (*self.pool_size, channels)
        window = layer_window(self, (height, width), self.pool_size)
        for length, sides, size, step in zip(window.frame, window.border, window.kernel, window.dilation, strict=True):
            if max(sides) > (size - 1) * step or (size > 1 and step > length):
                raise ShapeError(
                    f"{self._who}: expected every window to meet the frame {height}x{width}, got pool_size "
                    f"{self.pool_size}, dilation_rate {self.dilation_rate}, padding {self.padding!r}; use less of them"
                )
        return (*window.output, channels)

    def forward(self, x: Array) -> Array:
        return kernels.pool2d(x, *self.windows(x.shape[1:3]), self.reduction)

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        backward = kernels.pool2d_backward(x, *self.windows(x.shape[1:3]), self.reduction)
        return self.forward(x), lambda dy: (backward(dy), {})

    @property
    def reduction(self) -> str:
        """``"max"`` or ``"average"``."""
        return self.mode.removeprefix("adaptive_")

    def windows(self, frame: geometry.Pair) -> tuple[geometry.Ranges, geometry.Ranges]:
        """Return the pixels of the windows along the rows and the columns of a frame."""
        if not self._adaptive:
            return layer_window(self, frame, self.pool_size).pixels
        rows, columns = map(geometry.adaptive_cells, frame, self.pool_size)
        return rows, columns

    @property
    def _adaptive(self) -> bool:
        return self.mode.startswith("adaptive")
