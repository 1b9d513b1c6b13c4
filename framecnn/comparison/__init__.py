"""The k-means system beside trained networks: the same folds, the same frames, the same measures."""

from framecnn.comparison.contestants import CONTESTANTS, compile_kernels
from framecnn.comparison.folds import NETWORK_SIZE, Comparison

__all__ = ["CONTESTANTS", "NETWORK_SIZE", "Comparison", "compile_kernels"]
