"""Filters learned without labels: patches, contrast, whitening, directions, and the fold into a layer."""

import numpy as np
import pytest

from framecnn import FilterBankLayer, SettingError, ShapeError, num_threads
from framecnn.estimators.filter_learning import (
    METHODS,
    learn_filters,
    normalise_patches,
    sample_patches,
    spherical_kmeans,
    whitening,
)


def frames(n=6, shape=(20, 24, 3), seed=0):
    """Return frames whose neighbouring pixels are correlated, as in films."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, shape[0] // 4, shape[1] // 4, shape[2])).astype(np.float32)
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2) + rng.normal(0, 8, (n, *shape)).astype(np.float32)


def test_a_patch_is_a_window_of_a_frame_row_by_row():
    x = np.arange(2 * 7 * 8 * 3).reshape(2, 7, 8, 3)
    patches = sample_patches(x, 40, (3, 2), np.random.default_rng(0))
    windows = {
        tuple(x[n, i : i + 3, j : j + 2].ravel()) for n in range(2) for i in range(7 - 3 + 1) for j in range(8 - 2 + 1)
    }
    assert {tuple(patch) for patch in patches} <= windows
    assert len({tuple(patch) for patch in patches}) > 20


def test_patches_come_from_every_frame_and_corner():
    x = np.arange(2 * 3 * 3).reshape(2, 3, 3, 1)
    patches = sample_patches(x, 500, (2, 2), np.random.default_rng(0))
    assert set(patches[:, 0]) == {0, 1, 3, 4, 9, 10, 12, 13}


def test_a_frame_smaller_than_the_window_has_no_patch():
    with pytest.raises(ValueError, match="window shape cannot be larger"):
        sample_patches(np.zeros((1, 5, 5, 3)), 1, (6, 6), np.random.default_rng(0))


def test_normalised_patches_do_not_depend_on_brightness_or_contrast():
    patches = np.random.default_rng(0).normal(0, 50, (30, 27))
    plain = normalise_patches(patches, contrast=0)
    np.testing.assert_allclose(plain.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(plain.std(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(normalise_patches(3 * patches + 20, contrast=0), plain, atol=1e-5)


def test_flat_patches_are_normalised_to_almost_zero():
    nearly_flat = 100 + np.random.default_rng(0).normal(0, 0.1, (5, 27))
    assert np.abs(normalise_patches(nearly_flat, contrast=10.0)).max() < 0.2
    np.testing.assert_array_equal(normalise_patches(np.full((1, 27), 255, np.uint8), contrast=10.0), 0)


def test_whitened_patches_are_uncorrelated_and_of_equal_variance():
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(20_000, 6)) @ rng.normal(0, 3, (6, 6)) + 7
    mean, matrix = whitening(patches.astype(np.float32))
    covariance = np.cov(((patches - mean) @ matrix).T)
    values = np.linalg.eigvalsh(np.cov(patches.T))
    np.testing.assert_allclose(np.linalg.eigvalsh(covariance), np.sort(values / (values + 0.1)), atol=1e-3)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)


def test_spherical_kmeans_finds_the_directions_of_the_points():
    rng = np.random.default_rng(0)
    truth = np.eye(8)[:4]
    points = (truth[np.arange(4000) % 4] * rng.uniform(1, 3, (4000, 1)) + 0.1 * rng.normal(size=(4000, 8))).astype("f4")
    directions = spherical_kmeans(points, 12, rng)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    assert ((directions @ truth.T).max(axis=0) > 0.97).all()


def test_a_direction_without_points_does_not_change():
    points = np.tile(np.array([[1, 0, 0]], np.float32), (10, 1))
    start = np.random.default_rng(3).normal(size=(5, 3))
    start /= np.linalg.norm(start, axis=1, keepdims=True)
    directions = spherical_kmeans(points, 5, np.random.default_rng(3))
    nearest = start[:, 0].argmax()
    np.testing.assert_allclose(np.delete(directions, nearest, axis=0), np.delete(start, nearest, axis=0), atol=1e-6)
    np.testing.assert_allclose(directions[nearest], [1, 0, 0], atol=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_a_filter_bank_responds_as_whitened_patches_along_the_directions_do(method):
    """Whitening, folded into kernel and bias, changes no response."""
    rng = np.random.default_rng(0)
    x = frames()
    patches = sample_patches(x, 3000, (4, 4), rng)
    kernel, bias = learn_filters(patches, 7, (4, 4), 10.0, method, np.random.default_rng(5))
    assert kernel.shape == (4, 4, 3, 7)
    mean, matrix = whitening(normalise_patches(patches, 10.0))
    window = normalise_patches(x[:1, 2:6, 3:7].reshape(1, -1), 10.0)
    layer = FilterBankLayer(7, kernel_size=4, contrast=10.0, thresholds=(-100.0,)).build(x.shape[1:])
    layer.params["kernel"], layer.params["bias"] = kernel, bias
    directions = np.linalg.solve(matrix, kernel.reshape(48, 7).astype(np.float64))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, atol=1e-3)
    expected = (window - mean) @ matrix @ directions
    np.testing.assert_allclose(layer(x[:1])[0, 2, 3] - 100, expected[0], atol=1e-3)


def test_learned_filters_lie_nearer_to_patches_than_random_ones():
    patches = sample_patches(frames(20), 5000, (6, 6), np.random.default_rng(0))
    normalised = normalise_patches(patches, 10.0)
    best = {}
    for method in ("kmeans", "random"):
        kernel, bias = learn_filters(patches, 40, (6, 6), 10.0, method, np.random.default_rng(1))
        best[method] = (normalised @ kernel.reshape(108, 40) + bias).max(axis=1).mean()
    assert best["kmeans"] > 1.3 * best["random"]


def test_principal_components_come_with_both_signs_and_their_number_is_limited():
    patches = sample_patches(frames(channels := 1, (20, 24, channels)), 500, (3, 3), np.random.default_rng(0))
    kernel, _ = learn_filters(patches, 50, (3, 3), 10.0, "pca", np.random.default_rng(0))
    assert kernel.shape == (3, 3, 1, 18)
    np.testing.assert_allclose(kernel[..., 0::2], -kernel[..., 1::2], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_black_frames_give_finite_filters(method):
    kernel, bias = learn_filters(np.zeros((50, 27)), 6, (3, 3), 10.0, method, np.random.default_rng(0))
    assert np.isfinite(kernel).all()
    assert np.isfinite(bias).all()


@pytest.mark.parametrize("method", METHODS)
def test_filters_have_the_same_bits_on_one_and_two_threads(method):
    patches = sample_patches(frames(20), 3000, (6, 6), np.random.default_rng(0))
    found = []
    for n in (1, 2):
        with num_threads(n):
            found.append(learn_filters(patches, 30, (6, 6), 10.0, method, np.random.default_rng(1)))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_an_unknown_method_and_patches_that_do_not_fit_the_window_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(SettingError, match="expected method as one of kmeans, random, pca, got 'ica'"):
        learn_filters(np.zeros((5, 27)), 2, (3, 3), 10.0, "ica", rng)
    with pytest.raises(ShapeError, match="expected patches of 3x3 pixels, got 28 values"):
        learn_filters(np.zeros((5, 28)), 2, (3, 3), 10.0, "kmeans", rng)
