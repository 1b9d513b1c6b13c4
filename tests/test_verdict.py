"""A result that is not better than always answering the largest class is said to be so, with likely reasons."""

import numpy as np
import pytest
from reports import predicting

from framecnn.evaluation import EvaluationResult
from framecnn.evaluation.verdict import likely_reasons, verdict_of


def result(predictions, targets, groups, part="test", classes=("day", "night")):
    return EvaluationResult(part, classes, targets, predicting(predictions, 0.9, len(classes)), groups)


GROUPS = np.arange(60)
HALVES = GROUPS % 2


def test_a_good_result_has_no_verdict():
    assert result(np.where(GROUPS < 8, 1 - HALVES, HALVES), HALVES, GROUPS).verdict == ""


@pytest.mark.parametrize(
    ("n_right", "verdict"),
    [
        (5, "Worse than chance, and than always answering 'day': accuracy 8.3 % against 50.0 % (60 groups)."),
        (30, "Not better than always answering 'day': accuracy 50.0 % against 50.0 % (60 groups)."),
        (33, "No evidence that the model is better than always answering 'day': accuracy 55.0 % against 50.0 % "),
    ],
)
def test_the_verdict_says_how_bad_a_result_is(n_right, verdict):
    order = np.random.default_rng(0).permutation(60)
    assert result(np.where(order < n_right, HALVES, 1 - HALVES), HALVES, GROUPS).verdict.startswith(verdict)


def test_worse_than_the_largest_class_but_not_than_chance():
    targets = (np.arange(200) % 10 == 0).astype(int)
    said = np.where(np.arange(200) % 5 < 1, 1 - targets, targets)
    verdict = verdict_of(said == targets, targets, np.arange(200), ["day", "night"])
    assert verdict == "Worse than always answering 'day': accuracy 80.0 % against 90.0 % (200 groups)."


def test_many_frames_of_few_groups_are_no_evidence():
    targets, groups = np.repeat([0, 1], 500), np.repeat([0, 1], 500)
    assert "(2 groups)" in result(targets, targets, groups).verdict
    assert result(targets, targets, np.arange(1000)).verdict == ""


def test_chance_seldom_passes_for_evidence_whatever_the_size_of_the_groups():
    rng = np.random.default_rng(0)
    passed = 0
    for _ in range(100):
        groups = np.repeat(np.arange(30), 8)
        targets = rng.permutation(np.arange(30) % 2)[groups]
        said = rng.integers(2, size=30)[groups]  # the same answer for all frames of a group
        passed += not verdict_of(said == targets, targets, groups, ["day", "night"])
    assert passed <= 4


def test_frames_of_one_class_of_several_are_no_evidence():
    found = result([0, 0], [0, 0], ["a", "b"])
    assert found.verdict == "No evidence that the classes can be told apart: this figure covers only 'day'."
    assert likely_reasons(found, result(HALVES, HALVES, GROUPS, "training")) == [
        "It has no frames of night. A class needs at least two groups (movies, shots or albums), one to train on and "
        "one to test on; about 5 or more are evidence."
    ]
    assert EvaluationResult("test", "ab", [], [], []).verdict == ""
    assert EvaluationResult("test", ["day"], [0], [[1]], ["a"]).verdict == ""


def test_reasons_name_what_to_look_at():
    training = result(HALVES, HALVES, GROUPS, "training")
    useless = result(1 - HALVES, HALVES, GROUPS)
    assert likely_reasons(useless, training)[0].startswith(
        "The training frames are told apart (100.0 %), frames of other groups are not: the labels may mean nothing"
    )
    assert "even in the training frames (0.0 %)" in likely_reasons(useless, useless)[0]
    few = result([1, 0, 1], [0, 1, 0], ["a", "b", "b"])
    assert likely_reasons(few)[0] == (
        "Too few groups: 2 for 2 classes; 'day' has 2. Add movies, shots or albums: about 5 or more for each class."
    )
    uneven = (np.arange(60) % 10 == 0).astype(int)
    assert (
        "90 % of the frames are 'day': the balanced accuracy, 50.0 %"
        in likely_reasons(result(np.zeros(60, int), uneven, GROUPS))[-1]
    )
    assert likely_reasons(useless, training, training)[0].startswith(
        "The parts differ: held-out groups of the training part reach 100.0 %."
    )
