"""Hypothesis strategies for frames, layers, networks and labelled features.

Values are integers or come from a seeded generator, so that drawing is fast. Examples shrink to few, small and
plain settings. Each strategy raises MissingExtraError if Hypothesis is not installed.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from framecnn.layers import InputLayer, Layer
from framecnn.layers.base import DTYPES
from framecnn.networks.sequential import Sequential
from framecnn.testing.cases import accepts_shape, cases_for, shapes
from framecnn.testing.composite import Draw, composite, strategies
from framecnn.testing.draws import draw_params
from framecnn.typing import Array, Shape

__all__ = ["frames", "labelled_features", "layers", "models"]


@composite
def frames(
    draw: Draw, shape: Shape | None = None, *, n: int | None = None, dtype: Any = np.float32, integers: bool = True
) -> Array:
    """Draw batches of frames.

    Parameters
    ----------
    shape : tuple of int, optional
        Shape of one frame or of one row of features; by default any of :func:`shapes`.
    n : int, optional
        Number of frames in the batch; by default 1 to 3.
    dtype : float32 (default) or float64
    integers : bool, default True
        Integers from -9 to 9, for which sums of products are exact; otherwise normally distributed floats.

    Returns
    -------
    strategy of (n, *shape) array

    Examples
    --------
    >>> from hypothesis import find
    >>> find(frames((2, 2, 1)), lambda x: x.min() < 0).shape
    (1, 2, 2, 1)
    """
    size = (draw(strategies().integers(1, 3)) if n is None else n, *(shape or draw(shapes())))
    rng = draw(_generators())
    values: Array = rng.integers(-9, 10, size) if integers else rng.normal(size=size)
    return values.astype(dtype)


@composite
def layers(
    draw: Draw,
    kinds: Iterable[type[Layer]] | None = None,
    shape: Shape | None = None,
    *,
    dtype: Any = None,
    integers: bool = False,
) -> Layer:
    """Draw built layers with drawn parameters.

    Convolution, pooling, filter bank and dense layers have any settings. Other classes, including yours, have the
    settings of their ``cases``.

    Parameters
    ----------
    kinds : iterable of class, optional
        Layer classes; by default all of framecnn.
    shape : tuple of int, optional
        Input shape, of a frame or of a row of features; by default any that the class accepts.
    dtype : float32 or float64, optional
        By default either.
    integers : bool, default False
        Parameters are integers below 16 instead of floats.

    Returns
    -------
    strategy of Layer

    Examples
    --------
    >>> from hypothesis import find
    >>> from framecnn import DenseLayer
    >>> find(layers([DenseLayer], (3,)), lambda layer: layer.units > 1)
    DenseLayer(units=2)
    """
    st = strategies()
    kind = draw(st.sampled_from([kind for kind in (_ours() if kinds is None else kinds) if accepts_shape(kind, shape)]))
    case = draw(cases_for(kind, shape))
    built = kind(**case.settings).build(case.input_shape, dtype=dtype or draw(st.sampled_from(DTYPES)))
    return draw_params(built, integers)


@composite
def models(
    draw: Draw, kinds: Iterable[type[Layer]] | None = None, *, max_layers: int = 5, dtype: Any = None
) -> Sequential:
    """Draw built networks: an InputLayer and further layers.

    Parameters
    ----------
    kinds : iterable of class, optional
        Layer classes; by default all of framecnn.
    max_layers : int, default 5
        The largest number of layers after the InputLayer.
    dtype : float32 or float64, optional
        By default either.

    Returns
    -------
    strategy of Sequential

    Examples
    --------
    >>> from hypothesis import find
    >>> from framecnn import DenseLayer
    >>> find(models([DenseLayer]), lambda model: True).names
    ('input_1',)
    """
    st = strategies()
    kinds = _ours() if kinds is None else list(kinds)
    chosen, shape = dtype or draw(st.sampled_from(DTYPES)), draw(shapes())
    chain: list[Layer] = [InputLayer(shape, scale=draw(st.sampled_from([1.0, 0.5]))).build(shape, dtype=chosen)]
    for _ in range(draw(st.integers(0, max_layers))):
        if any(accepts_shape(kind, chain[-1].output_shape) for kind in kinds):
            chain.append(draw(layers(kinds, chain[-1].output_shape, dtype=chosen)))
    return Sequential(chain)


@composite
def labelled_features(
    draw: Draw, max_samples: int = 40, max_features: int = 5, max_classes: int = 4
) -> tuple[Array, Array]:
    """Draw features around a centre for each class, and their labels; every class has at least two samples.

    Parameters
    ----------
    max_samples, max_features, max_classes : int
        Upper limits; samples are at least two for each of at least two classes.

    Returns
    -------
    strategy of ((n, d) float64 array, (n,) array of str)

    Examples
    --------
    >>> from hypothesis import find
    >>> X, y = find(labelled_features(), lambda drawn: True)
    >>> X.shape, y.tolist()
    ((4, 1), ['a', 'b', 'a', 'b'])
    """
    st = strategies()
    classes = draw(st.integers(2, max_classes))
    n, d = draw(st.integers(2 * classes, max_samples)), draw(st.integers(1, max_features))
    rng, codes = draw(_generators()), np.arange(n) % classes
    X = 4 * rng.normal(size=(classes, d))[codes] + rng.normal(size=(n, d))
    return X, np.array([chr(ord("a") + number) for number in range(classes)])[codes]


@composite
def _generators(draw: Draw) -> np.random.Generator:
    return np.random.default_rng(draw(strategies().integers(0, 2**16)))


def _ours() -> list[type[Layer]]:
    registered = sorted(Layer.registry.items())
    return [kind for _, kind in registered if kind.__module__.startswith("framecnn.") and kind is not InputLayer]
