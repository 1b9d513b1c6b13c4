"""The estimators as scikit-learn expects them: its own checks, clones, pipelines, searches and routing."""

import copy
from unittest import SkipTest

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from textures import Lazy, textures

from framecnn import FrameClassifier, FrameFeatures, KMeansClassifier, estimators
from framecnn.estimators import JoinedFeatures, NetworkFeatures, PretrainedFeatures, TrainedFeatures
from framecnn.estimators.checks import as_random_state
from framecnn.networks.efficientnet import has_pretrained_weights

BARE = [
    FrameClassifier(),
    FrameClassifier(features="trained"),
    FrameFeatures(),
    JoinedFeatures(),
    KMeansClassifier(),
    NetworkFeatures(),
    PretrainedFeatures(),
    TrainedFeatures(),
]


def test_every_estimator_is_tested_by_the_checks_of_scikit_learn():
    assert {type(estimator).__name__ for estimator in BARE} == {
        name for name in estimators.__all__ if hasattr(getattr(estimators, name), "fit")
    }


def refused_by_design(estimator):
    """Return the checks that an estimator fails, with the reason."""
    if "class_weight" not in estimator.get_params():
        return {}
    return {"check_class_weight_classifiers": "the nearest cluster has no prior that weights by class could change"}


@parametrize_with_checks(BARE, expected_failed_checks=refused_by_design)
def test_an_estimator_passes_a_check_of_scikit_learn(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"a check was skipped: {reason}")


@pytest.mark.parametrize("estimator", BARE, ids=lambda estimator: type(estimator).__name__)
def test_without_a_random_state_the_global_generator_is_neither_read_nor_changed(estimator):
    """The seed of a fit is then that of no other fit."""
    X, y = np.random.default_rng(0).integers(0, 256, (12, 16, 20, 3), np.uint8), np.arange(12) % 2
    needs_vectors = isinstance(estimator, KMeansClassifier | NetworkFeatures)
    if needs_vectors or (isinstance(estimator, JoinedFeatures) and not has_pretrained_weights()):
        X = X.reshape(len(X), -1)
    before = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    clone(estimator).fit(X, y)
    after = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    assert after["pos"] == before["pos"]
    np.testing.assert_array_equal(after["key"], before["key"])
    seeds = {as_random_state("", None).randint(2**31) for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.parametrize("estimator", BARE, ids=lambda estimator: type(estimator).__name__)
def test_scikit_learn_has_many_checks(estimator):
    assert len(list(estimator_checks_generator(estimator))) > 40


@pytest.mark.parametrize(
    "estimator",
    [
        FrameClassifier(grid=(1, 1), n_filters=12, clusters_per_class=2, random_state=3),
        FrameFeatures((24, 32, 3), n_filters=12, random_state=3),
        KMeansClassifier(2, projection=None, random_state=3),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_clone_is_unfitted_and_learns_the_same_again(estimator):
    frames, labels, _ = textures()
    flat = frames.reshape(len(frames), -1)
    X = frames if isinstance(estimator, FrameClassifier) else flat
    fitted = clone(estimator).fit(X, labels)
    again = clone(fitted)
    assert again.get_params() == estimator.get_params()
    assert not any(name.endswith("_") and not name.startswith("__") for name in vars(again))
    np.testing.assert_array_equal(fitted.transform(X), again.fit(X, labels).transform(X))


def test_a_copy_predicts_what_the_original_predicts():
    frames, labels, groups = textures()
    classifier = FrameClassifier(n_filters=12, random_state=0).fit(frames, labels, groups)
    twin = copy.deepcopy(classifier)
    np.testing.assert_array_equal(twin.predict_proba(frames), classifier.predict_proba(frames))


def test_features_and_head_make_a_pipeline_that_labels_new_frames():
    pipeline = make_pipeline(FrameFeatures(grid=(1, 1), n_filters=20, random_state=0), KMeansClassifier(random_state=0))
    frames, labels, _ = textures(seed=0)
    unseen, truth, _ = textures(seed=1)
    assert pipeline.fit(frames, labels).score(unseen, truth) > 0.9


def test_the_head_works_behind_any_transformer():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (30, 4)), rng.normal(4, 1, (30, 4))]) * [1, 10, 100, 1000]
    y = np.repeat([0, 1], 30)
    assert make_pipeline(StandardScaler(), KMeansClassifier(random_state=0)).fit(X, y).score(X, y) > 0.95


@pytest.mark.parametrize("wrap", [np.asarray, Lazy], ids=["array", "lazily loaded"])
def test_cross_validation_by_group_takes_frames(wrap):
    frames, labels, groups = textures()
    classifier = FrameClassifier(grid=(1, 1), n_filters=20, random_state=0)
    scores = cross_val_score(classifier, wrap(frames), labels, groups=groups, cv=GroupKFold(2))
    assert scores.shape == (2,)
    assert scores.mean() > 0.8


def test_a_grid_search_reaches_every_parameter():
    frames, labels, _ = textures()
    grid = {"alpha": np.logspace(-2, 0, 2), "clusters_per_class": [1, 2], "projection": ["discriminant", None]}
    search = GridSearchCV(FrameClassifier(grid=(1, 1), n_filters=8, random_state=0), grid, cv=2).fit(frames, labels)
    assert len(search.cv_results_["params"]) == 8
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()
    assert search.best_params_["projection"] == "discriminant"


def test_groups_are_routed_to_the_folds_inside_a_cross_validation():
    frames, labels, groups = textures()
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = FrameClassifier(grid=(1, 1), n_filters=8, random_state=0).set_fit_request(groups=True)
        search = GridSearchCV(classifier, {"clusters_per_class": [1]}, cv=GroupKFold(2))
        search.fit(frames, labels, groups=groups)
    alone = FrameClassifier(grid=(1, 1), n_filters=8, random_state=0).fit(frames, labels, groups)
    np.testing.assert_array_equal(search.predict_proba(frames), alone.predict_proba(frames))


def test_names_of_columns_are_kept():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(np.random.default_rng(0).normal(size=(10, 2)), columns=["red", "green"])
    features = FrameFeatures().set_output(transform="pandas").fit(table)
    assert features.feature_names_in_.tolist() == ["red", "green"]
    assert features.transform(table).columns.tolist() == ["framefeatures0", "framefeatures1"]
    classifier = FrameClassifier().fit(table, np.arange(10) % 2)
    assert classifier.get_feature_names_out().tolist() == ["frameclassifier0", "frameclassifier1"]
