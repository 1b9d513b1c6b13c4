"""Hypothesis strategies for shapes of frames, and for cases: settings of a layer with an input shape that fits."""

from collections.abc import Callable
from typing import Any

from framecnn.errors import SettingError, ShapeError
from framecnn.layers import Case, ConvLayer, DenseLayer, FilterBankLayer, Layer, PoolingLayer
from framecnn.testing.composite import Draw, composite, strategies
from framecnn.typing import Shape

__all__ = ["accepts_shape", "cases_for", "conv_cases", "declared_cases", "pool_cases", "shapes"]


@composite
def shapes(draw: Draw, max_side: int = 12, max_channels: int = 4, max_length: int = 48) -> Shape:
    """Draw shapes of frames, (h, w, c), down to (1, 1, 1).

    Parameters
    ----------
    max_side : int, default 12
        The largest number of rows and columns, in pixels.
    max_channels : int, default 4
    max_length : int, default 48
        The largest length, in pixels, of the one long axis that most frames have: several register blocks of a kernel.

    Returns
    -------
    strategy of (int, int, int)

    Examples
    --------
    >>> from hypothesis import find
    >>> find(shapes(), lambda shape: shape[1] > 4)
    (1, 5, 1)
    """
    st = strategies()
    rows, columns = draw(_pairs(max_side))
    channels = draw(st.integers(1, max_channels))
    long = draw(st.sampled_from(["neither", "columns", "rows"]))
    if long != "neither":  # drawn last, so that shrinking can drop it alone
        length = draw(st.integers(1, max_length))
        rows, columns = (length, columns) if long == "rows" else (rows, length)
    return rows, columns, channels


@composite
def conv_cases(draw: Draw, shape: Shape | None = None) -> Case:
    """Draw cases of a ConvLayer, with all kinds of padding, steps and algorithms.

    Parameters
    ----------
    shape : (int, int, int), optional
        Input shape; by default any of :func:`shapes`.

    Returns
    -------
    strategy of Case

    Examples
    --------
    >>> from hypothesis import find
    >>> find(conv_cases(), lambda case: case.settings["filters"] > 1).settings["filters"]
    2
    """
    st = strategies()
    frame = shape or draw(shapes())
    filters, use_bias = draw(st.integers(1, 40)), draw(st.sampled_from([True, False]))
    groups = draw(st.sampled_from([number for number in (1, 2, 3, frame[2]) if frame[2] % number == 0]))
    kernel_size, steps = draw(_windows(frame[:2], border=2))
    algorithm = draw(st.sampled_from(["auto", "direct", "winograd2", "winograd4"]))
    if algorithm.startswith("winograd"):  # drawn last, so that shrinking can drop it alone
        groups, (kernel_size, steps) = 1, draw(_windows(frame[:2], border=2, plain=True))
    settings = {
        "filters": groups * max(filters // groups, 1),
        "kernel_size": kernel_size,
        "groups": groups,
        "use_bias": use_bias,
        "algorithm": algorithm,
    }
    return Case(settings | steps, frame)


@composite
def pool_cases(draw: Draw, shape: Shape | None = None) -> Case:
    """Draw cases of a PoolingLayer, with all modes, paddings and steps.

    Parameters
    ----------
    shape : (int, int, int), optional
        Input shape; by default any of :func:`shapes`.

    Returns
    -------
    strategy of Case

    Examples
    --------
    >>> from hypothesis import find
    >>> find(pool_cases((4, 4, 1)), lambda case: case.settings["mode"] == "adaptive_max").settings["pool_size"]
    (1, 1)
    """
    frame = shape or draw(shapes())
    mode = draw(strategies().sampled_from(["max", "average", "adaptive_max", "adaptive_average"]))
    if mode.startswith("adaptive"):
        return Case({"pool_size": draw(_pairs(6)), "mode": mode}, frame)
    pool_size, steps = draw(_windows(frame[:2], border=0))
    return Case({"pool_size": pool_size, "mode": mode, **steps}, frame)


def cases_for(kind: type[Layer], shape: Shape | None = None) -> Any:
    """Return a strategy of cases of a layer class: with any settings, or else from its attribute ``cases``.

    Examples
    --------
    >>> from framecnn import FlatteningLayer
    >>> cases_for(FlatteningLayer)
    sampled_from([Case(settings={}, input_shape=(3, 4, 2)), Case(settings={}, input_shape=(5,))])
    """
    return _DRAWN[kind][1](shape) if kind in _DRAWN else strategies().sampled_from(_cases(kind, shape))


def accepts_shape(kind: type[Layer], shape: Shape | None = None) -> bool:
    """Return whether a layer class has settings that fit an input shape.

    Examples
    --------
    >>> accepts_shape(DenseLayer, (3,)), accepts_shape(DenseLayer, (3, 3, 1))
    (True, False)
    """
    if kind in _DRAWN:
        return shape is None or len(shape) == _DRAWN[kind][0]
    return bool(_cases(kind, shape))


@composite
def _pairs(draw: Draw, largest: int, other: int | None = None) -> tuple[int, int]:
    """Draw rows and columns, from 1 to `largest` and from 1 to `other`."""
    st = strategies()
    return draw(st.integers(1, largest)), draw(st.integers(1, other or largest))


@composite
def _windows(draw: Draw, frame: Shape, border: int, plain: bool = False) -> tuple[Shape, dict[str, Any]]:
    """Draw the size, steps and padding of a window that fit a frame; `plain` is 3 x 3 without strides and dilation.

    Padding may extend `border` pixels beyond the last window that meets the frame.
    """
    st = strategies()
    fixed, drawn = map(st.just, [(3, 3), (1, 1), (1, 1)]), [_pairs(3), _pairs(3), _pairs(*(min(3, n) for n in frame))]
    size, strides, dilation = map(draw, fixed if plain else drawn)
    extent = [step * (length - 1) + 1 for length, step in zip(size, dilation, strict=True)]
    missing = [max(0, needed - length) for needed, length in zip(extent, frame, strict=True)]
    padding = draw(st.sampled_from(["same", "explicit"] if any(missing) else ["valid", "same", "explicit"]))
    if padding == "explicit":
        axes = zip(extent, missing, strict=True)
        padding = tuple(draw(_sides(needed - 1 + border, least)) for needed, least in axes)
    return size, {"strides": strides, "dilation_rate": dilation, "padding": padding}


@composite
def _sides(draw: Draw, most: int, least: int) -> tuple[int, int]:
    """Draw the padding before and after an axis: at most `most` each, at least `least` together."""
    st = strategies()
    before = draw(st.integers(0, most))
    return before, draw(st.integers(max(0, least - before), most))


@composite
def _bank_cases(draw: Draw, shape: Shape | None) -> Case:
    st = strategies()
    frame = shape or draw(shapes())
    settings = {
        "filters": draw(st.integers(1, 40)),
        "kernel_size": draw(_pairs(*(min(3, length) for length in frame[:2]))),
        "strides": draw(_pairs(3)),
        "contrast": draw(st.sampled_from([10.0, 0.1, 1000.0])),
        "thresholds": draw(st.sampled_from([(0.0,), (0.25, 0.75), (-1.0, 0.5, 2.0)])),
    }
    return Case(settings, frame)


@composite
def _dense_cases(draw: Draw, shape: Shape | None) -> Case:
    st = strategies()
    settings = {"units": draw(st.integers(1, 70)), "use_bias": draw(st.sampled_from([True, False]))}
    return Case(settings, shape or (draw(st.integers(1, 40)),))


_DRAWN: dict[type[Layer], tuple[int, Callable[[Shape | None], Any]]] = {
    ConvLayer: (3, conv_cases),
    PoolingLayer: (3, pool_cases),
    FilterBankLayer: (3, _bank_cases),
    DenseLayer: (1, _dense_cases),
}
"""The number of sizes of an input shape, and the strategy of settings."""


def declared_cases(kind: type[Layer]) -> tuple[Case, ...]:
    """Return the cases of a layer class; raise SettingError if it has none.

    Examples
    --------
    >>> len(declared_cases(DenseLayer))
    2
    """
    if not kind.cases:
        raise SettingError(
            f"{kind.__name__}: expected cases, the examples for tests, got none; add to the class: "
            "cases = (Case({'setting': value}, input_shape),)"
        )
    return kind.cases


def _cases(kind: type[Layer], shape: Shape | None) -> list[Case]:
    """Return the cases of a layer class, with the given input shape if they fit it."""
    cases = [case if shape is None else Case(case.settings, shape) for case in declared_cases(kind)]
    return [case for case in cases if _fits(kind, case)]


def _fits(kind: type[Layer], case: Case) -> bool:
    try:
        kind(**case.settings).infer_shape(case.input_shape)
    except ShapeError:
        return False
    return True
