"""The fully connected layer."""

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from framecnn import kernels
from framecnn.arguments import check_size
from framecnn.errors import ShapeError
from framecnn.layers.base import Backward, Case, Layer, Param
from framecnn.layers.normalization import Scaling, pack_with_norm
from framecnn.layers.settings import check_initial
from framecnn.typing import Array, Shape

__all__ = ["DenseLayer"]


@dataclass(frozen=True)
class DenseLayer(Layer):
    """A weighted sum of all features of a row, for every unit.

    .. math:: y = x \\cdot kernel + bias

    Parameters
    ----------
    units : int
        Values of the output.
    use_bias : bool, default True
    kernel_initializer : str, default "glorot_uniform"

    Shapes
    ------
    x (n, d) -> y (n, units); kernel (d, units), bias (units,)

    Raises
    ------
    SettingError
        If a setting is not allowed.
    ShapeError
        When it is built or called, if the input is not rows of features.

    Notes
    -----
    ``d units`` multiply-adds for one row. Each value is off by at most ``(d + 2) eps`` times the sum of absolute
    products. Keras: ``Dense``; ONNX: ``Gemm``.

    Examples
    --------
    >>> layer = DenseLayer(1).build((2,))
    >>> layer.params["kernel"] = [[2], [3]]
    >>> layer([[1, 1]])
    array([[5.]], dtype=float32)
    """

    units: int
    _: KW_ONLY
    use_bias: bool = True
    kernel_initializer: str = "glorot_uniform"

    cases: ClassVar = (Case({"units": 7}, (13,)), Case({"units": 33, "use_bias": False}, (40,)))

    def __post_init__(self) -> None:
        check_initial(self._who, self.use_bias, self.kernel_initializer)
        self._set(units=check_size(self._who, "units", self.units))

    def infer_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise ShapeError(
                f"{self._who}: expected rows of features (d,), got {tuple(input_shape)}; "
                f"put a FlatteningLayer before it"
            )
        return (self.units,)

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        specs = {"kernel": Param((input_shape[0], self.units), self.kernel_initializer)}
        return specs | {"bias": Param((self.units,), "zeros")} if self.use_bias else specs

    def forward(self, x: Array) -> Array:
        return self.forward_fused(x)

    def forward_fused(
        self, x: Array, norm: Scaling | None = None, activation: str = "linear", negative_slope: float = 0.0
    ) -> Array:
        """Return the output after batch normalisation and an activation, all computed in one pass."""
        packed = pack_with_norm(self.params, norm, kernels.PackedDense.of)
        return kernels.dense(x, packed, activation, negative_slope)

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        kernel = self.params["kernel"]

        def backward(dy: Array) -> tuple[Array, dict[str, Array]]:
            dx, dkernel, dbias = kernels.dense_backward(x, kernel, dy)
            return dx, {"kernel": dkernel} | ({"bias": dbias} if self.use_bias else {})

        packed = kernels.PackedDense.of(kernel, self.params.get("bias"))  # anew: training changes parameters
        return kernels.dense(x, packed), backward

    def multiply_adds(self, input_shape: Shape) -> int:
        return input_shape[0] * self.units
