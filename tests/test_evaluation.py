"""Evaluation: accuracies, their confidence intervals, confusion and mistakes."""

import json

import numpy as np
import pytest

from framecnn.errors import ShapeError
from framecnn.evaluation import EvaluationResult, evaluate


def result_of(right, groups, classes=("day", "night")):
    """Return a result whose frames are all of the first class."""
    right = np.asarray(right, bool)
    zeros = np.zeros(right.size, int)
    return EvaluationResult("test", classes, zeros, np.where(right, 0, 1), np.full(right.size, 0.5), groups)


class Oracle:
    """A classifier that returns given probabilities."""

    def __init__(self, probabilities):
        self.probabilities = np.asarray(probabilities)

    def predict_proba(self, frames):
        return self.probabilities


def test_accuracy_confusion_and_recall_count_frames():
    result = EvaluationResult("test", "abc", [0, 0, 0, 1], [0, 0, 2, 0], [1, 1, 1, 1], list("wxyz"))
    assert result.accuracy == 0.5
    assert result.confusion.tolist() == [[2, 0, 1], [1, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(result.recall, [2 / 3, 0, np.nan])
    assert (result.n_frames, result.n_groups) == (4, 4)


def test_the_interval_is_reproducible_and_does_not_depend_on_the_order_of_frames():
    rng = np.random.default_rng(0)
    right, groups = rng.random(80) < 0.9, np.repeat(np.arange(20), 4)
    order = rng.permutation(80)
    assert result_of(right, groups).interval == result_of(right, groups).interval
    assert result_of(right, groups).interval == result_of(right[order], groups[order]).interval


def test_frames_in_few_groups_have_a_wider_interval_than_frames_alone():
    right = np.repeat(np.arange(20) < 16, 10)
    alone = result_of(right, np.arange(200)).interval
    together = result_of(right, np.repeat(np.arange(20), 10)).interval
    assert alone[1] - alone[0] < 0.13 < 0.3 < together[1] - together[0]


def test_the_interval_of_clustered_frames_contains_the_true_accuracy_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        groups = np.repeat(np.arange(20), rng.integers(2, 12, size=20))
        right = rng.random(groups.size) < rng.beta(3.8, 0.2, size=20)[groups]  # 95 % on average
        low, high = result_of(right, groups).interval
        held += low <= 0.95 <= high
    assert held >= 56  # plain resampling of the groups holds it in 51 of 60


def test_few_groups_without_an_error_do_not_have_an_interval_of_100_to_100():
    low, high = result_of([True] * 60, np.repeat(np.arange(20), 3)).interval
    assert 0.8 < low < 0.95
    assert high == 1


def test_one_group_has_the_interval_of_0_to_100():
    assert result_of([True] * 50, ["shot"] * 50).interval == (0, 1)


def test_the_interval_always_contains_the_accuracy():
    for n_right in range(11):
        result = result_of(np.arange(10) < n_right, np.arange(10))
        low, high = result.interval
        assert 0 <= low <= result.accuracy <= high <= 1


def test_mistakes_come_most_confident_first_and_ties_in_the_order_of_rows():
    result = EvaluationResult("test", "ab", [0, 0, 1, 1, 0], [1, 0, 0, 0, 1], [0.6, 0.9, 0.8, 0.6, 0.6], range(5))
    assert result.mistakes().tolist() == [2, 0, 3, 4]
    assert result.mistakes(2).tolist() == [2, 0]


def test_a_result_is_described_in_one_line():
    line = result_of([True] * 1200, np.arange(1200)).describe()
    assert line == "100.0 % (95 % interval 99.8 to 100.0; 1,200 frames of 1,200 groups)"
    assert result_of([True], ["a"]).describe().endswith("; 1 frame of 1 group)")


def test_a_part_without_frames_has_a_result():
    empty = EvaluationResult("validation", ("day", "night"), [], [], [], [])
    assert np.isnan(empty.accuracy)
    assert np.isnan(empty.interval).all()
    assert empty.describe() == "no frames"
    assert empty.mistakes().size == 0
    assert empty.to_dict()["accuracy"] is None


def test_numbers_survive_json():
    result = EvaluationResult("test", ("day", "night"), [0, 0], [0, 1], [0.9, 0.7], ["a", "b"])
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values == {
        "part": "test",
        "n_frames": 2,
        "n_groups": 2,
        "accuracy": 0.5,
        "interval": list(result.interval),
        "classes": ["day", "night"],
        "confusion": [[1, 1], [0, 0]],
        "recall": {"day": 0.5, "night": None},
    }


@pytest.mark.parametrize("name", ["predictions", "confidences", "groups"])
def test_every_frame_needs_one_entry_in_each_array(name):
    values = {"targets": [0, 1], "predictions": [0, 1], "confidences": [1, 1], "groups": ["a", "b"]}
    with pytest.raises(ShapeError, match=f"one entry of {name} for each of the 2 targets"):
        EvaluationResult("test", "ab", **values | {name: values[name][:1]})


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
@pytest.mark.parametrize("name", ["targets", "predictions"])
def test_labels_are_indices_of_the_classes(name, labels):
    values = {"targets": [0, 1], "predictions": [0, 1], "confidences": [1, 1], "groups": ["a", "b"]}
    with pytest.raises(ShapeError, match=f"{name} to be indices of the 2 classes"):
        EvaluationResult("test", "ab", **values | {name: labels})


@pytest.mark.parametrize("confidence", [-0.1, 1.1, np.nan])
def test_confidences_are_probabilities(confidence):
    with pytest.raises(ShapeError, match="between 0 and 1"):
        EvaluationResult("test", "ab", [0], [0], [confidence], ["a"])


def test_evaluate_takes_the_most_probable_class_and_its_probability():
    oracle = Oracle([[0.9, 0.1], [0.3, 0.7]])
    result = evaluate(oracle, np.zeros((2, 4, 4, 3)), [0, 0], ["a", "b"], ["day", "night"], "test")
    assert result.predictions.tolist() == [0, 1]
    assert result.confidences.tolist() == [0.9, 0.7]
    assert result.part == "test"
    assert result.classes == ("day", "night")


def test_evaluate_accepts_the_rounding_of_single_precision():
    oracle = Oracle(np.array([[np.nextafter(np.float32(1), np.float32(2)), 0]], np.float32))
    assert evaluate(oracle, np.zeros((1, 4, 4, 3)), [0], ["a"], ["day", "night"], "test").accuracy == 1


def test_evaluate_without_frames_does_not_call_the_classifier():
    result = evaluate(None, np.zeros((0, 4, 4, 3)), [], [], ["day", "night"], "validation")
    assert result.n_frames == 0


def test_evaluate_needs_one_row_a_frame_and_one_column_a_class():
    with pytest.raises(ShapeError, match=r"shape \(2, 2\), got \(2, 3\)"):
        evaluate(Oracle(np.ones((2, 3)) / 3), np.zeros((2, 4, 4, 3)), [0, 1], ["a", "b"], ["day", "night"], "test")
