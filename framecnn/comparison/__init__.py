"""The k-means system beside trained networks: the same folds, the same frames, the same measures."""

from framecnn.comparison.contestants import CONTESTANTS, compile_kernels
from framecnn.comparison.folds import Comparison

__all__ = ["CONTESTANTS", "Comparison", "compile_kernels"]
