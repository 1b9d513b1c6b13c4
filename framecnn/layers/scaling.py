"""Scaling and shifting of every channel."""

from dataclasses import dataclass
from typing import Any, ClassVar

from framecnn import kernels
from framecnn.layers.base import Backward, Case, Layer, Param
from framecnn.typing import Array, Shape

__all__ = ["ScalingLayer"]


@dataclass(frozen=True)
class ScalingLayer(Layer):
    r"""Every channel multiplied by a factor, and shifted by an offset.

    .. math:: y_{ijk} = scale_k x_{ijk} + offset_k

    With ``scale = 1 / deviation`` and ``offset = -mean / deviation`` it standardises the channels of frames.

    Shapes
    ------
    x (n, ..., c) -> y (n, ..., c); scale, offset (c,)

    Notes
    -----
    After a convolution or a dense layer, predictions fold the layer into kernel and bias, at no cost. Keras:
    ``Normalization``, ``Rescaling`` with a list; ONNX: ``Mul`` and ``Add``.

    Examples
    --------
    >>> layer = ScalingLayer().build((2,))
    >>> layer.params.update(scale=[2, 3], offset=[0, 1])
    >>> layer([[1, 1]])
    array([[2., 4.]], dtype=float32)
    """

    cases: ClassVar = (Case({}, (4, 3, 5)), Case({}, (6,)))

    def infer_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        shape = (input_shape[-1],)
        return {"scale": Param(shape, "ones"), "offset": Param(shape, "zeros")}

    def scale_and_shift(self) -> tuple[Array, Array]:
        """Return the factors and the offsets of all channels, (c,) each."""
        return self.params["scale"], self.params["offset"]

    def forward(self, x: Array) -> Array:
        return kernels.scale(x, *self.scale_and_shift())

    def vjp(self, x: Array, rng: Any = None) -> tuple[Array, Backward]:
        axes, scale = tuple(range(x.ndim - 1)), self.params["scale"]

        def backward(dy: Array) -> tuple[Array, dict[str, Array]]:
            return dy * scale, {"scale": (dy * x).sum(axis=axes), "offset": dy.sum(axis=axes)}

        return self.forward(x), backward
