"""Hypothesis strategies for frames, settings, layers, networks and labelled features.

Values are whole numbers or come from a seeded generator, so that drawing is quick; everything shrinks to few, small and
plain settings.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from framecnn.errors import MissingExtraError, ShapeError
from framecnn.layers import Case, ConvLayer, DenseLayer, FilterBankLayer, InputLayer, Layer, PoolingLayer
from framecnn.layers.base import DTYPES
from framecnn.model import Sequential
from framecnn.testing.draws import draw_params
from framecnn.typing import Array, Shape

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["conv_configs", "frames", "labelled_features", "layers", "models", "pool_configs", "shapes"]

Draw = Callable[..., Any]


def shapes(max_side: int = 12, max_channels: int = 4) -> "SearchStrategy[Shape]":
    """Draw shapes of frames, (h, w, c), down to (1, 1, 1).

    Parameters
    ----------
    max_side : int, default 12
        Most rows and columns, in pixels.
    max_channels : int, default 4

    Returns
    -------
    strategy of (int, int, int)

    Raises
    ------
    MissingExtraError
        If Hypothesis is not installed; so in all strategies.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(shapes(), lambda shape: shape[1] > 4)
    (1, 5, 1)
    """
    st = _strategies()
    return st.tuples(st.integers(1, max_side), st.integers(1, max_side), st.integers(1, max_channels))


def frames(
    shape: Shape | None = None, *, n: int | None = None, dtype: Any = np.float32, whole: bool = True
) -> "SearchStrategy[Array]":
    """Draw batches of frames.

    Parameters
    ----------
    shape : tuple of int, optional
        Of one frame, or of one row of features; by default any of :func:`shapes`.
    n : int, optional
        Frames in the batch; by default 1 to 3.
    dtype : float32 (default) or float64
    whole : bool, default True
        Whole numbers of -9 to 9, on which sums of products are exact; else normally distributed floats.

    Returns
    -------
    strategy of (n, *shape) array

    Examples
    --------
    >>> from hypothesis import find
    >>> find(frames((2, 2, 1)), lambda x: x.min() < 0).shape
    (1, 2, 2, 1)
    """
    st = _strategies()

    @st.composite
    def drawn(draw: Draw) -> Array:
        size = (n or draw(st.integers(1, 3)), *(shape or draw(shapes())))
        rng = np.random.default_rng(draw(_seeds()))
        return (rng.integers(-9, 10, size) if whole else rng.normal(size=size)).astype(dtype)

    return drawn()


def conv_configs(shape: Shape | None = None) -> "SearchStrategy[Case]":
    """Draw settings of a ConvLayer with a shape of frames that they fit: every kind of border, step and algorithm.

    Parameters
    ----------
    shape : (int, int, int), optional
        Of one frame; by default any of :func:`shapes`.

    Returns
    -------
    strategy of Case

    Examples
    --------
    >>> from hypothesis import find
    >>> find(conv_configs(), lambda case: case.settings["padding"] == "same").input_shape
    (1, 1, 1)
    """
    st = _strategies()

    @st.composite
    def drawn(draw: Draw) -> Case:
        frame = shape or draw(shapes())
        settings = _window(draw, frame[:2], border=2)
        plain = all(settings[name] == (1, 1) for name in ("strides", "dilation_rate"))
        groups = draw(st.sampled_from([number for number in (1, 2, 3) if frame[2] % number == 0]))
        if plain and groups == 1 and settings["window"] == (3, 3):
            settings["algorithm"] = draw(st.sampled_from(["auto", "direct", "winograd2", "winograd4"]))
        own = draw(st.integers(1, 40 // groups))
        use_bias = draw(st.sampled_from([True, False]))
        settings |= {"filters": own * groups, "groups": groups, "use_bias": use_bias}
        return Case(settings | {"kernel_size": settings.pop("window")}, frame)

    return drawn()


def pool_configs(shape: Shape | None = None) -> "SearchStrategy[Case]":
    """Draw settings of a PoolingLayer with a shape of frames that they fit: every mode, border and step.

    Parameters
    ----------
    shape : (int, int, int), optional
        Of one frame; by default any of :func:`shapes`.

    Returns
    -------
    strategy of Case

    Examples
    --------
    >>> from hypothesis import find
    >>> find(pool_configs((4, 4, 1)), lambda case: case.settings["mode"] == "adaptive_max").settings["pool_size"]
    (1, 1)
    """
    st = _strategies()

    @st.composite
    def drawn(draw: Draw) -> Case:
        frame = shape or draw(shapes())
        mode = draw(st.sampled_from(["max", "average", "adaptive_max", "adaptive_average"]))
        if mode.startswith("adaptive"):
            return Case({"pool_size": draw(_pairs(6)), "mode": mode}, frame)
        settings = _window(draw, frame[:2], border=0)
        return Case(settings | {"pool_size": settings.pop("window"), "mode": mode}, frame)

    return drawn()


def layers(
    kinds: Iterable[type[Layer]] | None = None,
    shape: Shape | None = None,
    *,
    dtype: Any = None,
    whole: bool = False,
) -> "SearchStrategy[Layer]":
    """Draw built layers, all parameters drawn too.

    A kind of your own is drawn in its ``cases``; so are framecnn's but for convolution, pooling, filter bank and
    dense layers, which come in all settings.

    Parameters
    ----------
    kinds : iterable of class, optional
        By default all of framecnn.
    shape : tuple of int, optional
        What the layers must take: the shape of a frame or of a row; by default each kind's own.
    dtype : float32 or float64, optional
        By default either.
    whole : bool, default False
        Parameters are whole numbers below 16 instead of floats.

    Returns
    -------
    strategy of Layer

    Examples
    --------
    >>> from hypothesis import find
    >>> find(layers([DenseLayer], (3,)), lambda layer: layer.units > 1)
    DenseLayer(units=2, use_bias=True, kernel_initializer='glorot_uniform')
    """
    st = _strategies()
    options = [(kind, configs) for kind in _ours(kinds) if (configs := _configs(kind, shape)) is not None]

    @st.composite
    def drawn(draw: Draw) -> Layer:
        kind, configs = draw(st.sampled_from(options))
        case = draw(configs)
        built = kind(**case.settings).build(case.input_shape, dtype=dtype or draw(st.sampled_from(DTYPES)))
        return draw_params(built, whole)

    return drawn()


def models(
    kinds: Iterable[type[Layer]] | None = None, *, max_layers: int = 5, dtype: Any = None
) -> "SearchStrategy[Sequential]":
    """Draw built networks: an InputLayer and any layers that fit one another.

    Parameters
    ----------
    kinds : iterable of class, optional
        By default all of framecnn.
    max_layers : int, default 5
        After the InputLayer.
    dtype : float32 or float64, optional
        By default either.

    Returns
    -------
    strategy of Sequential

    Examples
    --------
    >>> from hypothesis import find
    >>> find(models(), lambda model: len(model.output_shape) == 1).names
    ('input_1', 'flattening_1')
    """
    st = _strategies()

    @st.composite
    def drawn(draw: Draw) -> Sequential:
        own = dtype or draw(st.sampled_from(DTYPES))
        shape = draw(shapes())
        chain: list[Layer] = [InputLayer(shape, scale=draw(st.sampled_from([1.0, 0.5]))).build(shape, dtype=own)]
        for _ in range(draw(st.integers(0, max_layers))):
            chain.append(draw(layers(kinds, chain[-1].output_shape, dtype=own)))
        return Sequential(chain)

    return drawn()


def labelled_features(
    max_samples: int = 40, max_features: int = 5, max_classes: int = 4
) -> "SearchStrategy[tuple[Array, Array]]":
    """Draw features around a centre for each class, and their labels; every class has two samples or more.

    Parameters
    ----------
    max_samples, max_features, max_classes : int
        At least two samples for each class.

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
    st = _strategies()

    @st.composite
    def drawn(draw: Draw) -> tuple[Array, Array]:
        classes = draw(st.integers(2, max_classes))
        n = draw(st.integers(2 * classes, max_samples))
        d = draw(st.integers(1, max_features))
        rng = np.random.default_rng(draw(_seeds()))
        codes = np.arange(n) % classes
        X = 4 * rng.normal(size=(classes, d))[codes] + rng.normal(size=(n, d))
        return X, np.array(list("abcdefghijklmnopqrstuvwxyz"))[codes]

    return drawn()


def _strategies() -> Any:
    try:
        from hypothesis import strategies
    except ImportError:
        raise MissingExtraError("framecnn.testing", "hypothesis", "test") from None
    return strategies


def _seeds() -> Any:
    return _strategies().integers(0, 2**16)


def _pairs(largest: int, other: int | None = None) -> Any:
    """Rows and columns, from 1 to `largest`, and to `other`."""
    st = _strategies()
    return st.tuples(st.integers(1, largest), st.integers(1, other or largest))


def _window(draw: Draw, frame: Shape, border: int) -> dict[str, Any]:
    """Draw a window that fits a frame; borders reach at most `border` pixels beyond the window's last pixel but one."""
    st = _strategies()
    window, strides = draw(_pairs(3)), draw(_pairs(3))
    dilation = draw(_pairs(*(min(3, length) for length in frame)))
    reach = [step * (size - 1) + 1 for size, step in zip(window, dilation, strict=True)]
    missing = [max(0, needed - length) for needed, length in zip(reach, frame, strict=True)]
    kinds = ["same", "explicit"] if any(missing) else ["valid", "same", "explicit"]
    padding = draw(st.sampled_from(kinds))
    if padding == "explicit":
        padding = tuple(_sides(draw, *axis, border) for axis in zip(reach, missing, strict=True))
    return {"window": window, "strides": strides, "dilation_rate": dilation, "padding": padding}


def _sides(draw: Draw, reach: int, missing: int, border: int) -> tuple[int, int]:
    st, most = _strategies(), reach - 1 + border
    before = draw(st.integers(0, most))
    return before, draw(st.integers(max(0, missing - before), most))


def _bank_configs(shape: Shape | None) -> Any:
    st = _strategies()

    @st.composite
    def drawn(draw: Draw) -> Case:
        frame = shape or draw(shapes())
        settings = {
            "filters": draw(st.integers(1, 40)),
            "kernel_size": draw(_pairs(*(min(3, length) for length in frame[:2]))),
            "strides": draw(_pairs(3)),
            "contrast": draw(st.sampled_from([10.0, 0.1, 1000.0])),
            "thresholds": draw(st.sampled_from([(0.0,), (0.25, 0.75), (-1.0, 0.5, 2.0)])),
        }
        return Case(settings, frame)

    return drawn()


def _dense_configs(shape: Shape | None) -> Any:
    st = _strategies()
    rows = st.tuples(st.integers(1, 40)) if shape is None else st.just(shape)
    settings = st.fixed_dictionaries({"units": st.integers(1, 70), "use_bias": st.sampled_from([True, False])})
    return st.builds(Case, settings, rows)


_DRAWN: dict[type[Layer], tuple[int, Callable[[Shape | None], Any]]] = {
    ConvLayer: (3, conv_configs),
    PoolingLayer: (3, pool_configs),
    FilterBankLayer: (3, _bank_configs),
    DenseLayer: (1, _dense_configs),
}
"""Sizes of the shape that a layer takes, and its settings."""


def _ours(kinds: Iterable[type[Layer]] | None) -> list[type[Layer]]:
    if kinds is not None:
        return list(kinds)
    registered = sorted(Layer.registry.items())
    return [kind for _, kind in registered if kind.__module__.startswith("framecnn.") and kind is not InputLayer]


def _configs(kind: type[Layer], shape: Shape | None) -> Any:
    """Give a strategy of cases of a kind that take a shape; None where there is none."""
    if kind in _DRAWN:
        sizes, configs = _DRAWN[kind]
        return configs(shape) if shape is None or len(shape) == sizes else None
    cases = [case if shape is None else Case(case.settings, shape) for case in kind.cases]
    fitting = [case for case in cases if _fits(kind, case)]
    return _strategies().sampled_from(fitting) if fitting else None


def _fits(kind: type[Layer], case: Case) -> bool:
    try:
        kind(**case.settings).infer_shape(case.input_shape)
    except ShapeError:
        return False
    return True
