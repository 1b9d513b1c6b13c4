"""Evaluation of classifiers: accuracies with confidence intervals, figures of each class, calibration."""

from framecnn.evaluation.result import EvaluationResult, evaluate

__all__ = ["EvaluationResult", "evaluate"]
