"""The k-means system and trained networks on the same folds and frames, with the same measures."""

from framecnn.comparison.folds import Comparison
from framecnn.comparison.models import MODELS, compile_kernels
from framecnn.comparison.report import comparison_data

__all__ = ["MODELS", "Comparison", "comparison_data", "compile_kernels"]
