"""Evaluation of classifiers: accuracies with confidence intervals, figures of each class, calibration, wrong labels."""

from framecnn.evaluation.assessment import Assessment, Suspect, assess
from framecnn.evaluation.label_errors import LabelErrors, find_label_errors
from framecnn.evaluation.out_of_fold import OutOfFoldEstimate, estimate_out_of_fold
from framecnn.evaluation.result import EvaluationResult, evaluate

__all__ = [
    "Assessment",
    "EvaluationResult",
    "LabelErrors",
    "OutOfFoldEstimate",
    "Suspect",
    "assess",
    "estimate_out_of_fold",
    "evaluate",
    "find_label_errors",
]
