"""Networks: layers in sequence, what they fuse into, and the reference network."""

from framecnn.networks.reference import reference_network
from framecnn.networks.sequential import Sequential

__all__ = ["Sequential", "reference_network"]
