"""Networks: layers in sequence, the passes that run them, predictions, summaries, and the reference network."""

from framecnn.networks.reference import reference_network
from framecnn.networks.sequential import Sequential

__all__ = ["Sequential", "reference_network"]
