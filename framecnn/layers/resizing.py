"""Resizing of frames."""

from dataclasses import dataclass
from typing import Any, ClassVar

from framecnn import kernels
from framecnn.layers.base import Backward, Case, Layer, check_frame
from framecnn.layers.settings import PairSetting
from framecnn.typing import Array, Shape

__all__ = ["ResizingLayer"]


@dataclass(frozen=True)
class ResizingLayer(Layer):
    r"""Frames of another size, by bilinear interpolation that averages all pixels where frames shrink (antialiasing).

    .. math:: y_{ijk} = \sum_{u,v} r_{iu}\, c_{jv}\, x_{uvk}, \qquad
        r_{iu} \propto \max(0,\; 1 - |u + 1/2 - (i + 1/2) s| / \max(s, 1)), \quad s = h / oh

    Parameters
    ----------
    size : int or (int, int)
        Rows and columns of the output, in pixels.

    Shapes
    ------
    x (n, h, w, c) -> y (n, *size, c)

    Raises
    ------
    SettingError
        If a setting is not allowed.
    ShapeError
        When it is built or called, if frames do not fit.

    Notes
    -----
    The weights of an output pixel sum to 1 exactly. PyTorch: ``interpolate(mode="bilinear", antialias=True)``; Pillow:
    ``resize(size, BILINEAR)``, which rounds; ONNX: ``Resize`` with ``antialias``.

    Examples
    --------
    >>> ResizingLayer(1).build((1, 2, 1))([[[[1], [3]]]]).ravel()
    array([2.], dtype=float32)
    """

    size: PairSetting = PairSetting()

    cases: ClassVar = (
        Case({"size": (4, 5)}, (7, 9, 3)),
        Case({"size": (6, 2)}, (3, 11, 2)),
        Case({"size": 5}, (5, 5, 1)),
    )

    def infer_shape(self, input_shape: Shape) -> Shape:
        return (*self.size, check_frame(self._who, input_shape)[2])

    def forward(self, x: Array) -> Array:
        return kernels.resample2d(x, self.size)

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        frame = x.shape[1], x.shape[2]
        return self.forward(x), lambda dy: (kernels.resample2d_backward(dy, frame), {})
