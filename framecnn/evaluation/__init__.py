"""Evaluation of classifiers: accuracies with confidence intervals, figures of each class, calibration."""

from framecnn.evaluation.out_of_fold import OutOfFoldEstimate
from framecnn.evaluation.result import EvaluationResult, evaluate

__all__ = ["EvaluationResult", "OutOfFoldEstimate", "evaluate"]
