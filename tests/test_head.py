"""The k-means head: its clusters, labels, probabilities and rejections."""

import threading
import warnings

import numpy as np
import pytest
from clouds import clouds, heads
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from framecnn import KMeansClassifier, num_threads


@heads
def test_new_samples_get_the_label_of_their_cloud(head):
    X, y, groups = clouds()
    unseen, truth, _ = clouds(seed=1)
    head.fit(X, y, groups)
    assert head.score(unseen, truth) > 0.95
    assert head.classes_.tolist() == ["cut", "fade", "wipe"]


def test_clusters_lie_where_held_out_samples_fall():
    """With more features than samples, fitted scores are near 1; held-out scores are those of new samples."""
    X, y, groups = clouds(n_samples=60, n_features=200, spread=1.0)
    head = KMeansClassifier(alpha=0.0003, random_state=0).fit(X, y, groups)
    codes = np.searchsorted(head.classes_, y)
    fitted = ((X - head.mean_) @ head.weights_ + head.offset_)[np.arange(60), codes].mean()
    assert fitted > 0.99
    assert 0.4 < head.cluster_centers_[np.arange(3), np.arange(3)].mean() < 0.95
    new, truth, _ = clouds(n_samples=60, n_features=200, spread=1.0, seed=1)
    unseen = ((new - head.mean_) @ head.weights_ + head.offset_)[np.arange(60), np.searchsorted(head.classes_, truth)]
    assert abs(unseen.mean() - head.cluster_centers_[np.arange(3), np.arange(3)].mean()) < 0.1


@heads
def test_names_of_classes_do_not_matter(head):
    X, y, groups = clouds(spread=1.2)
    renamed = {"cut": "z", "fade": "a", "wipe": "m"}
    names = np.array([renamed[label] for label in y])
    original = head.fit(X, y, groups).predict(X)
    same = head.fit(X, names, groups).predict(X) == np.array([renamed[label] for label in original])
    assert same.mean() > 0.97 if head.clusters_per_class > 1 else same.all()  # k-means may converge to another optimum


@heads
def test_the_order_of_samples_does_not_matter(head):
    X, y, groups = clouds()
    unseen, _, _ = clouds(spread=1.5, seed=2)
    order = np.random.default_rng(0).permutation(len(X))
    straight = head.fit(X, y, groups).predict(unseen)
    shuffled = head.fit(X[order], y[order], groups[order]).predict(unseen)
    assert (straight == shuffled).mean() > (0.95 if head.clusters_per_class > 1 else 0.99)


def test_one_cluster_a_class_gives_the_same_numbers_in_any_order_of_groups():
    X, y, groups = clouds(spread=1.2)
    order = np.random.default_rng(0).permutation(len(X))
    head = KMeansClassifier(random_state=0)
    straight = head.fit(X, y, groups).transform(X)
    np.testing.assert_allclose(head.fit(X[order], y[order], groups[order]).transform(X), straight, atol=1e-10)


def test_several_clusters_a_class_hold_a_class_in_several_places():
    """Two classes in opposite corners of a square: no straight line separates them, their clusters do."""
    rng = np.random.default_rng(0)
    corners = np.array([[0, 0], [4, 4], [0, 4], [4, 0]])[np.arange(200) % 4]
    X = corners + 0.5 * rng.normal(size=(200, 2))
    y = np.arange(200) % 4 // 2
    head = KMeansClassifier(2, projection=None, random_state=0).fit(X, y)
    assert head.score(X, y) > 0.98
    assert np.bincount(head.cluster_labels_).tolist() == [2, 2]
    assert KMeansClassifier(projection=None, random_state=0).fit(X, y).score(X, y) < 0.8


def test_a_plain_cluster_has_the_label_of_most_of_its_members():
    X = np.concatenate([np.zeros((10, 1)), np.full((10, 1), 5.0)])
    X += 0.01 * np.arange(20)[:, None]
    y = np.array(["night"] * 7 + ["day"] * 3 + ["day"] * 10)
    head = KMeansClassifier(projection=None, random_state=0).fit(X, y)
    assert head.predict([[0.0], [5.0]]).tolist() == ["night", "day"]
    for cluster, label in enumerate(head.cluster_labels_):
        members = np.bincount(np.searchsorted(head.classes_, y[head.labels_ == cluster]), minlength=2)
        assert members.argmax() == label


def test_a_class_without_a_cluster_is_never_predicted():
    X = np.concatenate([np.zeros((10, 1)), np.full((10, 1), 5.0)]) + 0.01 * np.arange(20)[:, None]
    y = np.array(["rare"] + ["a"] * 9 + ["b"] * 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        head = KMeansClassifier(projection=None, random_state=0).fit(np.repeat(X, 3, axis=0), np.repeat(y, 3))
    probabilities = head.predict_proba(X)
    missing = np.setdiff1d(np.arange(3), head.cluster_labels_)
    np.testing.assert_array_equal(probabilities[:, missing], 0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert "rare" not in head.predict(X)


@heads
def test_every_cluster_has_members_and_the_nearest_of_them_is_its_prototype(head):
    X, y, groups = clouds(spread=2.0)
    head.fit(X, y, groups)
    n_clusters = len(head.cluster_centers_)
    np.testing.assert_array_equal(np.unique(head.labels_), np.arange(n_clusters))
    np.testing.assert_array_equal(head.labels_[head.prototypes_], np.arange(n_clusters))
    if head.projection is not None:
        np.testing.assert_array_equal(y[head.prototypes_], head.classes_[head.cluster_labels_])
        np.testing.assert_array_equal(y, head.classes_[head.cluster_labels_[head.labels_]])
    else:
        distances = head.transform(X)
        for cluster, prototype in enumerate(head.prototypes_):
            assert distances[prototype, cluster] == distances[head.labels_ == cluster, cluster].min()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["discriminant", None]), st.integers(1, 3), st.integers(0, 99), st.sampled_from([0.01, 1.0, 30.0])
)
def test_the_prediction_is_the_most_probable_class(projection, clusters, seed, scale):
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(30, 2)) * 3) * scale  # a lattice: many ties
    y = np.arange(30) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        head = KMeansClassifier(clusters, projection=projection, alpha=0.01, random_state=0).fit(X, y)
    new = np.concatenate([X, 1e6 * X, np.zeros((1, 2))])
    probabilities = head.predict_proba(new)
    np.testing.assert_array_equal(head.predict(new), head.classes_[probabilities.argmax(axis=1)])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(head.probabilities(head.transform(new)), probabilities)
    nearest = head.transform(new)
    rivals = np.where(head.classes_[head.cluster_labels_] == head.predict(new)[:, None], nearest, np.inf).min(axis=1)
    assert (rivals <= nearest.min(axis=1) * (1 + 1e-6) + 1e-12).all()


def test_probabilities_are_calibrated():
    X, y, _ = clouds(n_samples=900, spread=1.5)
    head = KMeansClassifier(random_state=0).fit(X, y)
    new, truth, _ = clouds(n_samples=3000, spread=1.5, seed=1)
    probabilities = head.predict_proba(new).max(axis=1)
    right = head.predict(new) == truth
    for low, high in [(0.4, 0.6), (0.6, 0.8), (0.8, 1.0)]:
        rows = (probabilities >= low) & (probabilities < high)
        assert abs(right[rows].mean() - probabilities[rows].mean()) < 0.1


@heads
def test_far_points_are_rejected_and_few_others(head):
    X, y, groups = clouds(n_samples=900)
    unseen, _, _ = clouds(n_samples=900, seed=1)
    head.fit(X, y, groups)
    assert head.reject(X).mean() < 0.02
    assert 0.02 < head.reject(unseen).mean() < 0.08
    assert head.reject(X + 50).all()


@heads
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_point_at_a_huge_distance_has_a_label_and_probabilities(head, dtype):
    X, y, groups = clouds()
    head.fit(X.astype(dtype), y, groups)
    far = np.full((1, 5), 1e30, dtype)
    assert np.isfinite(head.predict_proba(far)).all()
    assert head.reject(far).all()


@heads
def test_too_few_different_samples_give_fewer_clusters_and_a_warning(head):
    X = np.repeat(np.eye(3), 8, axis=0)
    y = np.repeat([0, 1, 2], 8)
    for alpha in ("auto", 0.1):
        many = KMeansClassifier(30, projection=head.projection, alpha=alpha, random_state=0)
        with pytest.warns(ConvergenceWarning, match="expected .* clusters, got"):
            many.fit(X, y)
        assert 3 <= len(many.cluster_centers_) <= 24
        assert not np.isnan(many.cluster_centers_).any()
        assert many.score(X, y) == 1


def test_samples_that_differ_in_the_sign_of_zero_are_equal():
    X = np.array([[0.0], [-0.0], [1.0], [1.0]])
    with pytest.warns(ConvergenceWarning, match="expected 4 clusters, got 2"):
        head = KMeansClassifier(2, projection=None, random_state=0).fit(X, [0, 0, 1, 1])
    assert sorted(head.cluster_centers_.ravel().tolist()) == [0, 1]


@pytest.mark.parametrize("projection", ["discriminant", None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_that_are_all_zero_give_no_nan(projection, dtype):
    X, y = np.zeros((12, 4), dtype), np.arange(12) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("error", RuntimeWarning)
        head = KMeansClassifier(projection=projection, random_state=0).fit(X, y)
    probabilities = head.predict_proba(X)
    assert np.isfinite(probabilities).all()
    assert np.isfinite(head.transform(X)).all()
    assert not head.reject(X).any()
    np.testing.assert_array_equal(head.predict(X), head.classes_[probabilities.argmax(axis=1)])


@heads
def test_one_and_two_threads_give_the_same_bits(head):
    X, y, groups = clouds(n_samples=1200, n_features=40)
    found = []
    for n in (1, 2):
        with num_threads(n):
            with threadpool_limits(n):
                head.fit(X.astype(np.float32), y, groups)
            found.append(
                (head.cluster_centers_, head.transform(X), head.predict_proba(X), head.held_out_probabilities_)
            )
            found[-1] += (head.outlier_scores(X), *head.nearest(X, 5))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_heads_fitted_in_parallel_equal_heads_fitted_alone():
    X = np.random.default_rng(0).normal(size=(1500, 30))
    y = np.arange(1500) % 3
    alone = KMeansClassifier(projection=None, random_state=0).fit(X, y)
    together = [KMeansClassifier(projection=None, random_state=0) for _ in range(3)]
    threads = [threading.Thread(target=head.fit, args=(X, y)) for head in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for head in together:
        np.testing.assert_array_equal(head.cluster_centers_, alone.cluster_centers_)


@heads
def test_a_sample_alone_and_in_any_batch_has_the_same_bits(head):
    X, y, groups = clouds(n_features=37)
    head.fit(X, y, groups)
    whole = head.predict_proba(X)
    for size in (1, 7, 64):
        parts = [head.predict_proba(X[start : start + size]) for start in range(0, len(X), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(head.predict_proba(X[::-1]), whole[::-1])


def test_the_ridge_penalty_is_chosen_on_a_part_of_many_samples():
    X, y, groups = clouds(n_samples=300)
    head = KMeansClassifier(random_state=0)
    head.max_selection_rows = 30
    assert head.fit(X, y, groups).score(X, y) > 0.95
    assert head.fit(X, y).score(X, y) > 0.95


def test_three_samples_of_three_groups_are_enough():
    head = KMeansClassifier(random_state=0).fit([[0.0], [1.0], [2.0]], ["a", "b", "b"], groups=["x", "y", "z"])
    assert head.predict([[-1.0], [3.0]]).tolist() == ["a", "b"]


@pytest.mark.parametrize("projection", ["discriminant", None])
def test_balanced_weights_raise_the_balanced_accuracy_on_unequal_classes(projection):
    X, y, _ = clouds(n_samples=2400, n_features=30, spread=1.6)
    rare = np.flatnonzero(y == "wipe")
    kept = np.setdiff1d(np.arange(len(y)), rare[20:])
    unseen, truth, _ = clouds(n_samples=3000, n_features=30, spread=1.6, seed=1)
    accuracies = []
    for class_weight in (None, "balanced"):
        head = KMeansClassifier(projection=projection, class_weight=class_weight, random_state=0)
        predicted = head.fit(X[kept], y[kept]).predict(unseen)
        accuracies.append(np.mean([(predicted == label)[truth == label].mean() for label in head.classes_]))
    assert accuracies[1] > accuracies[0] + 0.02


def test_equal_classes_give_the_same_labels_with_balanced_weights():
    X, y, groups = clouds(spread=1.0)
    plain, balanced = (KMeansClassifier(class_weight=w, random_state=0).fit(X, y, groups) for w in (None, "balanced"))
    np.testing.assert_allclose(balanced.weights_, plain.weights_, atol=1e-10)


X, Y = np.arange(12.0).reshape(6, 2), np.array([0, 0, 0, 1, 1, 1])
MISFITS = [
    ({"clusters_per_class": 0}, {}, "expected clusters_per_class as a positive integer, got 0"),
    ({"clusters_per_class": True}, {}, "expected clusters_per_class as a positive integer, got True"),
    ({"clusters_per_class": 1.5}, {}, "expected clusters_per_class as a positive integer, got 1.5"),
    ({"projection": "lda"}, {}, "expected projection 'discriminant' or None, got 'lda'"),
    ({"alpha": 0}, {}, "expected alpha 'auto' or a positive number, got 0"),
    ({"alpha": True}, {}, "expected alpha 'auto' or a positive number, got True"),
    ({"alpha": np.nan}, {}, "expected alpha 'auto' or a positive number, got nan"),
    ({"alpha": "automatic"}, {}, "expected alpha 'auto' or a positive number, got 'automatic'"),
    ({"alpha": np.array([1.0, 2.0])}, {}, "expected alpha 'auto' or a positive number, got array"),
    ({"class_weight": {0: 1, 1: 2}}, {}, "expected class_weight None or 'balanced', got {0: 1, 1: 2}"),
    ({"false_alarm_rate": 0}, {}, "expected false_alarm_rate between 0 and 1, got 0"),
    ({"false_alarm_rate": 1.0}, {}, "expected false_alarm_rate between 0 and 1, got 1.0"),
    ({"false_alarm_rate": np.nan}, {}, "expected false_alarm_rate as a finite number, got nan"),
    ({}, {"y": None}, "expected one label per sample .*y is None"),
    ({}, {"y": Y[:5]}, "expected one label per sample, got 6 samples and 5 labels"),
    ({}, {"y": np.zeros(6)}, r"expected at least two classes in y, got 1 class \(0.0\)"),
    ({}, {"y": ["a", "a", "b", "b", "b", None]}, "expected labels of one type, got NoneType, str"),
    ({}, {"y": np.array(["a", "a", "b", "b", "b", np.nan], object)}, "expected labels of one type, got float, str"),
    ({}, {"y": [0, 0, 0, 1, 1, np.nan]}, "expected finite labels, got NaN or infinity"),
    ({}, {"y": [0, 0, 0, 1, 1, np.inf]}, "expected finite labels, got NaN or infinity"),
    ({}, {"y": Y + 0.5}, "Unknown label type: continuous"),
    ({}, {"groups": [0, 1]}, r"expected one group per sample, shape \(6,\), got shape \(2,\)"),
    ({}, {"groups": 3}, r"expected one group per sample, shape \(6,\), got shape \(\)"),
    ({}, {"X": np.where(X == 3, np.nan, X)}, "contains NaN"),
    ({}, {"X": np.where(X == 3, np.inf, X)}, "contains infinity"),
    ({}, {"X": X[:, :, None]}, "dim 3"),
    ({}, {"X": X[:0], "y": Y[:0]}, "0 sample"),
]


@pytest.mark.parametrize(("parameters", "data", "message"), MISFITS)
def test_what_does_not_fit_is_refused_by_name(parameters, data, message):
    data = {"X": X, "y": Y} | data
    with pytest.raises(ValueError, match=message):
        KMeansClassifier(**parameters).fit(**data)


def test_samples_of_another_width_are_refused():
    head = KMeansClassifier(random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="X has 3 features, but KMeansClassifier is expecting 2 features"):
        head.predict(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="contains NaN"):
        head.predict_proba([[np.nan, 0]])


def test_a_class_is_not_exchanged_with_another_when_few_samples_are_hard_to_tell_apart():
    """Of 40 draws of 16 noisy samples each, held-out scores alone exchanged the classes in several."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(16, 60)).astype(np.float32)
        y = np.arange(16) % 2
        X[:, 0] += y
        head = KMeansClassifier(random_state=0).fit(X, y)
        assert head.score(X, y) > 0.5


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.1}, {"class_weight": "balanced"}])
@pytest.mark.parametrize("n", [4, 5, 9, 12])
@pytest.mark.parametrize("n_others", [0, 1])
def test_samples_that_are_equal_but_for_one_at_most_can_be_fitted(settings, n, n_others):
    rng = np.random.default_rng(n)
    for scale in (1e-3, 1.0, 1e3):
        X = np.tile(scale * rng.normal(size=40), (n, 1))
        X[:n_others] += rng.normal(size=40)
        head = KMeansClassifier(random_state=0, **settings).fit(X, np.arange(n) % 3 == 0)
        assert np.isfinite(head.predict_proba(X)).all()
