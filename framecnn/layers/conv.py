"""The convolutional layer."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from framecnn import geometry, kernels
from framecnn.arguments import check_choice, check_size
from framecnn.errors import SettingError, ShapeError
from framecnn.layers.base import Backward, Case, Layer, Param, check_fits, check_frame
from framecnn.layers.normalization import Scaling, pack_with_norm
from framecnn.layers.settings import PairSetting, check_initial, layer_window
from framecnn.typing import Array, Shape

__all__ = ["ConvLayer"]


@dataclass(frozen=True)
class ConvLayer(Layer):
    r"""Filters that slide over a frame: the cross-correlation that deep learning calls convolution.

    .. math:: y_{ijf} = b_f + \sum_{u,v,k} x_{i s + u d - top,\; j s + v d - left,\; k}\; kernel_{uvkf}

    Parameters
    ----------
    filters : int
        Channels of the output.
    kernel_size : int or (int, int)
        Rows and columns of the window, in pixels.
    strides : int or (int, int), default 1
        Step from one window to the next, in pixels.
    padding : "valid" (default), "same" or ((top, bottom), (left, right))
        Zeros around the frame, in pixels; "same" pads as TensorFlow does.
    dilation_rate : int or (int, int), default 1
        Step between the pixels of a window, in pixels.
    groups : int, default 1
        Number of groups into which channels and filters are split; a filter reads the channels of its group only. With
        as many groups as channels the convolution is depthwise.
    use_bias : bool, default True
    kernel_initializer : str, default "glorot_uniform"
    algorithm : "auto" (default), "direct", "depthwise", "winograd2" or "winograd4"
        How the sum is computed. "auto" chooses the fastest for the shapes; "direct" sums as the definition does,
        and so does "depthwise", for as many groups as channels (:mod:`framecnn.kernels.depthwise`);
        Winograd's F(2x2, 3x3), F(4x4, 3x3) and F(2x2, 5x5), for kernels of 3 x 3 and 5 x 5 without strides and
        dilation, need 2.25, 4 and 2.8 times fewer products and round more (:mod:`framecnn.kernels.winograd`).

    Shapes
    ------
    x (n, h, w, c) -> y (n, oh, ow, filters); kernel (kh, kw, c / groups, filters), bias (filters,)

    Raises
    ------
    SettingError
        If a setting is not allowed.
    ShapeError
        When it is built or called, if frames do not fit.

    Notes
    -----
    ``oh ow kh kw (c / groups) filters`` multiply-adds for one frame. The direct sum is off by at most ``(K + 2) eps``
    times the sum of absolute products, K = kh kw c / groups. Keras: ``Conv2D``, same layouts; ONNX: ``Conv``.

    Examples
    --------
    >>> layer = ConvLayer(8, kernel_size=3).build((240, 360, 3), seed=0)
    >>> layer.output_shape, layer.params["kernel"].shape, layer.n_params
    ((238, 358, 8), (3, 3, 3, 8), 224)
    """

    filters: int
    _: KW_ONLY
    kernel_size: PairSetting = PairSetting()
    strides: PairSetting = PairSetting(1)
    padding: geometry.Padding = "valid"
    dilation_rate: PairSetting = PairSetting(1)
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
        Case({"filters": 18, "kernel_size": 5, "padding": ((2, 1), (0, 2)), "algorithm": "winograd2"}, (9, 12, 6)),
        Case({"filters": 72, "kernel_size": 3, "padding": "same", "groups": 3, "algorithm": "winograd4"}, (9, 11, 48)),
        Case({"filters": 20, "kernel_size": 3, "padding": "same", "groups": 20}, (9, 11, 20)),
        Case({"filters": 34, "kernel_size": 5, "strides": 2, "padding": "same", "groups": 17}, (12, 17, 17)),
        Case(
            {"filters": 9, "kernel_size": (3, 2), "strides": (3, 1), "dilation_rate": (2, 1), "groups": 3}, (13, 9, 3)
        ),
    )

    def __post_init__(self) -> None:
        check_initial(self._who, self.use_bias, self.kernel_initializer)
        check_choice(self._who, "algorithm", self.algorithm, ("auto", *kernels.ALGORITHMS))
        self._set(
            filters=check_size(self._who, "filters", self.filters),
            padding=geometry.as_padding(self.padding, self._who),
            groups=check_size(self._who, "groups", self.groups),
        )
        names = kernels.algorithms_for(self.kernel_size, self.strides, self.dilation_rate)
        if self.algorithm not in ("auto", "depthwise", *names):
            raise SettingError(
                f"{self._who}: expected a kernel of 3 x 3, or for 'winograd2' 5 x 5, without strides and dilation for "
                f"{self.algorithm!r}, got kernel_size={self.kernel_size}, strides={self.strides}, "
                f"dilation_rate={self.dilation_rate}; use algorithm='direct'"
            )

    def infer_shape(self, input_shape: Shape) -> Shape:
        height, width, channels = check_frame(self._who, input_shape)
        if channels % self.groups or self.filters % self.groups:
            raise ShapeError(
                f"{self._who}: expected channels and filters as multiples of groups={self.groups}, "
                f"got {channels} channels and {self.filters} filters"
            )
        if self.algorithm == "depthwise" and channels != self.groups:
            raise ShapeError(
                f"{self._who}: expected as many channels as groups for 'depthwise', got {channels} channels and "
                f"{self.groups} groups; use algorithm='auto'"
            )
        window = layer_window(self, (height, width), self.kernel_size)
        bordered = height + sum(window.border[0]), width + sum(window.border[1]), channels
        check_fits(self._who, "an input with its border", bordered)
        return (*window.output, self.filters)

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        kernel = (*self.kernel_size, input_shape[2] // self.groups, self.filters)
        specs = {"kernel": Param(kernel, self.kernel_initializer)}
        return specs | {"bias": Param((self.filters,), "zeros")} if self.use_bias else specs

    def forward(self, x: Array) -> Array:
        return self.forward_fused(x)

    def forward_fused(
        self, x: Array, norm: Scaling | None = None, residual: Array | None = None, **after: Any
    ) -> Array:
        """Return the output after batch normalisation, activation and pooling, all computed in one pass.

        A residual, in the shape of the output, is added before the activation; there is no pooling then.
        """
        window = layer_window(self, x.shape[1:3], self.kernel_size)
        if residual is not None:
            return kernels.conv2d_added(x, self._packed(window, norm), window, residual, **after)
        return kernels.conv2d(x, self._packed(window, norm), window, **after)

    def forward_expanded(
        self, x: Array, expansion: "ConvLayer", norms: tuple[Scaling | None, Scaling | None], between: Any, **after: Any
    ) -> Array:
        """Return the output of `expansion`, a 1 x 1 convolution, followed by this depthwise one, in one pass.

        `norms` are their batch normalisations, `between` are name and negative slope of the activation between them.
        """
        window = layer_window(self, x.shape[1:3], self.kernel_size)
        pointwise = expansion._packed(layer_window(expansion, x.shape[1:3], expansion.kernel_size), norms[0])
        return kernels.expanded_depthwise(x, pointwise, between, self._packed(window, norms[1]), window, **after)

    def expands(self, expansion: "ConvLayer", frame: Shape) -> bool:
        """Return whether :meth:`forward_expanded` fits the two layers, and is faster for frames (h, w, c)."""
        plain = expansion.kernel_size == expansion.strides == (1, 1) and expansion.groups == 1
        if not plain or expansion.infer_shape(frame)[:2] != frame[:2]:
            return False
        if {expansion.algorithm, self.algorithm} - {"auto", "direct", "depthwise"} or self.algorithm == "direct":
            return False
        if not self.groups == self.filters == expansion.filters > 1:
            return False
        window = layer_window(self, (frame[0], frame[1]), self.kernel_size)
        return kernels.is_worth_expanding(window, self.filters)

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        return self.vjp_fused(x)

    def vjp_fused(self, x: Array, wrt_input: bool = True, **after: Any) -> tuple[Array, Backward]:
        """Return output and backward of the layer followed by relu and 2 x 2 max pooling, in one pass.

        Neither the activations nor their gradients are ever in memory for all frames. If not `wrt_input`, dx is None.
        """
        window, kernel = layer_window(self, x.shape[1:3], self.kernel_size), self.params["kernel"]
        packed, argmax = self._pack(window)(kernel, self.params.get("bias")), None  # anew: training changes parameters
        if "windows" in after:
            argmax = np.empty((len(x), *(length // 2 for length in window.output), self.filters), np.uint8)
        y = kernels.conv2d(x, packed, window, argmax=argmax, **after)
        function = after.get("activation", "linear")
        negative_slope = 0.0 if function == "relu" else 1.0

        def backward(dy: Array) -> tuple[Any, dict[str, Array]]:
            if argmax is not None:
                gradients = kernels.Gradients(dy, y, argmax, negative_slope)
            elif function == "linear":
                gradients = kernels.Gradients(dy)
            else:
                gradients = kernels.Gradients(kernels.activate_backward(dy, y, y, function, negative_slope))
            flipped = self._flipped(kernel, window) if wrt_input else None
            dx, dkernel, dbias = kernels.conv2d_backward(x, gradients, packed, flipped, window)
            return dx, {"kernel": dkernel} | ({"bias": dbias} if self.use_bias else {})

        return y, backward

    def _packed(self, window: geometry.Window, norm: Scaling | None = None) -> kernels.PackedConv:
        return pack_with_norm(self.params, norm, self._pack(window))

    def _pack(self, window: geometry.Window) -> Callable[[Array, Array | None], kernels.PackedConv]:
        """Return the function that packs a kernel and a bias."""
        return lambda kernel, bias: kernels.PackedConv.of(self._choose(kernel, window), kernel, bias, self.groups)

    def _flipped(self, kernel: Array, window: geometry.Window) -> Any:
        """Return the packed kernel of the input gradient; without strides any algorithm fits."""
        algorithm = self._choose(kernel, window)
        if algorithm != "depthwise":
            plain = self.strides == (1, 1)
            flipped = kernel.reshape(*self.kernel_size, self.filters // self.groups, -1)  # its shape is what counts
            algorithm = self._choose(flipped, window.transposed()) if plain else "direct"
            if algorithm == "depthwise":  # a filter for each group of several channels
                algorithm = "direct"
        return kernels.pack_flipped(algorithm, kernel, self.groups, self.strides, self.dilation_rate)

    def _choose(self, kernel: Array, window: geometry.Window) -> str:
        return kernels.choose_algorithm(kernel, window, self.groups) if self.algorithm == "auto" else self.algorithm

    def multiply_adds(self, input_shape: Shape) -> int:
        rows, columns, _ = self.infer_shape(input_shape)
        window = self.kernel_size[0] * self.kernel_size[1]
        return rows * columns * window * (input_shape[2] // self.groups) * self.filters
