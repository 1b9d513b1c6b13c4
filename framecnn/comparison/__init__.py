"""The k-means system beside trained networks: the same folds, the same frames, the same measures."""

from framecnn.comparison.folds import Comparison
from framecnn.comparison.models import CONTESTANTS, compile_kernels

__all__ = ["CONTESTANTS", "Comparison", "compile_kernels"]
