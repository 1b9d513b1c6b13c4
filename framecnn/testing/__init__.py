"""Checks for layers, framecnn's and your own, and Hypothesis strategies. Brought by the extra ``test``."""

from framecnn.testing.checks import LayerCheck, check_layer, layer_checks, parametrize_with_layer_checks
from framecnn.testing.strategies import (
    conv_configs,
    frames,
    labelled_features,
    layers,
    models,
    pool_configs,
    shapes,
)

__all__ = [
    "LayerCheck",
    "check_layer",
    "conv_configs",
    "frames",
    "labelled_features",
    "layer_checks",
    "layers",
    "models",
    "parametrize_with_layer_checks",
    "pool_configs",
    "shapes",
]
