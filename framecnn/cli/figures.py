"""How ``train`` and ``evaluate`` print what was measured of a classifier."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.evaluation import Assessment
from framecnn.evaluation.assessment import TRAINING
from framecnn.text import listed, percent

__all__ = ["SHOWN_CLASSES", "print_assessment"]

SHOWN_CLASSES = 20
"""The number of classes that are printed."""
SHOWN_SUSPECTS = 3
HEAD = ("class", "frames", "precision", "recall", "F1", "frames mistaken for")


def print_assessment(assessment: Assessment) -> None:
    """Print verdict, accuracies, the figures of each class, classes without frames, and the suspected wrong labels."""
    if assessment.verdict:
        console.say(assessment.verdict)
        for reason in assessment.reasons:
            console.say(f"  - {reason}")
        console.say()
    console.table([(f"{figure.part} accuracy", figure.describe()) for figure in assessment.figures])
    if assessment.main.n_frames:
        console.say()
        console.say(f"{assessment.main.part}: {_in_one_line(assessment.main.numbers)}")
        console.say()
        console.table(_by_class(assessment.main), head=HEAD)
    if assessment.uncovered and TRAINING in assessment.parts:  # evaluate has said it before
        console.say()
        console.warn(f"no frames of {listed(assessment.uncovered)}: the accuracy does not cover these classes")
    if suspects := assessment.suspects:
        console.say()
        first = [f"{own.path} ({own.suggestion}?)" for own in suspects]
        console.say(f"suspected wrong labels: {listed(first, SHOWN_SUSPECTS)}")
        wrong = 1 - assessment.main.accuracy
        if wrong > 0.1:
            console.say(f"  (the model is wrong about {percent(wrong)} itself: many of these may be its mistakes)")


def _in_one_line(figures: dict[str, Any]) -> str:
    parts = [
        f"balanced accuracy {percent(figures['balanced_accuracy'])}",
        f"mean F1 {percent(figures['macro']['f1'])}",
    ]
    if len(figures["classes"]) > 2:
        parts.append(f"top-2 accuracy {percent(figures['top_2_accuracy'])}")
    best_zero = [f"Brier score {figures['brier_score']:.3f}", f"log loss {figures['log_loss']:.3f}"]
    best_zero.append(f"calibration error {percent(figures['expected_calibration_error'])}")
    return f"{', '.join(parts)} (100 % is best); {', '.join(best_zero)} (0 is best)"


def _by_class(figure: Any) -> Iterator[tuple[str, ...]]:
    """Yield the figures and the mistakes of each class; of the first classes, if there are many."""
    figures = figure.numbers
    confusion = getattr(figure, "mean", figure).confusion
    for truth, (name, own) in enumerate(list(figures["by_class"].items())[:SHOWN_CLASSES]):
        counts = confusion[truth]
        wrong = [label for label in np.argsort(-counts, kind="stable") if counts[label] and label != truth]
        mistaken = listed([f"{figures['classes'][label]} {counts[label]:,}" for label in wrong], 5)
        shares = [percent(own[key] if own["support"] else None) for key in ("precision", "recall", "f1")]
        yield (name, f"{own['support']:,}", *shares, mistaken)
    if (rest := len(figures["classes"]) - SHOWN_CLASSES) > 0:
        yield (f"{rest:,} more", "", "", "", "", "")
