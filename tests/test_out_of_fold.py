"""The out-of-fold estimate: every group is predicted by heads that were fitted without it."""

import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from framecnn import KMeansClassifier, ShapeError
from framecnn.evaluation import EvaluationResult, OutOfFoldEstimate, estimate_out_of_fold

CLASSES = ("day", "night", "dusk")


def vectors(n_groups=12, noise=0.7, seed=0):
    """Return features, targets and groups: four samples a group, which resemble each other."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), 4)
    targets = groups % 3
    means = np.eye(3)[np.arange(n_groups) % 3] + rng.normal(0, noise, (n_groups, 3))
    return means[groups] + rng.normal(0, 0.1, (len(groups), 3)), targets, groups


def estimated(features, targets, groups, **settings):
    return estimate_out_of_fold(KMeansClassifier(random_state=0), features, targets, groups, CLASSES, **settings)


def test_each_frame_is_predicted_in_every_repeat_by_a_head_without_its_group(monkeypatch):
    fitted = []

    class Watching(KMeansClassifier):
        def fit_probabilities(self, X, y, groups=None):
            fitted.append(set(groups.tolist()))
            return super().fit_probabilities(X, y, groups)

    features, targets, groups = vectors()
    found = estimate_out_of_fold(Watching(random_state=0), features, targets, groups, CLASSES)
    assert len(found.repeats) == 3
    assert found.folds.shape == (3, 48)
    assert len(fitted) == 12
    names = np.unique(groups.astype(str))
    for fold in range(12):
        held_out = set(found.mean.groups[found.folds[fold // 4] == fold % 4].tolist())
        assert held_out
        assert not held_out & {names[number] for number in fitted[fold]}
    assert any((found.folds[0] != folds).any() for folds in found.folds[1:])


def test_another_classifier_is_fitted_by_its_fit():
    class Other(ClassifierMixin, BaseEstimator):
        """It answers in the proportions of training."""

        def fit(self, X, y, groups):
            self.classes_, counts = np.unique(y, return_counts=True)
            self.shares = counts / len(y)
            return self

        def predict_proba(self, X):
            return np.tile(self.shares, (len(X), 1))

    features, targets, groups = vectors()
    found = estimate_out_of_fold(Other(), features, targets, groups, CLASSES)
    assert found.accuracy < 0.5
    assert 0.3 < found.mean.probabilities.max() < 0.5


def test_the_estimate_depends_on_the_seed_only():
    features, targets, groups = vectors()
    first, again, other = (estimated(features, targets, groups, seed=seed) for seed in (0, 0, 5))
    assert first.to_dict() == again.to_dict()
    assert (first.folds != other.folds).any()


def test_figures_are_means_over_the_repeats_and_fit_into_json():
    found = estimated(*vectors())
    figures = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert figures["accuracy"] == found.accuracy == pytest.approx(np.mean(figures["accuracies"]))
    for name in ("balanced_accuracy", "brier_score", "log_loss"):
        assert figures[name] == pytest.approx(np.mean([getattr(result, name) for result in found.repeats]))
    assert (figures["n_frames"], figures["n_groups"], figures["n_repeats"], figures["n_folds"]) == (48, 12, 3, 4)
    assert figures["by_class"]["day"]["support"] == 16
    assert np.sum(figures["confusion"]) == 48
    assert found.to_dict() == figures
    figures["by_class"].clear()
    figures["confusion"].clear()
    assert found.to_dict()["by_class"]
    assert found.to_dict()["confusion"]
    assert found.describe().endswith("; 48 frames of 12 groups, 3 repeats of 4 folds)")


def test_the_interval_covers_the_variation_between_repeats():
    classes, targets, groups = ("day", "night"), np.zeros(400, int), np.arange(400)
    results = [
        EvaluationResult("out-of-fold", classes, targets, np.eye(2)[(groups >= n_right).astype(int)], groups)
        for n_right in (240, 320, 400)
    ]
    unlike, alike = (OutOfFoldEstimate(some, np.zeros((3, 400))) for some in (results, [results[1]] * 3))
    assert unlike.accuracy == alike.accuracy == 0.8
    assert unlike.interval[1] - unlike.interval[0] > 2 * (alike.interval[1] - alike.interval[0])
    low, high = unlike.interval
    assert low < 0.72
    assert high > 0.88


def test_the_interval_contains_the_accuracy_on_new_groups():
    held = 0
    for seed in range(10):
        features, targets, groups = vectors(400, seed=seed)
        few = groups < 24
        found = estimated(features[few], targets[few], groups[few], seed=seed)
        head = KMeansClassifier(random_state=0).fit(features[few], targets[few], groups[few])
        low, high = found.interval
        held += low <= head.score(features[~few], targets[~few]) <= high
    assert held >= 9


def test_a_group_that_is_the_only_one_of_a_class_is_always_used_for_training():
    features, targets, groups = vectors()
    targets = np.where(groups == 0, 2, targets % 2)
    found = estimated(features, targets, groups)
    assert found.n_groups == 11
    assert "0" not in found.mean.groups
    assert found.mean.by_class["dusk"].support == 0


def test_with_too_few_groups_or_classes_there_is_no_estimate():
    features, targets, groups = vectors()
    assert estimated(features, targets, np.zeros(48)) is None
    assert estimated(features, np.zeros(48, int), groups) is None
    only = np.where(groups == 0, 2, np.where(groups == 1, 1, 0))
    assert estimated(features, only, groups) is None
    assert estimated(features[:0], targets[:0], groups[:0]) is None


def test_a_class_that_is_missing_in_the_training_groups_of_a_fold_gets_no_probability():
    features, targets = np.eye(2)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])
    found = estimate_out_of_fold(KMeansClassifier(random_state=0), features, targets, [0, 1, 2, 3], ("day", "night"))
    assert found.n_folds == 2
    assert all(np.allclose(result.probabilities.sum(axis=1), 1) for result in found.repeats)
    everything = np.tile([0, 1], 10)
    assert estimated(np.random.default_rng(0).normal(size=(20, 3)), everything, everything // 1) is None


def test_every_frame_needs_an_entry():
    features, targets, groups = vectors()
    for name, values in (("targets", (targets[:3], groups)), ("groups", (targets, groups[:3]))):
        with pytest.raises(ShapeError, match=f"one entry of {name} for each of 48 frames, got 3"):
            estimated(features, *values)
    with pytest.raises(ShapeError, match="one entry of paths for each of 48 frames, got 1"):
        estimated(features, targets, groups, paths=["a.jpg"])


def test_repeats_are_of_the_same_frames():
    result = EvaluationResult("out-of-fold", "ab", [0, 1], np.eye(2), ["a", "b"])
    other = EvaluationResult("out-of-fold", "ab", [1, 0], np.eye(2), ["a", "b"])
    with pytest.raises(ShapeError, match="at least one repeat, got none"):
        OutOfFoldEstimate([], np.zeros((0, 2)))
    with pytest.raises(ShapeError, match="repeats of the same frames, got different targets"):
        OutOfFoldEstimate([result, other], np.zeros((2, 2)))
    with pytest.raises(ShapeError, match=r"expected folds of shape \(1, 2\), got \(2, 2\)"):
        OutOfFoldEstimate([result], np.zeros((2, 2)))
