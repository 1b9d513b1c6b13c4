"""The classifier of frames: features and head together."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from textures import CLASSES, Lazy, textures
from threadpoolctl import threadpool_limits

from framecnn import FrameClassifier, FrameFeatures, KMeansClassifier, SettingError, ShapeError, load, num_threads


def small(**parameters):
    return FrameClassifier(**{"n_filters": 20, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def fitted():
    return small().fit(*textures())


def test_new_frames_get_the_label_of_their_texture(fitted):
    unseen, truth, _ = textures(n_groups=10, seed=1)
    assert fitted.score(unseen, truth) > 0.9
    assert fitted.classes_.tolist() == list(CLASSES)


def test_a_classifier_is_its_features_followed_by_its_head(fitted):
    frames, _, _ = textures(seed=1)
    assert isinstance(fitted.features_, FrameFeatures)
    assert isinstance(fitted.head_, KMeansClassifier)
    features = fitted.features_.transform(frames)
    for method in ("predict", "predict_proba", "transform", "reject", "outlier_scores"):
        np.testing.assert_array_equal(getattr(fitted, method)(frames), getattr(fitted.head_, method)(features))


def test_fit_transform_gives_the_distances_of_the_training_frames(fitted):
    frames, labels, groups = textures()
    np.testing.assert_array_equal(small().fit_transform(frames, labels, groups), fitted.transform(frames))


def test_chosen_holds_grid_alpha_and_accuracies(fitted):
    assert set(fitted.chosen_) == {
        *("grid", "alpha", "accuracies", "features", "features_accuracies", "features_seconds", "learned_share")
    }
    assert set(fitted.chosen_["accuracies"]) == {(1, 1), (2, 2), (3, 4)}
    assert all(0 <= accuracy <= 1 for accuracy in fitted.chosen_["accuracies"].values())
    assert fitted.chosen_["grid"] == fitted.features_.grid
    assert fitted.chosen_["alpha"] == fitted.head_.alpha_


def test_a_given_grid_or_alpha_is_not_chosen():
    frames, labels, _ = textures()
    classifier = small(grid=[2, 2], alpha=0.1).fit(frames, labels)
    tried = {"accuracies": {}, "features": "learned", "features_accuracies": {}, "features_seconds": {}}
    tried["learned_share"] = None
    assert classifier.chosen_ == {"grid": [2, 2], "alpha": 0.1} | tried
    plain = small(projection=None).fit(frames, labels)
    assert plain.chosen_ == {"grid": (1, 1), "alpha": None} | tried


def test_classes_that_differ_by_position_get_a_grid_of_several_cells():
    """A pattern above or below: only a grid of several cells separates the classes."""
    rng = np.random.default_rng(0)
    frames = rng.integers(126, 131, (40, 40, 36, 1))
    labels = np.arange(40) % 2
    for frame, label in zip(frames, labels, strict=True):
        away, column = rng.integers(6, 9), rng.integers(6, 22)
        row = 32 - away if label else away
        frame[row : row + 8, column : column + 8] = rng.integers(0, 256, (8, 8, 1))
    classifier = small().fit(frames.astype(np.uint8), labels)
    accuracies = classifier.chosen_["accuracies"]
    assert classifier.chosen_["grid"] != (1, 1)
    assert accuracies[classifier.chosen_["grid"]] > accuracies[1, 1] + 0.2


def test_the_choice_is_made_on_a_part_of_many_frames():
    frames, labels, groups = textures(n_groups=10)
    lazy = Lazy(frames)
    classifier = small()
    classifier.max_selection_frames = 30
    distances = classifier.fit_transform(lazy, labels, groups)
    np.testing.assert_array_equal(distances, classifier.transform(lazy))
    assert classifier.score(lazy, labels) > 0.9
    assert classifier.fit(lazy, labels).score(lazy, labels) > 0.9


def test_digits_of_eight_by_eight_grey_pixels_are_classified():
    rows, digits = load_digits(return_X_y=True)
    train, test, truth, expected = train_test_split(rows, digits, train_size=900, random_state=0)
    classifier = FrameClassifier((8, 8, 1), n_filters=100, random_state=0).fit(train, truth)
    assert classifier.score(test, expected) > 0.96
    np.testing.assert_array_equal(classifier.predict(test.reshape(-1, 8, 8, 1)), classifier.predict(test))


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 2, 2]])
def test_six_frames_of_three_groups_are_enough(groups):
    frames, labels, _ = textures(n_groups=1)
    order = np.argsort(labels)
    classifier = small().fit(frames[order], labels[order], groups)
    assert classifier.score(frames, labels) == 1
    assert small().fit(frames[order], [0, 0, 0, 0, 1, 1], groups).predict(frames).shape == (6,)


def test_nothing_is_chosen_where_all_frames_are_one_group():
    frames, labels, _ = textures()
    classifier = small().fit(frames, labels, np.zeros(len(frames)))
    assert classifier.chosen_["accuracies"] == {}
    assert classifier.score(frames, labels) > 0.9


@pytest.mark.parametrize("size", [1, 7, 64])
def test_predictions_have_the_same_bits_in_any_batch_and_order(fitted, size):
    frames, _, _ = textures(n_groups=12, seed=1)
    whole = fitted.predict_proba(frames)
    parts = [fitted.predict_proba(frames[start : start + size]) for start in range(0, len(frames), size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(fitted.predict_proba(frames[::-1]), whole[::-1])


def test_one_and_two_threads_give_the_same_bits():
    frames, labels, groups = textures()
    found = []
    for n in (1, 2):
        with num_threads(n), threadpool_limits(n):
            found.append(small().fit(frames, labels, groups).predict_proba(frames))
    np.testing.assert_array_equal(*found)


def test_float_and_uint8_frames_give_nearly_the_same_probabilities(fitted):
    frames, labels, groups = textures()
    floats = small().fit(frames / 255, labels, groups)
    assert np.abs(floats.predict_proba(frames / 255) - fitted.predict_proba(frames)).max() < 0.1
    np.testing.assert_array_equal(floats.predict(frames / 255), fitted.predict(frames))


def test_prototypes_are_training_frames_of_their_class(fitted):
    _, labels, _ = textures()
    np.testing.assert_array_equal(labels[fitted.prototypes_], fitted.classes_[fitted.head_.cluster_labels_])


@pytest.mark.parametrize("parameters", [{}, {"projection": None, "grid": (1, 1)}, {"features": "trained"}], ids=str)
def test_noise_and_empty_frames_are_rejected_as_out_of_distribution(parameters):
    frames, labels, groups = textures(n_groups=10)
    classifier = small(**parameters).fit(frames, labels, groups)
    noise = np.random.default_rng(1).integers(0, 256, (20, 24, 32, 3), np.uint8)
    empty = np.stack([np.full((24, 32, 3), value, np.uint8) for value in (0, 255)])
    assert classifier.reject(np.concatenate([noise, empty])).all()
    assert classifier.reject(frames).mean() < 0.1
    assert classifier.reject(textures(n_groups=10, seed=1)[0]).mean() < 0.2


def test_feature_vectors_are_only_standardised_for_the_head():
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(40, 3)) + 5 * np.eye(2, 3)[np.arange(40) % 2], np.arange(40) % 2
    classifier = FrameClassifier(random_state=0).fit(vectors, labels)
    assert classifier.score(vectors, labels) > 0.95
    assert classifier.n_features_in_ == 3
    assert classifier.chosen_["accuracies"] == {}


def test_a_failed_fit_leaves_the_classifier_as_it_was():
    frames, labels, groups = textures()
    classifier = small().fit(frames, labels, groups)
    before = classifier.predict_proba(frames)
    with pytest.raises(ShapeError, match="at least two classes"):
        classifier.fit(frames[:, :12], np.zeros(len(frames)))
    np.testing.assert_array_equal(classifier.predict_proba(frames), before)


def test_details_hold_what_the_methods_return_and_a_training_frame_is_nearest_to_itself(fitted):
    frames, _, _ = textures()
    details = fitted.predict_details(frames)
    np.testing.assert_array_equal(details.probabilities, fitted.predict_proba(frames))
    np.testing.assert_array_equal(details.outlier_scores, fitted.outlier_scores(frames))
    np.testing.assert_array_equal(details.out_of_distribution, details.outlier_scores > fitted.outlier_threshold_)
    np.testing.assert_array_equal(details.nearest[:, 0], np.arange(len(frames)))
    rows, distances = fitted.nearest(frames, k=3)
    np.testing.assert_array_equal(rows, details.nearest)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_the_nearest_training_frame_is_the_other_one_of_its_group():
    frames, labels, groups = textures(n_groups=10)
    first = np.unique(groups, return_index=True)[1]
    second = np.setdiff1d(np.arange(len(frames)), first)
    classifier = small().fit(frames[first], labels[first], groups[first])
    rows, _ = classifier.nearest(frames[second], k=1)
    assert (groups[first][rows[:, 0]] == groups[second]).mean() > 0.9


def test_names_of_training_frames_are_kept(tmp_path):
    frames, labels, _ = textures()
    names = [f"Größe/{number}.png" for number in range(len(frames))]
    classifier = small(grid=(1, 1)).fit(frames, labels, names=names)
    assert classifier.training_names_.tolist() == names
    classifier.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.training_names_.tolist() == names
    np.testing.assert_array_equal(again.outlier_scores(frames[::-1]), classifier.outlier_scores(frames)[::-1])
    assert small(grid=(1, 1)).fit(frames, labels).training_names_ is None


X, Y = np.zeros((4, 8, 9, 3), np.uint8), np.array([0, 0, 1, 1])
REFUSED = [
    ({"grid": (5, 5)}, {}, r"FrameFeatures: expected grid as \(rows, columns\) that divide 6 and 4, got \(5, 5\)"),
    ({"grid": "finest"}, {}, "FrameFeatures: expected grid .* got 'finest'"),
    ({"alpha": -1}, {}, "KMeansClassifier: expected alpha 'auto' or a positive number, got -1"),
    ({"filters": "ica"}, {}, "FrameFeatures: expected filters as one of kmeans, random, pca, got 'ica'"),
    ({}, {"y": None}, "FrameClassifier: expected one label per sample .*y is None"),
    ({}, {"y": [1, 1, 1, 1]}, r"FrameClassifier: expected at least two classes in y, got 1 class \(1\)$"),
    ({}, {"y": ["a"] * 4}, r"got 1 class \('a'\)$"),
    ({}, {"y": [None] * 4}, "FrameClassifier: expected one label per sample, got None for all 4 samples"),
    ({}, {"y": [0, 0, 1, np.nan]}, "FrameClassifier: expected finite labels, got NaN"),
    ({}, {"y": ["a", "a", "b", None]}, "FrameClassifier: expected labels of one type, got NoneType, str"),
    ({}, {"y": Y[:3]}, "FrameClassifier: expected one label per sample, got 4 samples and 3 labels"),
    ({}, {"y": np.eye(4)}, "1d array"),
    ({}, {"groups": Y[:3]}, r"FrameClassifier: expected one group per sample, shape \(4,\), got shape \(3,\)"),
    ({}, {"groups": ["s", None, "s", "t"]}, "FrameClassifier: expected groups of one type, got NoneType, str; make"),
    ({}, {"names": ["a"]}, r"FrameClassifier: expected one name per sample, shape \(4,\), got shape \(1,\)"),
    (
        {},
        {"names": [1, 2, 3, 4]},
        "FrameClassifier: expected names that are str, not empty and without NUL characters, got 1",
    ),
    ({}, {"names": ["a", "b", "c", "d\0e"]}, "expected names that are str, not empty and without NUL .*, got 'd"),
    ({}, {"names": ["a", "b", "c", ""]}, "expected names that are str, not empty and without NUL characters, got ''"),
    (
        {},
        {"names": ["a", "b", "c", 2**22 * "ä"]},
        "at most 1,048,576 names of 67,108,864 bytes, got 4 of 134,217,728 .*; shorten them, or fit without names",
    ),
    ({"class_weight": "equal"}, {}, "KMeansClassifier: expected class_weight None or 'balanced', got 'equal'"),
    ({"filters": np.array(["pca", "ica"])}, {}, "FrameFeatures: expected filters as one of kmeans, .* got array"),
    ({"projection": np.array(["a", "b"])}, {}, "KMeansClassifier: expected projection 'discriminant' or None, got arr"),
    ({"depth": 2.0}, {}, "FrameFeatures: expected depth 1 or 2, got 2.0"),
    ({"depth": True}, {}, "FrameFeatures: expected depth 1 or 2, got True"),
    ({"depth": np.array([1, 2])}, {}, "FrameFeatures: expected depth 1 or 2, got array"),
    ({}, {"X": X[..., 0]}, "FrameFeatures: expected frames .* got shape"),
    ({}, {"X": np.full(X.shape, np.nan)}, "FrameFeatures: expected finite float32 frames, got NaN"),
]


@pytest.mark.parametrize(("parameters", "data", "message"), REFUSED)
def test_what_does_not_fit_is_refused(parameters, data, message):
    with pytest.raises(SettingError if parameters else ValueError, match=message):
        small(**parameters).fit(**{"X": X, "y": Y} | data)


@pytest.mark.parametrize(
    ("y", "got"),
    [
        (["across", "cut", "fade", "cut"], "'cut', 'fade'"),
        (["across", None, "down", "down"], "None"),
        ([0, 1, 1, 0], "0, 1"),
        (np.array([np.nan, 0, 0, 0]), "nan, 0.0"),
    ],
)
def test_a_label_that_was_not_seen_at_fit_cannot_be_scored(fitted, y, got):
    frames = textures()[0][:4]
    message = rf"expected labels seen at fit \('across', 'blobs', 'down'\), got {got}; drop their samples"
    with pytest.raises(ShapeError, match=f"FrameClassifier: {message}"):
        fitted.score(frames, y)
    with pytest.raises(ShapeError, match=f"KMeansClassifier: {message}"):
        fitted.head_.score(fitted.features_.transform(frames), y)


def test_scoring_needs_labels_and_uses_sample_weights(fitted):
    frames, labels, _ = textures()
    with pytest.raises(ShapeError, match="FrameClassifier: expected one label per sample, got y=None; pass the true"):
        fitted.score(frames, None)
    wrong = np.where(np.arange(len(labels)) < 10, "down", labels)
    weights = np.arange(len(labels)) >= 10
    assert fitted.score(frames, wrong, weights) == fitted.score(frames[10:], labels[10:])


def test_a_message_names_the_first_of_many_labels():
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.arange(60) % 30
    head = KMeansClassifier(random_state=0).fit(X, y)
    with pytest.raises(ShapeError, match=r"seen at fit \(0, 1, .* 9 and 20 more\), got 100, .* 109 and 50 more; drop"):
        head.score(X, np.arange(100, 160))


def test_a_wrong_parameter_is_refused_before_any_frame_is_read():
    lazy = Lazy(textures()[0])
    for parameters in ({"alpha": 0}, {"grid": (4, 4)}, {"clusters_per_class": 0}):
        with pytest.raises(SettingError, match="expected"):
            small(**parameters).fit(lazy, textures()[1])
    assert lazy.largest_read == 0


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "reject"])
def test_frames_unlike_those_of_fit_are_refused(fitted, method):
    frames = textures()[0]
    predict = getattr(fitted, method)
    for other in (
        frames[:, :12],
        frames[..., :1],
        frames.reshape(len(frames), -1),
        frames / 255,
        frames[0],
        frames[:0],
    ):
        with pytest.raises(ShapeError, match=r"FrameFeatures: expected .*, got"):
            predict(other)
