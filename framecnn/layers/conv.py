"""Convolution over frames."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from framecnn import geometry, kernels
from framecnn.errors import ShapeError
from framecnn.layers.base import Backward, Case, Layer, Param, check_choice, check_count, check_frame, check_initial
from framecnn.typing import Array, Shape

__all__ = ["ConvLayer"]


@dataclass(frozen=True)
class ConvLayer(Layer):
    r"""Slide filters over a frame (the cross-correlation that deep learning calls convolution).

    .. math:: y_{ijf} = b_f + \sum_{u,v,k} x_{i s + u d - top,\; j s + v d - left,\; k}\; kernel_{uvkf}

    Parameters
    ----------
    filters : int
        Channels of the output.
    kernel_size : int or (int, int)
        Rows and columns of the window, in pixels.
    strides : int or (int, int), default 1
        Step of the window, in pixels.
    padding : "valid" (default), "same" or ((top, bottom), (left, right))
        Border of zeros, in pixels; "same" is TensorFlow's rule.
    dilation_rate : int or (int, int), default 1
        Step inside the window, in pixels.
    groups : int, default 1
        Channels and filters are split into so many groups that do not see each other.
    use_bias : bool, default True
    kernel_initializer : str, default "glorot_uniform"
    algorithm : "auto" (default), "direct", "winograd2" or "winograd4"
        How the sum is computed. "auto" is the fastest for the shapes; "direct" adds up the definition; Winograd's
        F(2x2, 3x3) and F(4x4, 3x3), for kernels of 3 x 3 without strides, dilation and groups, need 2.25 and 4 times
        fewer products and round more (:mod:`framecnn.kernels.winograd`).

    Shapes
    ------
    x (n, h, w, c) -> y (n, oh, ow, filters); kernel (kh, kw, c / groups, filters), bias (filters,)

    Raises
    ------
    ShapeError
        ``ConvLayer: expected ..., got ...`` for settings or frames that do not fit.

    Notes
    -----
    ``oh ow kh kw (c / groups) filters`` multiply-adds a frame. Direct, each value is within ``(K + 2) eps`` of the sum
    of absolute products, K = kh kw c / groups. Keras: ``Conv2D``, same layouts; ONNX: ``Conv``.

    Examples
    --------
    >>> layer = ConvLayer(8, kernel_size=3).build((240, 360, 3), seed=0)
    >>> layer.output_shape, layer.params["kernel"].shape, layer.n_params
    ((238, 358, 8), (3, 3, 3, 8), 224)
    """

    filters: int
    _: KW_ONLY
    kernel_size: geometry.PairSetting
    strides: geometry.PairSetting = 1
    padding: geometry.Padding = "valid"
    dilation_rate: geometry.PairSetting = 1
    groups: int = 1
    use_bias: bool = True
    kernel_initializer: str = "glorot_uniform"
    algorithm: str = "auto"

    cases: ClassVar = (
        Case({"filters": 5, "kernel_size": 3}, (7, 9, 2)),
        Case({"filters": 32, "kernel_size": 3, "padding": "same"}, (12, 13, 8)),
        Case({"filters": 17, "kernel_size": (5, 2), "strides": (2, 3), "padding": "same"}, (11, 14, 3)),
        Case({"filters": 6, "kernel_size": 3, "dilation_rate": (2, 3), "groups": 2}, (9, 11, 4)),
        Case({"filters": 4, "kernel_size": 2, "padding": ((0, 1), (2, 0)), "use_bias": False}, (4, 5, 1)),
        Case({"filters": 33, "kernel_size": 1}, (6, 6, 16)),
        Case({"filters": 17, "kernel_size": 3, "padding": "same", "algorithm": "winograd2"}, (7, 9, 5)),
        Case({"filters": 33, "kernel_size": 3, "padding": ((0, 2), (1, 0)), "algorithm": "winograd4"}, (10, 13, 8)),
    )

    def __post_init__(self) -> None:
        check_initial("ConvLayer", self.use_bias, self.kernel_initializer)
        check_choice("ConvLayer", "algorithm", self.algorithm, ("auto", *kernels.ALGORITHMS))
        self._set(
            filters=check_count("ConvLayer", "filters", self.filters),
            kernel_size=geometry.pair(self.kernel_size, "ConvLayer", "kernel_size"),
            strides=geometry.pair(self.strides, "ConvLayer", "strides"),
            padding=geometry.as_padding(self.padding, "ConvLayer"),
            dilation_rate=geometry.pair(self.dilation_rate, "ConvLayer", "dilation_rate"),
            groups=check_count("ConvLayer", "groups", self.groups),
        )
        plain = (self.kernel_size, self.strides, self.dilation_rate, self.groups) == ((3, 3), (1, 1), (1, 1), 1)
        if self.algorithm.startswith("winograd") and not plain:
            raise ShapeError(
                f"ConvLayer: expected a kernel of 3 x 3 without strides, dilation and groups for "
                f"{self.algorithm!r}, got kernel_size={self.kernel_size}, strides={self.strides}, "
                f"dilation_rate={self.dilation_rate}, groups={self.groups}; use algorithm='direct'"
            )

    def infer_shape(self, input_shape: Shape) -> Shape:
        height, width, channels = check_frame("ConvLayer", input_shape)
        if channels % self.groups or self.filters % self.groups:
            raise ShapeError(
                f"ConvLayer: expected channels and filters as multiples of groups={self.groups}, "
                f"got {channels} channels and {self.filters} filters"
            )
        return (*self._window((height, width))[0], self.filters)

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        kernel = (*self.kernel_size, input_shape[2] // self.groups, self.filters)
        specs = {"kernel": Param(kernel, self.kernel_initializer)}
        return specs | {"bias": Param((self.filters,), "zeros")} if self.use_bias else specs

    def forward(self, x: Array) -> Array:
        return self.forward_fused(x)

    def forward_fused(self, x: Array, **after: Any) -> Array:
        """Give the output after an activation and pooling, as :func:`framecnn.kernels.conv2d` takes them."""
        output, ((top, _), (left, _)) = self._window(x.shape[1:3])
        packed = self.params.derived("packed", lambda: self._packed(output))
        return kernels.conv2d(x, packed, (top, left), output, **after)

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        output, ((top, _), (left, _)) = self._window(x.shape[1:3])
        params, corner, frame = self.params, (top, left), x.shape[1:3]
        algorithm = self._algorithm(output)
        turned = kernels.pack_backward(algorithm, params["kernel"], self.dilation_rate, self.groups)

        def backward(dy: Array) -> tuple[Array, dict[str, Array]]:
            dkernel, dbias = kernels.conv2d_backward_wrt_kernel(
                x, dy, self.kernel_size, self.strides, corner, self.dilation_rate, self.groups
            )
            dx = kernels.conv2d_backward_wrt_input(dy, turned, self.strides, corner, frame)
            return dx, {"kernel": dkernel} | ({"bias": dbias} if self.use_bias else {})

        return self.forward(x), backward

    def _packed(self, output: geometry.Pair) -> kernels.PackedConv:
        settings = (self.strides, self.dilation_rate, self.groups)
        return kernels.PackedConv.of(self._algorithm(output), self.params["kernel"], self.params.get("bias"), *settings)

    def _algorithm(self, output: geometry.Pair) -> str:
        settings = (self.strides, self.dilation_rate, self.groups)
        kernel = self.params["kernel"]
        return kernels.choose_algorithm(kernel, *settings, output) if self.algorithm == "auto" else self.algorithm

    def multiply_adds(self, input_shape: Shape) -> int:
        rows, columns, _ = self.infer_shape(input_shape)
        window = self.kernel_size[0] * self.kernel_size[1]
        return rows * columns * window * (input_shape[2] // self.groups) * self.filters

    def _window(self, frame: geometry.Pair) -> tuple[geometry.Pair, geometry.Border]:
        return geometry.window_output(
            frame, self.kernel_size, self.strides, self.dilation_rate, self.padding, "ConvLayer"
        )
