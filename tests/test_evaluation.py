"""Evaluation: accuracies, their confidence intervals, confusion and mistakes."""

import json

import numpy as np
import pytest
import sklearn.metrics
from reports import predicting

from framecnn.errors import ShapeError
from framecnn.evaluation import EvaluationResult, bootstrap, evaluate


def result_of(right, groups, classes=("day", "night")):
    """Return a result whose frames are all of the first class."""
    right = np.asarray(right, bool)
    zeros = np.zeros(right.size, int)
    return EvaluationResult("test", classes, zeros, predicting(np.where(right, 0, 1), 0.9), groups)


class Oracle:
    """A classifier that returns given probabilities."""

    def __init__(self, probabilities):
        self.probabilities = np.asarray(probabilities)

    def predict_proba(self, frames):
        return self.probabilities


def test_accuracy_confusion_and_recall_count_frames():
    result = EvaluationResult("test", "abc", [0, 0, 0, 1], predicting([0, 0, 2, 0], 1, 3), list("wxyz"))
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


@pytest.mark.parametrize("n_repeats", [1, 3])
@pytest.mark.parametrize("n_groups", [1, 2, 9, 40])
def test_an_interval_is_that_of_resamples_drawn_one_by_one(n_groups, n_repeats, monkeypatch):
    monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 1000)
    rng = np.random.default_rng(n_groups)
    groups = np.append(np.arange(n_groups), rng.integers(n_groups, size=60))
    values = rng.random((n_repeats, len(groups)))
    sizes, drawn = np.bincount(groups), np.random.default_rng(bootstrap.SEED)
    sums = [[row[groups == group].sum() for group in range(n_groups)] for row in values]
    pseudo = [sizes.mean(), 0.0]  # sums of a group of ones, and of one of zeros
    means = []
    for _ in range(bootstrap.RESAMPLES):
        rows = drawn.integers(2 * n_groups + 2, size=n_groups + 1)
        own = sums[drawn.integers(n_repeats)]
        total = sum(own[row // 2] if row < 2 * n_groups else pseudo[row - 2 * n_groups] for row in rows)
        means.append(total / sum(sizes[row // 2] if row < 2 * n_groups else sizes.mean() for row in rows))
    low, high = np.quantile(means, [0.025, 0.975])
    found = bootstrap.bootstrap_interval(values, groups)
    np.testing.assert_allclose(found, (min(low, values.mean()), max(high, values.mean())), rtol=1e-12)


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
    said = predicting([1, 0, 0, 0, 1], [0.6, 0.9, 0.8, 0.6, 0.6])
    result = EvaluationResult("test", "ab", [0, 0, 1, 1, 0], said, range(5))
    assert result.mistakes().tolist() == [2, 0, 3, 4]
    assert result.mistakes(2).tolist() == [2, 0]


def test_a_result_is_described_in_one_line():
    line = result_of([True] * 1200, np.arange(1200)).describe()
    assert line == "100.0 % (95 % interval 99.8 to 100.0; 1,200 frames of 1,200 groups)"
    assert result_of([True], ["a"]).describe().endswith("; 1 frame of 1 group)")


def test_a_part_without_frames_has_a_result():
    empty = EvaluationResult("validation", ("day", "night"), [], [], [])
    assert np.isnan(empty.accuracy)
    assert np.isnan(empty.interval).all()
    assert empty.describe() == "no frames"
    assert empty.mistakes().size == 0
    figures = json.loads(json.dumps(empty.to_dict(), allow_nan=False))
    assert figures["accuracy"] is figures["brier_score"] is figures["macro"]["f1"] is None
    assert figures["by_class"]["day"] == {"support": 0, "precision": None, "recall": None, "f1": None}
    assert figures["reliability"] == []


def test_numbers_survive_json():
    result = EvaluationResult("test", ("day", "night"), [0, 0], [[0.9, 0.1], [0.3, 0.7]], ["a", "b"])
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values == {
        "part": "test",
        "n_frames": 2,
        "n_groups": 2,
        "accuracy": 0.5,
        "interval": list(result.interval),
        "verdict": "No evidence that the classes can be told apart: this figure covers only 'day'.",
        "baseline": {"name": "day", "accuracy": 1.0, "chance": 0.5},
        "balanced_accuracy": 0.5,
        "top_2_accuracy": 1.0,
        "macro": {"precision": 1.0, "recall": 0.5, "f1": 2 / 3},
        "brier_score": pytest.approx(0.5),
        "log_loss": result.log_loss,
        "expected_calibration_error": pytest.approx(0.4),
        "classes": ["day", "night"],
        "by_class": {
            "day": {"support": 2, "precision": 1.0, "recall": 0.5, "f1": 2 / 3},
            "night": {"support": 0, "precision": 0.0, "recall": None, "f1": 0.0},
        },
        "confusion": [[1, 1], [0, 0]],
        "reliability": [
            {"n_frames": 1, "confidence": 0.7, "accuracy": 0.0},
            {"n_frames": 1, "confidence": 0.9, "accuracy": 1.0},
        ],
    }


@pytest.mark.parametrize("name", ["probabilities", "groups"])
def test_every_frame_needs_one_entry_in_each_array(name):
    values = {"targets": [0, 1], "probabilities": np.eye(2), "groups": ["a", "b"]}
    with pytest.raises(ShapeError, match=rf"expected {name} of shape \(2,.*\) for 2 frames, got \(1,"):
        EvaluationResult("test", "ab", **values | {name: values[name][:1]})
    with pytest.raises(ShapeError, match="one path for each of the 2 frames, got 1"):
        EvaluationResult("test", "ab", **values, paths=["1.jpg"])


@pytest.mark.parametrize("targets", [[0, 2], [-1, 0]])
def test_targets_are_indices_of_the_classes(targets):
    with pytest.raises(ShapeError, match="targets to be indices of the 2 classes"):
        EvaluationResult("test", "ab", targets, np.eye(2), ["a", "b"])


@pytest.mark.parametrize("row", [[-0.1, 1.1], [1.1, -0.1], [np.nan, 1], [0.9, 0.9], [0, 0]])
def test_probabilities_are_between_0_and_1_and_sum_to_1(row):
    with pytest.raises(ShapeError, match="between 0 and 1 that sum to 1, got others; pass the output of predict_proba"):
        EvaluationResult("test", "ab", [0], [row], ["a"])


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
        evaluate(Oracle(np.full((2, 3), 1 / 3)), np.zeros((2, 4, 4, 3)), [0, 1], ["a", "b"], ["day", "night"], "test")


def drawn(n=200, n_classes=5, seed=0):
    """Return a result of random probabilities; the last class has no frames."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(n_classes - 1, size=n)
    return EvaluationResult("test", "abcde"[:n_classes], targets, rng.dirichlet(np.ones(n_classes), n), range(n))


def test_figures_are_those_of_scikit_learn():
    result = drawn()
    targets, labels = result.targets, range(4)
    averages = sklearn.metrics.precision_recall_fscore_support(
        targets, result.predictions, labels=labels, average="macro", zero_division=0
    )
    assert list(result.macro.values()) == pytest.approx(averages[:3])
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert result.balanced_accuracy == pytest.approx(
            sklearn.metrics.balanced_accuracy_score(targets, result.predictions)
        )
    top_2 = sklearn.metrics.top_k_accuracy_score(targets, result.probabilities, k=2, labels=range(5))
    assert result.top_2_accuracy == pytest.approx(top_2)
    assert result.log_loss == pytest.approx(sklearn.metrics.log_loss(targets, result.probabilities, labels=range(5)))
    one_hot = np.eye(5)[targets]
    assert result.brier_score == pytest.approx(5 * sklearn.metrics.mean_squared_error(one_hot, result.probabilities))


def test_certain_right_predictions_have_a_log_loss_of_zero_without_a_sign():
    for sure in (1, 1 + 1e-4):
        assert f"{EvaluationResult('test', 'ab', [0, 1], sure * np.eye(2), ['a', 'b']).log_loss:.3f}" == "0.000"


def test_a_certain_wrong_prediction_has_a_finite_log_loss():
    assert 30 < EvaluationResult("test", "ab", [0], [[0, 1]], ["a"]).log_loss < 40


def test_the_calibration_error_is_that_of_bins_of_equal_count_in_any_order():
    rng = np.random.default_rng(0)
    confidences = rng.choice([0.6, 0.8, 1.0], 301)
    right = rng.random(301) < confidences - 0.1
    said = predicting(np.where(right, 0, 1), confidences)
    result = EvaluationResult("test", "ab", np.zeros(301), said, range(301))
    assert [own.n_frames for own in result.reliability] == [21] + [20] * 14
    assert result.expected_calibration_error == pytest.approx(0.1, abs=0.05)
    order = rng.permutation(301)
    shuffled = EvaluationResult("test", "ab", np.zeros(301), said[order], range(301))
    assert shuffled.expected_calibration_error == pytest.approx(result.expected_calibration_error)
