"""Downsampling by an integer factor."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from framecnn import geometry, kernels
from framecnn.arguments import check_choice
from framecnn.layers.base import Backward, Case, Layer, check_frame
from framecnn.layers.settings import PairSetting
from framecnn.typing import Array, Shape

__all__ = ["DownsamplingLayer"]


@dataclass(frozen=True)
class DownsamplingLayer(Layer):
    r"""Reduction of frames by an integer factor: the mean or the first pixel of each block of pixels.

    .. math:: y_{ijk} = \frac{1}{f^2} \sum_{u,v < f} x_{i f + u,\; j f + v,\; k}

    Parameters
    ----------
    factor : int or (int, int)
        Rows and columns of a block, in pixels.
    mode : "mean" (default) or "stride"
        "mean" averages all pixels of a block; "stride" takes the first one, which aliases.

    Shapes
    ------
    x (n, h, w, c) -> y (n, h // factor, w // factor, c); pixels beyond the last full block are dropped

    Raises
    ------
    SettingError
        If a setting is not allowed.
    ShapeError
        When it is built or called, if frames do not fit.

    Notes
    -----
    Keras: ``AveragePooling2D(factor)``.

    Examples
    --------
    >>> DownsamplingLayer(2).build((2, 2, 1))([[[[1], [2]], [[3], [6]]]]).ravel()
    array([3.], dtype=float32)
    """

    factor: PairSetting = PairSetting()
    _: KW_ONLY
    mode: str = "mean"

    cases: ClassVar = (
        Case({"factor": 2}, (6, 9, 3)),
        Case({"factor": (3, 1), "mode": "stride"}, (7, 4, 2)),
    )

    def __post_init__(self) -> None:
        check_choice(self._who, "mode", self.mode, ("mean", "stride"))

    def infer_shape(self, input_shape: Shape) -> Shape:
        height, width, channels = check_frame(self._who, input_shape)
        return (*self._window((height, width)).output, channels)

    def forward(self, x: Array) -> Array:
        return kernels.pool2d(x, *self._blocks(x.shape[1:3]), "average")

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        backward = kernels.pool2d_backward(x, *self._blocks(x.shape[1:3]), "average")
        return self.forward(x), lambda dy: (backward(dy), {})

    def _blocks(self, frame: geometry.Pair) -> tuple[geometry.Ranges, geometry.Ranges]:
        """Return the pixels of the blocks along the rows and the columns of a frame."""
        rows, columns = (
            (starts, stops if self.mode == "mean" else starts + 1, step)
            for starts, stops, step in self._window(frame).pixels
        )
        return rows, columns

    def _window(self, frame: geometry.Pair) -> geometry.Window:
        return geometry.sliding_window(frame, self.factor, self.factor, (1, 1), "valid", self._who)
