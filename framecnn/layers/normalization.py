"""Batch normalisation, and its folding into the layer before it."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, TypeVar

import numpy as np

from framecnn import kernels
from framecnn.arguments import check_number
from framecnn.errors import SettingError
from framecnn.layers.base import Backward, Case, Layer, Param, Params
from framecnn.layers.scaling import ScalingLayer
from framecnn.typing import Array, Shape

__all__ = ["BatchNormLayer", "Scaling", "pack_with_norm"]

Packed = TypeVar("Packed")


@dataclass(frozen=True)
class BatchNormLayer(Layer):
    r"""Every channel shifted and scaled to the mean `beta` and the standard deviation `gamma`.

    .. math:: y = gamma \frac{x - mean}{\sqrt{variance + epsilon}} + beta

    In training, mean and variance are taken over all axes of the batch but the last, and update the stored ones:
    ``moving = momentum * moving + (1 - momentum) * batch``. At inference, the stored ones are used.

    Parameters
    ----------
    momentum : float, default 0.99
        From 0 to 1.
    epsilon : float, default 0.001
        Added to the variance; positive.

    Shapes
    ------
    x (n, ..., c) -> y (n, ..., c); gamma, beta, moving_mean, moving_variance (c,)

    Raises
    ------
    SettingError
        If a setting is not allowed.

    Notes
    -----
    After a convolution or a dense layer, predictions fold the layer into kernel and bias, at no cost.
    The variance of the batch is divided by the number of values. Keras and ONNX:
    ``BatchNormalization``.

    References
    ----------
    Ioffe & Szegedy, "Batch Normalization", ICML 2015.

    Examples
    --------
    >>> layer = BatchNormLayer(epsilon=1e-9).build((1,), dtype=np.float64)
    >>> layer.vjp(np.array([[1.0], [3.0]]), np.random.default_rng(0))[0].round(6)
    array([[-1.],
           [ 1.]])
    """

    _: KW_ONLY
    momentum: float = 0.99
    epsilon: float = 1e-3

    cases: ClassVar = (Case({}, (4, 3, 5)), Case({"momentum": 0.5, "epsilon": 0.1}, (6,)))

    def __post_init__(self) -> None:
        momentum = check_number(self._who, "momentum", self.momentum)
        epsilon = check_number(self._who, "epsilon", self.epsilon)
        if not 0 <= momentum <= 1:
            raise SettingError(f"{self._who}: expected momentum as a number from 0 to 1, got {self.momentum!r}")
        if epsilon <= 0:
            raise SettingError(f"{self._who}: expected epsilon as a positive number, got {self.epsilon!r}")
        self._set(momentum=momentum, epsilon=epsilon)

    def infer_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        shape = (input_shape[-1],)
        return {
            "gamma": Param(shape, "ones"),
            "beta": Param(shape, "zeros"),
            "moving_mean": Param(shape, "zeros", trainable=False),
            "moving_variance": Param(shape, "ones", trainable=False),
        }

    def scale_and_shift(self) -> tuple[Array, Array]:
        """Return the factors and the offsets of all channels at inference, (c,) each."""
        return self.params.derived("scale_and_shift", self._scale_and_shift)

    def _scale_and_shift(self) -> tuple[Array, Array]:
        gamma, beta, mean, variance = (value.astype(np.float64) for value in self.params.values())
        scale = gamma / np.sqrt(variance + self.epsilon)
        return scale.astype(self.dtype), (beta - mean * scale).astype(self.dtype)

    def forward(self, x: Array) -> Array:
        return kernels.scale(x, *self.scale_and_shift())

    def vjp(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Backward]:
        return self.vjp_fused(x) if rng is not None and len(x) else self._vjp_inference(x)

    def vjp_fused(self, x: Array, activation: str = "linear") -> tuple[Array, Backward]:
        """Return output and backward in training of the layer followed by relu, or alone, in one pass."""
        gamma, beta, moving_mean, moving_variance = self.params.values()
        mean, variance = kernels.batch_moments(x)
        y = kernels.batch_norm(x, gamma, beta, mean, variance, self.epsilon, activation)
        mask = y if activation == "relu" else None
        moved = kernels.moving_averages((moving_mean, moving_variance), (mean, variance), self.momentum)

        def backward(dy: Array) -> tuple[Array, dict[str, Array]]:
            dx, dgamma, dbeta = kernels.batch_norm_backward(dy, x, gamma, mean, variance, self.epsilon, mask)
            return dx, {"gamma": dgamma, "beta": dbeta, "moving_mean": moved[0], "moving_variance": moved[1]}

        return y, backward

    def _vjp_inference(self, x: Array) -> tuple[Array, Backward]:
        """Return output and backward with the stored mean and variance, which stay unchanged."""
        scale, _ = self.scale_and_shift()
        mean, variance = self.params["moving_mean"], self.params["moving_variance"]
        axes = tuple(range(x.ndim - 1))

        def backward(dy: Array) -> tuple[Array, dict[str, Array]]:
            normal = (x - mean) / np.sqrt(variance + x.dtype.type(self.epsilon))
            grads = {"gamma": (dy * normal).sum(axis=axes), "beta": dy.sum(axis=axes)}
            return dy * scale, grads | {"moving_mean": mean, "moving_variance": variance}

        return self.forward(x), backward


Scaling = BatchNormLayer | ScalingLayer
"""The layers that a kernel before them can be multiplied by."""


def pack_with_norm(params: Params, norm: Scaling | None, pack: Callable[[Array, Array | None], Packed]) -> Packed:
    """Return the packed kernel and bias with `norm` folded in; repacked when either changes."""
    if norm is None:
        return params.derived("packed", lambda: pack(params["kernel"], params.get("bias")))
    scale, shift = norm.scale_and_shift()

    def pack_scaled() -> Packed:
        return pack(params["kernel"] * scale, params.get("bias", np.zeros_like(shift)) * scale + shift)

    return params.derived("packed with norm", pack_scaled, scale, shift)
