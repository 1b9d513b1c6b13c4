"""Coordinates of samples in the span of some of them."""

import numpy as np
import pytest
from clouds import clouds

from framecnn import KMeansClassifier, num_threads
from framecnn.data.shards import as_shards
from framecnn.estimators import reduction
from framecnn.estimators.reduction import Reduction


def test_nothing_is_reduced_if_there_are_no_more_features_than_samples():
    assert Reduction.fit(as_shards(np.ones((20, 20))), None, 0) is None
    assert Reduction.fit(as_shards(np.ones((20, 19))), None, 0) is None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(20, 21), (700, 1500), (2, 9), (1, 3)])
def test_samples_that_span_all_are_given_by_their_products(shape, dtype):
    x = (np.random.default_rng(0).normal(size=shape) + 3).astype(dtype)
    found = Reduction.fit(as_shards(x), None, 0)
    z = found.coordinates(as_shards(x))
    centred = (x - found.mean).astype(np.float64)
    np.testing.assert_allclose(z[:], centred @ centred.T, rtol=1e-12, atol=1e-12 * shape[1])
    solution = np.random.default_rng(1).normal(size=(len(x), 2))
    np.testing.assert_allclose(centred @ found.weights(solution), z[:] @ solution, rtol=1e-9, atol=1e-9 * shape[1])


@pytest.fixture
def small_systems(monkeypatch):
    monkeypatch.setattr(reduction, "LARGEST_SYSTEM", 300)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_with_more_samples_and_features_than_a_system_may_have_new_samples_are_labelled(small_systems, class_weight):
    X, y, groups = clouds(n_samples=1200, n_features=320, spread=1.6)
    unseen, truth, _ = clouds(n_samples=1200, n_features=320, spread=1.6, seed=1)
    found = []
    for threads in (1, 2):
        with num_threads(threads):
            head = KMeansClassifier(class_weight=class_weight, random_state=0).fit(X, y, groups)
            found.append([head.predict_proba(unseen), head.held_out_probabilities_, head.weights_])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.linalg.matrix_rank(head.weights_) == 2
    held_out = head.classes_[head.held_out_probabilities_.argmax(axis=1)] == y
    reduction.LARGEST_SYSTEM = 4000
    exact = KMeansClassifier(class_weight=class_weight, random_state=0).fit(X, y, groups)
    assert head.score(unseen, truth) > exact.score(unseen, truth) - 0.02
    assert abs(held_out.mean() - head.score(unseen, truth)) < 0.04


def test_products_of_samples_in_the_span_of_others_are_exact(small_systems):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(320, 50)) @ rng.normal(size=(50, 400))
    found = Reduction.fit(as_shards(x), None, 0)
    z = found.coordinates(as_shards(x))[:]
    centred = x - found.mean
    assert z.shape == (320, 300)
    np.testing.assert_allclose(z @ z.T, centred @ centred.T, atol=1e-5 * np.square(centred).sum(axis=1).max())


def test_scores_are_those_of_the_projection_that_is_stored():
    X, y, groups = clouds(n_samples=60, n_features=200, spread=1.0)
    head = KMeansClassifier(random_state=0).fit(X, y, groups)
    scores = (X - head.mean_) @ head.weights_ + head.offset_
    distances = np.linalg.norm(scores[:, None] - head.cluster_centers_, axis=2)
    np.testing.assert_allclose(head.transform(X), distances, rtol=1e-9)
    np.testing.assert_allclose(head.predict_proba(X).sum(axis=1), 1)
