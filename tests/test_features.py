"""Features of frames: what they depend on, what they do not depend on, and what is refused."""

import numpy as np
import pytest
from textures import Lazy, textures

from framecnn import FrameFeatures, KMeansClassifier, num_threads
from framecnn.estimators.features import GRIDS, default_filters, scales


def small(**parameters):
    return FrameFeatures(**{"n_filters": 20, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def frames():
    """Frames of which the largest value is 255, to which that of frames of other types is scaled."""
    found = textures()[0]
    found[0, 0, 0] = 255
    return found


@pytest.fixture(scope="module")
def fitted(frames):
    return small().fit(frames)


def test_features_of_the_training_frames_have_mean_zero_and_variance_one(frames, fitted):
    """The bound is the rounding of mean, scale, difference and quotient to float32."""
    features = small().fit_transform(frames)
    assert features.dtype == np.float32
    assert features.shape == (30, 2 * 20 * 4)
    exact = features.astype(np.float64)
    bound = np.finfo(np.float32).eps * (fitted.mean_ / fitted.scale_ + 2 * np.abs(exact).max(axis=0))
    assert (np.abs(exact.mean(axis=0)) <= bound).all()
    varying = exact.std(axis=0) > 0
    assert varying.any()
    assert (np.abs(exact.std(axis=0) - 1) <= bound)[varying].all()


def test_fit_transform_equals_fit_then_transform(frames, fitted):
    np.testing.assert_array_equal(small().fit_transform(frames), fitted.transform(frames))


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_frame_has_the_same_bits_in_any_batch_and_order(frames, fitted, size):
    whole = fitted.transform(frames)
    parts = [fitted.transform(frames[start : start + size]) for start in range(0, len(frames), size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(fitted.transform(frames[::-1]), whole[::-1])


def test_the_size_of_the_batches_inside_does_not_matter(frames, fitted):
    features = small()
    features.batch_values = 1
    np.testing.assert_array_equal(features.fit_transform(frames), fitted.transform(frames))
    np.testing.assert_array_equal(features.transform(frames), fitted.transform(frames))


def test_one_and_two_threads_give_the_same_bits(frames):
    found = []
    for n in (1, 2):
        with num_threads(n):
            found.append(small().fit_transform(frames))
    np.testing.assert_array_equal(*found)


def test_the_seed_determines_the_features(frames, fitted):
    np.testing.assert_array_equal(small().fit_transform(frames), fitted.transform(frames))
    assert (small(random_state=1).fit_transform(frames) != fitted.transform(frames)).any()
    drawn = [small(random_state=np.random.RandomState(5)).fit_transform(frames) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)


def close(a, b):
    """Whether features are the same but for rounding of the frames."""
    return np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 257.0])
def test_the_range_of_float_frames_does_not_matter(frames, fitted, scale):
    floats = frames.astype(np.float32) * np.float32(scale)
    assert close(small().fit_transform(floats), fitted.transform(frames))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.int16])
def test_the_width_of_integers_does_not_matter(frames, fitted, dtype):
    scale = 100 if dtype is np.uint16 else 1
    assert close(small().fit_transform(frames.astype(dtype) * scale), fitted.transform(frames))


def test_masks_of_true_and_false_are_frames():
    masks = textures()[0] > 128
    features = small().fit_transform(masks)
    assert close(features, small().fit_transform(masks.astype(np.uint8) * 255))


def test_flat_rows_give_the_features_of_their_frames(frames, fitted):
    rows = frames.reshape(len(frames), -1)
    flat = small(frame_shape=(24, 32, 3))
    np.testing.assert_array_equal(flat.fit_transform(rows), fitted.transform(frames))
    np.testing.assert_array_equal(flat.transform(frames), flat.transform(rows))
    assert flat.n_features_in_ == fitted.n_features_in_ == 24 * 32 * 3
    np.testing.assert_array_equal(flat.transform(Lazy(rows)), flat.transform(rows))


def test_lists_of_frames_are_frames(frames, fitted):
    np.testing.assert_array_equal(fitted.transform(list(frames[:2])), fitted.transform(frames[:2]))
    np.testing.assert_array_equal(fitted.transform(frames[:1].tolist()), fitted.transform(frames[:1]))


def test_lazily_loaded_frames_are_read_in_batches_and_give_the_same_features(frames):
    features, lazy = small(), Lazy(frames)
    features.batch_values, features.max_source_frames = 5 * 24 * 32 * 3, 4
    np.testing.assert_array_equal(features.fit_transform(lazy), features.fit_transform(frames))
    assert lazy.largest_read <= 5


def test_brightness_does_not_change_features():
    frames = textures()[0] // 2
    features = small(filters="random").fit(frames)
    brighter = features.transform(frames + np.uint8(60))
    np.testing.assert_allclose(brighter, features.transform(frames), atol=0.02)


def test_small_frames_and_their_flipped_copies_have_the_same_features(frames, fitted):
    assert fitted.averages_flips_
    pooled = small(grid=(1, 1)).fit(frames)
    np.testing.assert_allclose(pooled.transform(frames[:, :, ::-1]), pooled.transform(frames), atol=1e-3)


def test_a_grid_of_one_cell_drops_the_position_of_a_pattern():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (1, 12, 12, 3), np.uint8)
    canvas = np.full((2, 40, 40, 3), 128, np.uint8)
    canvas[0, 6:18, 6:18] = texture
    canvas[1, 20:32, 22:34] = texture
    others = textures(shape=(40, 40, 3))[0]
    nowhere, somewhere = (small(grid=grid, filters="random").fit(others).transform(canvas) for grid in GRIDS[:2])
    assert np.abs(nowhere[0] - nowhere[1]).max() < 0.1 * np.abs(somewhere[0] - somewhere[1]).max()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((240, 360, 3), [(1, 3), (2, 2), (4, 1)]),
        ((480, 720, 3), [(2, 3), (4, 2), (8, 1)]),
        ((120, 180, 3), [(1, 2), (2, 1)]),
        ((96, 96, 3), [(1, 1), (2, 1)]),
        ((32, 32, 3), [(1, 1)]),
        ((8, 8, 1), [(1, 1)]),
        ((1, 500, 3), [(1, 1)]),
    ],
)
def test_scales_follow_from_the_shorter_side(shape, expected):
    assert scales(shape) == expected
    assert scales((shape[1], shape[0], shape[2])) == expected


def test_frames_too_small_for_a_second_scale_get_more_filters_and_all_others_the_same_number():
    for side in range(1, 300):
        for shape in ((side, side, 3), (side, 400, 1), (400, side, 3)):
            few = min(shape[:2]) >= 48
            assert default_filters(shape) == (1200 if few else 3000)
            assert few or scales(shape) == [(1, 1)]


@pytest.mark.parametrize(("shape", "expected"), [((47, 60, 3), 400), ((48, 48, 3), 10)])
@pytest.mark.parametrize("depth", [1, 2])
def test_windows_of_little_contrast_say_less_in_small_frames(shape, expected, depth):
    frames = np.random.default_rng(0).integers(0, 256, (4, *shape), np.uint8)
    features = small(depth=depth).fit(frames)
    banks = [[layer.contrast for layer in chain.layers if hasattr(layer, "contrast")] for chain in features.backbones_]
    assert [(own[0], len(own)) for own in banks] == [(expected, depth)] * len(banks)


def test_the_default_number_of_filters_is_that_of_the_frame_shape(monkeypatch):
    monkeypatch.setattr("framecnn.estimators.features.FILTERS", 8)
    monkeypatch.setattr("framecnn.estimators.features.SMALL_FRAME_FILTERS", 20)
    rng = np.random.default_rng(0)
    for shape, n_filters in (((47, 90, 3), 20), ((48, 90, 3), 8), ((100, 120, 3), 8)):
        features = FrameFeatures(grid=(1, 1), random_state=0).fit(rng.integers(0, 256, (4, *shape), np.uint8))
        assert sum(network.output_shape[0] for network in features.networks_) == 2 * n_filters
        own = small(grid=(1, 1), n_filters=7).fit(rng.integers(0, 256, (4, *shape), np.uint8))
        assert own.networks_[0].output_shape[0] == 2 * (7 // len(own.networks_))


def test_frames_of_several_scales_share_the_filters():
    frames = np.random.default_rng(0).integers(0, 256, (6, 101, 131, 3), np.uint8)
    features = small(grid=(1, 1)).fit(frames)
    assert len(features.backbones_) == 2
    assert not features.averages_flips_
    assert features.transform(frames).shape == (6, 2 * 20)


@pytest.mark.parametrize("shape", [(8, 8, 1), (24, 32, 1), (13, 29, 3), (31, 6, 2), (6, 6, 3), (3, 50, 3), (1, 1, 1)])
@pytest.mark.parametrize("depth", [1, 2])
def test_frames_of_any_size_and_number_of_channels_have_features(shape, depth):
    frames = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
    features = small(grid=(3, 4), n_filters=3, depth=depth).fit_transform(frames)
    assert features.shape == (6, 2 * 3 * 3 * 4)
    assert np.isfinite(features).all()


@pytest.mark.parametrize("parameters", [{"filters": "random"}, {"filters": "pca"}, {"depth": 2}])
def test_other_filters_and_a_second_layer_separate_textures(parameters):
    frames, labels, _ = textures()
    unseen, truth, _ = textures(seed=1)
    features = small(grid=(1, 1), **parameters).fit(frames)
    head = KMeansClassifier(random_state=0).fit(features.transform(frames), labels)
    assert head.score(features.transform(unseen), truth) > 0.8


def test_a_second_layer_is_applied_to_the_first(frames):
    backbone = small(depth=2).fit(frames).backbones_[0]
    assert list(backbone.state_dict()) == [
        "filter_bank_1/kernel",
        "filter_bank_1/bias",
        "filter_bank_2/kernel",
        "filter_bank_2/bias",
    ]
    assert backbone.output_shape == (6, 4, 40)


@pytest.mark.parametrize("value", [0, 255])
def test_frames_without_any_pattern_have_features_without_nan(value):
    for dtype in (np.uint8, np.float32):
        frames = np.full((4, 24, 32, 3), value, dtype)
        np.testing.assert_array_equal(small().fit_transform(frames), 0)


def test_networks_give_the_features_before_averaging_and_standardisation():
    frames = np.random.default_rng(0).integers(0, 256, (4, 100, 120, 3), np.uint8)
    features = small(grid=(2, 2)).fit(frames)
    raw = np.hstack([network.predict(frames) for network in features.networks_])
    np.testing.assert_array_equal((raw - features.mean_) / features.scale_, features.transform(frames))


def test_feature_vectors_are_standardised_and_keep_their_dtype():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        vectors = rng.normal(5, 3, (50, 4)).astype(dtype)
        vectors[:, 2] = 7
        found = FrameFeatures().fit(vectors).transform(vectors)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found[:, 2], 0)
        np.testing.assert_allclose(found[:, [0, 1, 3]].std(axis=0), 1, rtol=1e-5)


def test_fitting_again_gives_what_a_new_estimator_gives(frames):
    features = small().fit(frames).fit(np.eye(3))
    assert features.frame_shape_ is None
    assert features.networks_ == []
    assert features.transform(np.eye(3)).shape == (3, 3)


X = np.zeros((5, 8, 9, 3), np.uint8)
FLOATS = X.astype(np.float64)
HOLED = FLOATS.copy()
HOLED[3, 2, 1, 0] = np.nan
ENDLESS = FLOATS.copy()
ENDLESS[3, 2, 1, 0] = np.inf
REFUSED_AT_FIT = [
    ({"grid": (4, 4)}, X, r"expected grid as \(rows, columns\) that divide 6 and 4, got \(4, 4\)"),
    ({"grid": (2, 2, 1)}, X, "expected grid .* got"),
    ({"grid": 2}, X, "expected grid .* got 2"),
    ({"grid": (0, 1)}, X, "expected grid .* got"),
    ({"grid": "auto"}, X, "expected grid .* got 'auto'"),
    ({"filters": "ica"}, X, "expected filters as one of kmeans, random, pca, got 'ica'"),
    ({"depth": 3}, X, "expected depth 1 or 2, got 3"),
    ({"n_filters": 0}, X, "expected n_filters as None or a positive integer, got 0"),
    ({"n_filters": 2.5}, X, "expected n_filters as None or a positive integer, got 2.5"),
    ({"n_filters": True}, X, "expected n_filters as None or a positive integer, got True"),
    ({"frame_shape": (8, 9)}, X, r"expected frame_shape as \(height, width, channels\), got \(8, 9\)"),
    ({"frame_shape": 216}, X, "expected frame_shape .* got 216"),
    ({"frame_shape": (8, 0, 3)}, X, "expected frame_shape .* got"),
    ({"frame_shape": (8, 9, 1)}, X, r"expected frames of shape \(n, 8, 9, 1\), got \(5, 8, 9, 3\)"),
    ({"frame_shape": (8, 9, 3)}, X.reshape(5, -1)[:, 1:], r"expected frames of shape \(n, 8, 9, 3\), got \(5, 215\)"),
    ({}, X[..., 0], r"expected frames \(n, height, width, channels\) or vectors .* got shape \(5, 8, 9\)"),
    ({}, X[None], "expected frames .* got shape"),
    ({}, X[:0], r"expected at least one frame and pixel, got shape \(0, 8, 9, 3\)"),
    ({}, X[:, :0], r"expected at least one frame and pixel, got shape \(5, 0, 9, 3\)"),
    ({}, X.astype(complex), "expected frames of integers or floats, got dtype complex128"),
    ({}, X.astype(object), "expected frames of integers or floats, got dtype object"),
    ({}, X.astype(str), "expected frames of integers or floats, got dtype <U"),
    ({}, HOLED, "expected finite float32 frames, got NaN or infinity"),
    ({}, ENDLESS, "expected finite float32 frames, got NaN or infinity"),
    ({}, FLOATS + 1e300, "expected finite float32 frames, got NaN or infinity"),
    ({}, HOLED[:, 2, 1], "contains NaN"),
    ({}, [1.0, 2.0], "Expected 2D array"),
]


@pytest.mark.parametrize(("parameters", "data", "message"), REFUSED_AT_FIT)
def test_what_does_not_fit_is_refused_at_fit(parameters, data, message):
    with pytest.raises(ValueError, match=message):
        small(**parameters).fit(data)


REFUSED_AT_TRANSFORM = [
    (X, X[:, :7], r"expected frames of shape \(n, 8, 9, 3\), got \(5, 7, 9, 3\)"),
    (X, X[..., :1], r"expected frames of shape \(n, 8, 9, 3\), got \(5, 8, 9, 1\)"),
    (X, X[0], r"expected frames of shape \(n, 8, 9, 3\), got \(8, 9, 3\)"),
    (X, X.reshape(5, -1), r"expected frames of shape \(n, 8, 9, 3\), got \(5, 216\)"),
    (X, FLOATS, "expected frames of integers, got dtype float64"),
    (FLOATS, X, "expected frames of floats, got dtype uint8"),
    (FLOATS, HOLED, "expected finite float32 frames, got NaN or infinity"),
    (X, X[:0], "expected at least one frame and pixel, got shape"),
    (np.eye(3), X, r"expected vectors \(n, d\), got shape \(5, 8, 9, 3\)"),
    (np.eye(3), np.eye(4), "X has 4 features, but FrameFeatures is expecting 3 features"),
]


@pytest.mark.parametrize(("known", "new", "message"), REFUSED_AT_TRANSFORM)
def test_what_differs_from_the_training_frames_is_refused(known, new, message):
    features = small(grid=(1, 1), n_filters=2).fit(known)
    with pytest.raises(ValueError, match=message):
        features.transform(new)


def test_sparse_rows_are_refused():
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match="Sparse data was passed"):
        FrameFeatures((8, 9, 3)).fit(csr_array(X.reshape(5, -1)))


def test_frames_of_values_below_the_darkest_are_black():
    frames = np.full((4, 8, 9, 3), 1e-40, np.float32)
    np.testing.assert_array_equal(small(n_filters=2).fit_transform(frames), 0)
