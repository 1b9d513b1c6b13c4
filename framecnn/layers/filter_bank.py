"""Filters over contrast-normalised windows, which are learned without back-propagation."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from framecnn import geometry, kernels
from framecnn.arguments import check_number, check_size
from framecnn.errors import SettingError
from framecnn.layers.base import Backward, Case, Layer, Param, check_frame
from framecnn.layers.settings import PairSetting, layer_window
from framecnn.typing import Array, Shape

__all__ = ["FilterBankLayer"]


@dataclass(frozen=True)
class FilterBankLayer(Layer):
    r"""Responses of filters to each window, independent of its brightness and contrast.

    .. math::

        y_{tf} = \max\left(
            0,\; kernel_f \cdot \frac{window - mean}{\sqrt{variance + contrast}} + bias_f - threshold_t
        \right)

    Mean and variance are taken over the kh kw c values of the window. The whitening of learned filters is folded into
    kernel and bias (:mod:`framecnn.estimators.filter_learning`).

    Parameters
    ----------
    filters : int
        Number of filters.
    kernel_size : int or (int, int)
        Rows and columns of the window, in pixels.
    strides : int or (int, int), default 1
        Step from one window to the next, in pixels.
    contrast : float, default 10.0
        Added to the variance, in squared pixel values of 0..255, so that flat windows respond weakly.
    thresholds : tuple of float, default (0.25, 0.75)
        Each threshold adds one map per filter, such as its weak or strong responses.

    Shapes
    ------
    x (n, h, w, c) -> y (n, oh, ow, thresholds * filters), threshold by threshold; kernel (kh, kw, c, filters),
    bias (filters,)

    Raises
    ------
    SettingError
        If a setting is not allowed.
    ShapeError
        When it is built or called, if frames do not fit.

    Notes
    -----
    ``oh ow kh kw c filters`` multiply-adds for one frame, for any number of thresholds.

    References
    ----------
    Coates, Lee & Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.

    Examples
    --------
    >>> FilterBankLayer(400, kernel_size=6, strides=3).build((240, 360, 3)).output_shape
    (79, 119, 800)
    """

    filters: int
    _: KW_ONLY
    kernel_size: PairSetting = PairSetting()
    strides: PairSetting = PairSetting(1)
    contrast: float = 10.0
    thresholds: tuple[float, ...] = (0.25, 0.75)

    cases: ClassVar = (
        Case({"filters": 5, "kernel_size": 3}, (8, 9, 3)),
        Case({"filters": 20, "kernel_size": (4, 3), "strides": (2, 3), "thresholds": (0.5,)}, (9, 13, 2)),
    )

    def __post_init__(self) -> None:
        thresholds = tuple(self.thresholds) if np.iterable(self.thresholds) else ()
        if not thresholds:
            raise SettingError(f"{self._who}: expected thresholds as finite numbers, got {self.thresholds!r}")
        contrast = check_number(self._who, "contrast", self.contrast)
        if contrast <= 0:
            raise SettingError(f"{self._who}: expected contrast as a positive number, got {self.contrast!r}")
        self._set(
            filters=check_size(self._who, "filters", self.filters),
            contrast=contrast,
            thresholds=tuple(check_number(self._who, "every threshold", t) for t in thresholds),
        )

    def infer_shape(self, input_shape: Shape) -> Shape:
        height, width, _ = check_frame(self._who, input_shape)
        return (*layer_window(self, (height, width), self.kernel_size).output, self.filters * len(self.thresholds))

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        kernel = (*self.kernel_size, input_shape[2], self.filters)
        return {"kernel": Param(kernel, "glorot_uniform"), "bias": Param((self.filters,), "zeros")}

    def forward(self, x: Array) -> Array:
        return kernels.filter_bank(x, self._packed(), layer_window(self, x.shape[1:3], self.kernel_size))

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        y, kernel, levels = self.forward(x), self.params["kernel"], len(self.thresholds)
        window = layer_window(self, x.shape[1:3], self.kernel_size)
        centred = kernel - kernel.mean(axis=(0, 1, 2))

        def backward(dy: Array) -> tuple[Array, dict[str, Array]]:
            dresponse = np.where(y > 0, dy, 0).reshape(*dy.shape[:3], levels, self.filters).sum(axis=3)
            dx, dcentred, dbias = kernels.filter_bank_backward(x, centred, dresponse, window, self.contrast)
            return dx, {"kernel": dcentred - dcentred.mean(axis=(0, 1, 2)), "bias": dbias}

        return y, backward

    def forward_average(self, x: Array, grid: geometry.Pair) -> Array:
        """Return the responses averaged over the cells of an adaptive grid, (n, *grid, channels), in one pass."""
        window = layer_window(self, x.shape[1:3], self.kernel_size)
        rows, columns = map(geometry.adaptive_cells, window.output, grid)
        return kernels.filter_bank_average(x, self._packed(), window, (rows, columns))

    def multiply_adds(self, input_shape: Shape) -> int:
        rows, columns, _ = self.infer_shape(input_shape)
        return rows * columns * self.kernel_size[0] * self.kernel_size[1] * input_shape[2] * self.filters

    def _packed(self) -> kernels.PackedBank:
        def pack() -> kernels.PackedBank:
            return kernels.PackedBank.of(self.params["kernel"], self.params["bias"], self.contrast, self.thresholds)

        return self.params.derived("packed", pack)
