"""The kit itself: a sound layer passes every check, and each check finds the fault it is there for."""

import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framecnn import ConvLayer, DenseLayer, FlatteningLayer, MissingExtraError, ShapeError, get_num_threads
from framecnn.layers import Case, Layer, Param
from framecnn.testing import (
    check_layer,
    conv_configs,
    frames,
    labelled_features,
    layer_checks,
    layers,
    models,
    parametrize_with_layer_checks,
    pool_configs,
    shapes,
)
from framecnn.testing.contract import CONTRACT
from framecnn.testing.gradients import GRADIENTS


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry that forgets the test's own layers."""
    monkeypatch.setattr(Layer, "registry", dict(Layer.registry))


def scale_layer(**methods):
    """Give a kind of layer that scales every channel and shifts it, some of its methods replaced."""

    class Base(Layer):
        shift: float = 1.0
        cases = (Case({}, (3, 4, 2)), Case({"shift": 0.5}, (5,)))

        def infer_shape(self, input_shape):
            return tuple(input_shape)

        def param_specs(self, input_shape):
            return {"scale": Param(input_shape[-1:], "he_normal")}

        def forward(self, x):
            return x * self.params["scale"] + x.dtype.type(self.shift)

        def vjp(self, x, rng=None):
            return self.forward(x), lambda dy: (dy * self.params["scale"], {"scale": channel_sums(x * dy)})

    return dataclass(frozen=True)(type("ScaleLayer", (Base,), {"__annotations__": {"shift": float}} | methods))
