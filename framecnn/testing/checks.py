"""The checks of a layer, framecnn's or your own, by name."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from framecnn.errors import MissingExtraError
from framecnn.layers import Layer
from framecnn.testing.cases import declared_cases
from framecnn.testing.contract import CONTRACT, Check
from framecnn.testing.draws import draw_params
from framecnn.testing.gradients import GRADIENTS, has_gradients
from framecnn.typing import Shape

__all__ = ["LayerCheck", "check_layer", "layer_checks", "parametrize_with_layer_checks"]


@dataclass(frozen=True)
class LayerCheck:
    """One check of one layer; calling it runs the check.

    Parameters
    ----------
    subject : str
        The layer's class and the number of the case, such as ``"ConvLayer-0"``.
    check : callable
        The function to call; its name and the first line of its docstring say what is checked.
    layer : Layer
        The layer to check; every run builds a copy.
    input_shape : tuple of int
        Shape of one frame.
    """

    subject: str
    check: Check
    layer: Layer
    input_shape: Shape

    @property
    def name(self) -> str:
        """The name of the check, such as ``"batch_independence"``."""
        return self.check.__name__

    @property
    def description(self) -> str:
        """The sentence that says what is checked."""
        return (self.check.__doc__ or "").strip().splitlines()[0]

    def __str__(self) -> str:
        return f"{self.subject}-{self.name}"

    def __call__(self) -> None:
        """Run the check.

        Raises
        ------
        AssertionError
            If the check fails; the message says what was expected and what was received.
        """
        self.check(self._make)

    def _make(self, dtype: Any = np.float32, integers: bool = False) -> Layer:
        return draw_params(copy.copy(self.layer).build(self.input_shape, dtype=dtype), integers)


def layer_checks(layer: Layer | type[Layer], input_shape: Shape | None = None) -> Iterator[LayerCheck]:
    """Yield the checks of a layer; checks of the backward pass only if it defines ``vjp``.

    Parameters
    ----------
    layer : Layer or class
        A class is checked with all of its ``cases``.
    input_shape : tuple of int, optional
        Shape of one frame; by default that for which the layer was built, or those of the cases.

    Yields
    ------
    LayerCheck

    Raises
    ------
    SettingError
        If a class has no cases.
    ShapeError
        If a layer is neither built nor given a shape.

    Examples
    --------
    >>> from framecnn import FlatteningLayer
    >>> [check.name for check in layer_checks(FlatteningLayer(), (2, 3))][:3]
    ['config_round_trip', 'build_once', 'output_shape']
    """
    for number, (settings, shape) in enumerate(_examples(layer, input_shape)):
        subject = f"{type(settings).__name__}-{number}"
        for check in (*CONTRACT, *(GRADIENTS if has_gradients(settings) else ())):
            yield LayerCheck(subject, check, settings, shape)


def check_layer(layer: Layer | type[Layer], input_shape: Shape | None = None) -> None:
    """Run all checks of a layer; raise the error of the first one that fails.

    Parameters
    ----------
    layer : Layer or class
        A class is checked with all of its ``cases``.
    input_shape : tuple of int, optional
        Shape of one frame; by default that for which the layer was built, or those of the cases.

    Raises
    ------
    AssertionError
        If a check fails.
    SettingError
        If a class has no cases.
    ShapeError
        If a layer is neither built nor given a shape.

    Examples
    --------
    >>> from framecnn import ConvLayer
    >>> check_layer(ConvLayer(3, kernel_size=2), (4, 5, 2))
    """
    for check in layer_checks(layer, input_shape):
        check()


def parametrize_with_layer_checks(layers: Iterable[Layer | type[Layer]]) -> Any:
    """Return a pytest decorator that runs a test once for every check of every layer.

    ::

        @parametrize_with_layer_checks([MyLayer])
        def test_my_layer(check):
            check()

    Parameters
    ----------
    layers : iterable of Layer or class
        Built layers, and classes with ``cases``.

    Returns
    -------
    pytest.MarkDecorator

    Raises
    ------
    MissingExtraError
        If pytest is not installed.
    SettingError
        If a class has no cases.
    ShapeError
        If a layer is not built.

    Examples
    --------
    >>> from framecnn import FlatteningLayer
    >>> parametrize_with_layer_checks([FlatteningLayer]).name
    'parametrize'
    """
    try:
        import pytest
    except ImportError:
        raise MissingExtraError("parametrize_with_layer_checks", "pytest", "test") from None
    return pytest.mark.parametrize("check", [check for layer in layers for check in layer_checks(layer)], ids=str)


def _examples(layer: Layer | type[Layer], input_shape: Shape | None) -> list[tuple[Layer, Shape]]:
    """Return the layers to check, not yet built, and their input shapes."""
    if isinstance(layer, type):
        return [(layer(**case.settings), input_shape or case.input_shape) for case in declared_cases(layer)]
    return [(layer, input_shape or layer.input_shape)]
