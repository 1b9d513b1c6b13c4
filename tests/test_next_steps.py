"""What a report says to do next follows from what was found."""

import numpy as np
import pytest
from reports import predicting

from framecnn.evaluation import EvaluationResult
from framecnn.evaluation.next_steps import next_steps

CLASSES = ("day", "dusk", "night")
EACH = np.repeat([0, 1, 2], 100)


def result(predictions, targets=EACH, groups=None):
    groups = np.arange(len(targets)) // 5 if groups is None else groups
    return EvaluationResult("test", CLASSES, targets, predicting(predictions, 0.9, 3), groups)


def test_a_good_result_is_tried_on_new_frames():
    assert next_steps(result(EACH)) == [
        "Nothing stands out. Try the model on frames of movies that it has never seen: framecnn evaluate MODEL FOLDER."
    ]


@pytest.mark.parametrize(("n_wrong", "is_told"), [(50, False), (51, True)])
def test_a_class_is_named_whose_frames_are_mostly_taken_for_another(n_wrong, is_told):
    found = next_steps(result(np.where(np.arange(300) < n_wrong, 2, EACH)))
    told = (
        f"{n_wrong} of 100 frames of 'day' are classified as 'night': look at them in the confusion matrix. If both "
        "classes look alike to you too, merge them; otherwise add different frames of 'day'."
    )
    assert (told in found) == is_told


def test_classes_of_few_groups_are_named_those_of_fewest_first():
    groups = np.r_[np.repeat(np.arange(4), 25), np.repeat(10, 100), np.arange(20, 120)]
    assert next_steps(result(EACH, groups=groups))[0] == (
        "Add groups (movies, shots or albums) to classes that have few of them here: 'dusk' (1), 'day' (4). With 5 or "
        "more of each, the figures of a class mean something."
    )


def test_a_wide_interval_wrong_labels_and_conflicts_are_told_in_the_order_of_weight():
    targets = np.repeat([0, 1, 2], 20)
    wrong = np.random.default_rng(0).permutation(60) < 10
    found = next_steps(result(np.where(wrong, (targets + 1) % 3, targets), targets, np.arange(60)), 3, True)
    assert [step.split(":")[0] for step in found] == [
        "Decide to which class the frames of the label conflict belong, and remove them from the other.",
        "3 frames may have a wrong label",
        "The 95 % interval is 18 points wide",
    ]
