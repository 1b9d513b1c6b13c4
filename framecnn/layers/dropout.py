"""Dropout: values set to zero at random, in training only."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from framecnn.arguments import check_number
from framecnn.errors import SettingError
from framecnn.layers.base import Backward, Case, Layer
from framecnn.typing import Array, Shape

__all__ = ["DropoutLayer"]


@dataclass(frozen=True)
class DropoutLayer(Layer):
    r"""Values set to zero at random in training, the others scaled so that the expected value stays the same.

    .. math:: y = \frac{kept}{1 - rate} x, \quad kept \sim Bernoulli(1 - rate)

    At inference, and so in every forward pass, y is x.

    Parameters
    ----------
    rate : float
        Probability that a value is set to zero, from 0 to below 1.

    Shapes
    ------
    x (n, ...) -> y (n, ...), x itself at inference

    Raises
    ------
    SettingError
        If the rate is not a number from 0 to below 1.

    Notes
    -----
    Keras: ``Dropout``.

    References
    ----------
    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.

    Examples
    --------
    >>> layer = DropoutLayer(0.5).build((6,))
    >>> layer(np.ones((1, 6)))
    array([[1., 1., 1., 1., 1., 1.]], dtype=float32)
    >>> layer.vjp(np.ones((1, 6), np.float32), np.random.default_rng(0))[0]
    array([[2., 2., 2., 0., 0., 0.]], dtype=float32)
    """

    rate: float

    cases: ClassVar = (Case({"rate": 0.5}, (4, 3, 5)), Case({"rate": 0.0}, (6,)))

    def __post_init__(self) -> None:
        rate = check_number(self._who, "rate", self.rate)
        if not 0 <= rate < 1:
            raise SettingError(f"{self._who}: expected rate as a number from 0 to below 1, got {self.rate!r}")
        self._set(rate=rate)

    def infer_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def forward(self, x: Array) -> Array:
        return x

    def vjp(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Backward]:
        if rng is None:
            return x, lambda dy: (dy, {})
        scale = (rng.random(x.shape, np.float32) >= self.rate) / x.dtype.type(1 - self.rate)
        return x * scale, lambda dy: (dy * scale, {})
