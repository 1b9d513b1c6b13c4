"""Checks of layers, framecnn's and your own, and Hypothesis strategies. They need the extra ``test``."""

from framecnn.testing.cases import conv_cases, pool_cases, shapes
from framecnn.testing.checks import LayerCheck, check_layer, layer_checks, parametrize_with_layer_checks
from framecnn.testing.strategies import frames, labelled_features, layers, models

__all__ = [
    "LayerCheck",
    "check_layer",
    "conv_cases",
    "frames",
    "labelled_features",
    "layer_checks",
    "layers",
    "models",
    "parametrize_with_layer_checks",
    "pool_cases",
    "shapes",
]
