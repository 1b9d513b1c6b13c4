"""What the k-means head says of held-out samples, and how it compares new samples with those of training."""

import numpy as np
import pytest
from clouds import clouds, heads
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from framecnn import KMeansClassifier, SettingError
from framecnn.estimators.details import DetailsMixin
from framecnn.estimators.outliers import OutlierDetector

X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1])
def test_the_false_alarm_rate_is_that_of_new_groups(rate):
    X, y, groups = clouds(n_samples=1800, spread=1.0)
    unseen, _, _ = clouds(n_samples=1800, spread=1.0, seed=1)
    head = KMeansClassifier(false_alarm_rate=rate, random_state=0).fit(X, y, groups)
    assert abs(head.reject(unseen).mean() - rate) < 0.03
    np.testing.assert_array_equal(head.reject(unseen), head.outlier_scores(unseen) > head.outlier_threshold_)


def test_samples_of_a_class_that_was_not_trained_have_higher_outlier_scores():
    X, y, groups = clouds(n_samples=900, n_features=40)
    unseen, truth, _ = clouds(n_samples=900, n_features=40, seed=1)
    known = y != "wipe"
    scores = KMeansClassifier(random_state=0).fit(X[known], y[known], groups[known]).outlier_scores(unseen)
    assert roc_auc_score(truth == "wipe", scores) > 0.9


def test_features_by_a_network_are_compared_by_their_cosine_before_standardisation():
    X, y, groups = clouds(n_samples=120, n_features=12)
    codes, groups = np.unique(y, return_inverse=True)[1], np.asarray(groups)
    mean, scale = np.linspace(1, 2, 5), np.linspace(0.5, 3, 5)
    raw = X[:, 7:] * scale + mean
    units = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    cosines = 1 - units @ units.T
    both = OutlierDetector.fit(X, codes, groups, 0.05, 0, (mean, scale))
    learned = OutlierDetector.fit(X[:, :7], codes, groups, 0.05, 0, (mean[:0], scale[:0]))
    by_network = OutlierDetector.fit(X[:, 7:], codes, groups, 0.05, 0, (mean, scale))
    found = []
    for detector, columns in ((both, X), (learned, X[:, :7]), (by_network, X[:, 7:])):
        scores, rows, distances = detector.compare(columns, len(X))
        np.testing.assert_array_equal(scores, 0)
        found.append(np.empty_like(distances))
        np.put_along_axis(found[-1], rows, distances, axis=1)
    np.testing.assert_allclose(found[2], cosines**2, atol=1e-12)
    np.testing.assert_allclose(found[0], found[1] * found[2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_network", [4, 9])
def test_the_false_alarm_rate_with_features_by_a_network(n_network):
    X, y, groups = clouds(n_samples=1800, n_features=9, spread=1.0)
    unseen, _, _ = clouds(n_samples=1800, n_features=9, spread=1.0, seed=1)
    head = KMeansClassifier(random_state=0)
    head.network_moments = np.full(n_network, 2.0), np.ones(n_network)
    head.fit(X, y, groups)
    assert abs(head.reject(unseen).mean() - 0.05) < 0.03


@heads
def test_held_out_probabilities_are_right_as_often_as_those_of_new_samples(head):
    X, y, groups = clouds(n_samples=900, spread=1.5)
    unseen, truth, _ = clouds(n_samples=3000, spread=1.5, seed=1)
    head.fit(X, y, groups)
    held_out = head.classes_[head.held_out_probabilities_.argmax(axis=1)] == y
    assert abs(held_out.mean() - head.score(unseen, truth)) < 0.05
    np.testing.assert_allclose(head.held_out_probabilities_.sum(axis=1), 1)


@pytest.mark.parametrize("alpha", ["auto", 0.03])
def test_held_out_probabilities_of_labels_without_meaning_are_right_by_chance(alpha):
    accuracies = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(24), 6)
        y = rng.permutation(np.arange(24) % 2)[groups]
        X = rng.normal(size=(24, 200))[groups] + 0.5 * rng.normal(size=(144, 200))
        found = KMeansClassifier(alpha=alpha, random_state=seed).fit(X, y, groups).held_out_probabilities_
        accuracies.append((found.argmax(axis=1) == y).mean())
    assert np.mean(accuracies) < 0.5 + 2 * np.std(accuracies) / np.sqrt(30)


@pytest.mark.parametrize("projection", ["discriminant", None])
def test_a_class_of_one_group_has_no_held_out_probabilities_and_the_others_have(projection):
    X, y, groups = clouds(n_samples=270)
    groups = np.where(y == "wipe", groups.max() + 1, groups)
    head = KMeansClassifier(projection=projection, random_state=0).fit(X, y, groups)
    missing = np.isnan(head.held_out_probabilities_)
    np.testing.assert_array_equal(missing, np.repeat((y == "wipe")[:, None], 3, axis=1))
    found = head.held_out_probabilities_[y != "wipe"]
    assert (head.classes_[found.argmax(axis=1)] == y[y != "wipe"]).mean() > 0.9
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_two_groups_of_two_classes_have_no_held_out_probabilities():
    X, y, _ = clouds()
    two = y != "wipe"
    for projection in ("discriminant", None):
        head = KMeansClassifier(projection=projection, random_state=0).fit(X[two], y[two], y[two])
        assert np.isnan(head.held_out_probabilities_).all()
        assert head.score(X[two], y[two]) > 0.9


@heads
def test_a_fit_of_probabilities_alone_predicts_the_same_bits(head):
    X, y, groups = clouds()
    expected = head.fit(X, y, groups).predict_proba(X)
    found = clone(head).fit_probabilities(X, y, groups)
    np.testing.assert_array_equal(found.predict_proba(X), expected)
    assert not hasattr(found, "outliers_")


def test_equally_near_samples_come_in_the_order_of_training():
    X = np.repeat(np.random.default_rng(0).normal(size=(40, 3)), 5, axis=0)
    head = KMeansClassifier(random_state=0).fit(X, np.arange(200) % 40 % 2)
    rows, distances = head.nearest(X, k=200)
    assert (np.diff(rows, axis=1)[np.diff(distances, axis=1) == 0] > 0).all()
    for k in (1, 2, 3, 5, 7, 199):
        few, near = head.nearest(X, k)
        np.testing.assert_array_equal(few, rows[:, :k])
        np.testing.assert_array_equal(near, distances[:, :k])


def test_held_out_probabilities_are_nan_where_no_group_can_be_held_out():
    X, y, _ = clouds()
    head = KMeansClassifier(random_state=0).fit(X, y, np.zeros(len(X)))
    assert np.isnan(head.held_out_probabilities_).all()
    assert head.score(X, y) > 0.9


def test_more_nearest_samples_than_there_are_is_refused():
    head = KMeansClassifier(random_state=0).fit(X, Y)
    assert head.predict_details(X).nearest.shape == (6, 3)
    with pytest.raises(SettingError, match="nearest: expected k of at most 6, the training samples, got 7"):
        head.nearest(X, k=7)
    with pytest.raises(SettingError, match="nearest: expected k as a positive integer, got 0"):
        head.nearest(X, k=0)


def test_a_classifier_that_compares_samples_needs_a_head_and_vectors():
    class Bare(DetailsMixin):
        """It lacks the method that the mixin calls."""

    with pytest.raises(NotImplementedError, match=r"^Bare: expected a method _head_and_vectors, got none; define it$"):
        Bare().reject(X)
