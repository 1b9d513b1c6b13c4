"""Networks: layers in sequence, the passes that run them, predictions, summaries, and two networks to train."""

from framecnn.networks.reference import reference_network
from framecnn.networks.residual import residual_network
from framecnn.networks.sequential import Sequential

__all__ = ["Sequential", "reference_network", "residual_network"]
