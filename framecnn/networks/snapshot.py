"""Snapshots of a network: consistent parameters for the whole of a call, whatever other threads set meanwhile."""

from collections.abc import Sequence
from functools import cached_property

from framecnn.layers import Layer
from framecnn.layers.params import SWAPPING
from framecnn.networks.fusion import training_passes
from framecnn.networks.passes import TrainingPass
from framecnn.networks.prediction import PredictionPlan

__all__ = ["NetworkSnapshot", "layer_snapshots"]


class NetworkSnapshot:
    """The layers of a network with a consistent set of parameters, and the passes that run them.

    Parameters
    ----------
    layers : tuple of Layer
        The snapshots that :func:`layer_snapshots` returned.
    """

    def __init__(self, layers: tuple[Layer, ...]):
        self.layers = layers

    @cached_property
    def prediction(self) -> PredictionPlan:
        """The plan of a prediction."""
        return PredictionPlan.of(self.layers, self.layers[0].input_shape)

    @cached_property
    def training_passes(self) -> tuple[TrainingPass, ...]:
        """The passes of a training step."""
        return training_passes(self.layers, self.layers[0].input_shape)


def layer_snapshots(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return snapshots of all layers, taken at once; they are reused until a parameter is set."""
    with SWAPPING:
        return tuple(layer.snapshot() for layer in layers)
