"""Why this answer: contributions of places to a prediction add up to it, and equal a slow obvious computation."""

import numpy as np
import pytest
from explaining import explained, feature_weights, rounding
from textures import textures

from framecnn import FrameClassifier, num_threads
from framecnn.errors import FormatError, SettingError, ShapeError
from framecnn.estimators import explain, features, filter_contributions

CASES = {
    "small frames, averaged over flips": ({}, (24, 32, 3)),
    "two scales": ({}, (97, 120, 3)),
    "whole frame": ({"grid": (1, 1)}, (24, 32, 3)),
    "fine grid, grey": ({"grid": (3, 4)}, (50, 61, 1)),
    "two clusters a class": ({"clusters_per_class": 2}, (24, 32, 3)),
    "plain k-means": ({"projection": None, "grid": (2, 2), "clusters_per_class": 4}, (24, 32, 3)),
    "depth 2": ({"depth": 2}, (48, 64, 3)),
    "downsampled": ({"grid": (2, 1)}, (362, 500, 1)),
}


def fitted(parameters, shape):
    even = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2, shape[2]
    X, y, groups = textures(4, even)
    X = X[:, : shape[0], : shape[1]]
    return FrameClassifier(**{"grid": (2, 2), "n_filters": 12, "random_state": 0} | parameters).fit(X, y, groups), X


@pytest.fixture(scope="module", autouse=True)
def few_patches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "PATCHES", 3000)
        yield


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return fitted(*CASES[request.param])


@pytest.fixture(scope="module")
def plain():
    return fitted({}, (24, 32, 3))


def test_the_contributions_add_up_to_the_logarithm_of_the_ratio_of_the_probabilities(case):
    classifier, X = case
    for frame in X[:3]:
        found = explained(classifier, frame)
        explanation, bound = found["explanation"], rounding(classifier, frame, found)
        assert abs(explanation.baseline + explanation.map.sum() - explanation.evidence) <= bound
        assert abs(explanation.map.sum() - sum(own.sum() for own in explanation.cells)) <= bound
        by_class = dict(zip(classifier.classes_, classifier.predict_proba(frame[None])[0], strict=True))
        assert explanation.label == max(by_class, key=by_class.get) == classifier.predict(frame[None])[0]
        if by_class[explanation.against] > 0:
            ratio = by_class[explanation.label] / by_class[explanation.against]
            assert explanation.evidence == pytest.approx(np.log(ratio), rel=1e-9, abs=1e-9)
            assert by_class[explanation.against] == sorted(by_class.values())[-2]


def test_the_bound_of_rounding_is_far_below_the_evidence(plain):
    classifier, X = plain
    found = explained(classifier, X[0])
    assert rounding(classifier, X[0], found) < found["explanation"].evidence / 100


def test_the_contribution_of_a_cell_is_that_of_its_features(case):
    """Contributions of features to a linear function, here from the features that predictions use."""
    classifier, X = case
    found = explained(classifier, X[0])
    values = classifier.features_.transform(X[:1])[0] * feature_weights(classifier, found)
    start, cells = 0, []
    for network in classifier.features_.networks_:
        size = network.output_shape[0]
        cells.append(values[start : start + size].reshape(*classifier.features_.grid, -1).sum(axis=2))
        start += size
    bound = rounding(classifier, X[0], found)
    np.testing.assert_allclose(found["explanation"].cells, cells, rtol=0, atol=bound)


def covered(layer, row, column):
    """Return the pixels of the input that one output of a layer reads."""
    step = getattr(layer, "strides", None) or layer.factor
    height, width = getattr(layer, "kernel_size", None) or step
    return [(row * step[0] + i, column * step[1] + j) for i in range(height) for j in range(width)]


def slow_map(classifier, frame, weights):
    """Return the map of one frame by loops over scales, cells, positions and filters, as the docstring defines it."""
    features = classifier.features_
    rows, columns = features.grid
    found, start = np.zeros(frame.shape[:2]), 0
    flips = [False, True] if features.averages_flips_ else [False]
    for backbone in features.backbones_:
        size = rows * columns * backbone.output_shape[2]
        own = (weights / features.scale_)[start : start + size].reshape(rows, columns, -1) / len(flips)
        mean = features.mean_[start : start + size].reshape(rows, columns, -1)
        start += size
        for flip in flips:
            x = (frame[:, ::-1] if flip else frame)[None].astype(np.float32)
            for layer in backbone.layers[:-1]:
                x = layer(x)
            r, fine = x[0].astype(np.float64), (6 // rows, 4 // columns)
            for cell in np.ndindex(rows, columns):
                share = np.zeros(r.shape[:2])
                for i, j in np.ndindex(fine):
                    top, left = cell[0] * fine[0] + i, cell[1] * fine[1] + j
                    inside = np.zeros(r.shape[:2])
                    inside[
                        top * len(r) // 6 : -(-(top + 1) * len(r) // 6),
                        left * r.shape[1] // 4 : -(-(left + 1) * r.shape[1] // 4),
                    ] = 1
                    share += inside / inside.sum() / (fine[0] * fine[1])
                root = np.sqrt((share[:, :, None] * r).sum(axis=(0, 1)))
                for y, z in zip(*share.nonzero(), strict=True):
                    value = sum(
                        own[cell][k] * share[y, z] * ((r[y, z, k] / root[k] if root[k] else 0) - mean[cell][k])
                        for k in range(r.shape[2])
                    )
                    spread(found, backbone.layers[1:-1], y, z, value, flip)
    return found


def spread(found, layers, row, column, value, flip):
    """Add a value to the pixels of a position, in equal shares through every layer."""
    if not layers:
        found[row, -1 - column if flip else column] += value
        return
    pixels = covered(layers[-1], row, column)
    for y, x in pixels:
        spread(found, layers[:-1], y, x, value / len(pixels), flip)


@pytest.mark.parametrize("name", ["small frames, averaged over flips", "two scales", "depth 2"])
def test_the_map_equals_a_slow_obvious_computation(name):
    parameters, shape = CASES[name]
    shape = {"two scales": (97, 98, 1), "depth 2": (20, 24, 1)}.get(name, shape)
    classifier, X = fitted(parameters | {"n_filters": 4, "grid": (2, 1)}, shape)
    found = explained(classifier, X[0])
    slow = slow_map(classifier, X[0], feature_weights(classifier, found))
    scale = np.abs(slow).max()
    np.testing.assert_allclose(found["explanation"].map, slow, rtol=0, atol=1e-5 * scale)


def test_the_place_that_differs_is_marked():
    rng = np.random.default_rng(0)
    frames = np.full((40, 48, 64, 3), 128, np.uint8)
    frames[:20, 8:24, 40:60] = rng.integers(0, 256, (20, 16, 20, 3))
    frames[20:, 28:44, 4:24] = rng.integers(0, 256, (20, 1, 20, 3))
    classifier = FrameClassifier(grid=(2, 2), n_filters=20, random_state=0).fit(frames, ["noise"] * 20 + ["lines"] * 20)
    found = explain(classifier, frames[0])
    assert (found.label, found.against) == ("noise", "lines")
    assert found.map[8:24, 40:60].sum() > found.map.sum() / 4
    assert found.map[8:24, 40:60].mean() > 5 * found.map[:24, :30].mean()


def test_against_chooses_the_class_to_compare_with(plain):
    classifier, X = plain
    label = classifier.predict(X[:1])[0]
    others = [name for name in classifier.classes_ if name != label]
    found = [explain(classifier, X[0], against=name) for name in others]
    assert [explanation.against for explanation in found] == others
    assert (found[0].map != found[1].map).any()
    assert explain(classifier, X[0]).evidence == min(explanation.evidence for explanation in found)


def test_a_flat_row_and_any_number_of_threads_give_the_same_bits(plain):
    classifier, X = plain
    with num_threads(1):
        one = explain(classifier, X[0])
    with num_threads(2):
        two = explain(classifier, X[0])
    np.testing.assert_array_equal(one.map, two.map)
    by_row = FrameClassifier((24, 32, 3), grid=(2, 2), n_filters=12, random_state=0)
    X, y, groups = textures(4, (24, 32, 3))
    flat = X.reshape(len(X), -1)
    np.testing.assert_array_equal(explain(by_row.fit(flat, y, groups), flat[0]).map, one.map)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_frame_without_patterns_is_explained(plain, value):
    found = explain(plain[0], np.full((24, 32, 3), value, np.uint8))
    assert np.isfinite(found.map).all()
    assert found.evidence == pytest.approx(found.baseline + found.map.sum(), rel=1e-3)


@pytest.mark.parametrize("names", [[0, 1, 2], np.array(["a", "b", "c"], object), [0.0, 1.0, 2.0]])
def test_labels_are_those_of_fit(names):
    X, y, _ = textures(4, (24, 32, 3))
    y = np.asarray(names)[np.unique(y, return_inverse=True)[1]]
    found = explain(FrameClassifier(n_filters=4, random_state=0).fit(X, y), X[0])
    assert {found.label, found.against} < set(np.asarray(names).tolist())


def test_a_frame_of_one_pixel_is_explained():
    X = np.arange(24, dtype=np.uint8).reshape(24, 1, 1, 1)
    classifier = FrameClassifier(n_filters=3, random_state=0).fit(X, ["a", "b"] * 12)
    assert explain(classifier, X[0]).map.shape == (1, 1)


def test_a_class_that_cannot_be_compared_with_is_refused(plain):
    classifier, X = plain
    label = str(classifier.predict(X[:1])[0])
    for against in (label, "no such class"):
        with pytest.raises(SettingError, match=f"expected against as another class than.*{label}.*got '{against}'"):
            explain(classifier, X[0], against=against)


def test_features_without_places_are_refused(plain):
    X, y, _ = textures(4, (24, 32, 3))
    vectors = FrameClassifier(random_state=0).fit(X.reshape(len(X), -1)[:, :50], y)
    with pytest.raises(SettingError, match="got FrameFeatures without places; feature vectors"):
        explain(vectors, X[0].ravel()[:50])
    trained = FrameClassifier(features="trained", random_state=0).fit(X, y)
    with pytest.raises(SettingError, match="have no exact contributions of places"):
        explain(trained, X[0])
    for classifier in (vectors, trained):
        with pytest.raises(
            SettingError, match="filter_contributions: expected a FrameClassifier fitted on frames with"
        ):
            filter_contributions(classifier, X, y)


def test_frames_that_do_not_fit_are_refused(plain):
    with pytest.raises(ShapeError, match=r"expected one frame of shape \(24, 32, 3\), got shape \(5, 24, 32, 3\)"):
        explain(plain[0], np.zeros((5, 24, 32, 3), np.uint8))
    X, y, _ = textures(4, (24, 32, 3))
    floats = FrameClassifier(n_filters=4, random_state=0).fit(X / 255, y)
    with pytest.raises(ValueError, match="expected finite float32 frames"):
        explain(floats, np.full((24, 32, 3), np.nan))
    with pytest.raises(FormatError, match="expected finite"):
        explain(floats, np.full((24, 32, 3), 3e38) * np.random.default_rng(0).choice([-1, 1], (24, 32, 3)))


@pytest.mark.parametrize("name", ["two scales", "depth 2", "fine grid, grey"])
def test_the_contributions_of_filters_add_up_to_the_mean_score_of_a_class(name):
    """The sum over filters is the score that the head computes, less that of the mean training frame."""
    classifier, X = fitted(*CASES[name])
    labels = classifier.predict(X[:10])
    found = filter_contributions(classifier, X[:10], labels)
    features, head = classifier.features_.transform(X[:10]).astype(float), classifier.head_
    assert [part.shape[1] for part in found] == [part.layers[-2].filters for part in classifier.features_.backbones_]
    for code, label in enumerate(classifier.classes_):
        rows = labels == label
        expected = (features[rows] @ head.weights_.astype(float)[:, code]).mean() if rows.any() else 0
        assert sum(part[code].sum() for part in found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_contribution_of_one_filter_is_that_of_its_features_in_all_cells():
    classifier, X = fitted({"n_filters": 6}, (24, 32, 3))
    (found,) = filter_contributions(classifier, X[:1], classifier.predict(X[:1]))
    code = classifier.classes_.tolist().index(classifier.predict(X[:1])[0])
    values = classifier.features_.transform(X[:1])[0].astype(float) * classifier.head_.weights_[:, code]
    for number in range(6):
        mine = [values[cell * 12 + threshold * 6 + number] for cell in range(4) for threshold in range(2)]
        assert found[code, number] == pytest.approx(sum(mine), rel=1e-9)
    assert not np.delete(found, code, axis=0).any()


def test_filters_without_weights_of_classes_are_refused(plain):
    classifier, X = fitted({"projection": None, "grid": (1, 1)}, (24, 32, 3))
    with pytest.raises(SettingError, match="expected projection='discriminant', got None"):
        filter_contributions(classifier, X, classifier.predict(X))


def test_greying_what_speaks_for_a_class_lowers_its_evidence_and_what_speaks_against_it_raises_it():
    """The division of a cell's contribution among its pixels is a rule; here the frame itself is changed."""
    X, y, groups = textures(6, (48, 64, 3))
    classifier = FrameClassifier(n_filters=40, grid=(1, 1), random_state=0).fit(X, y, groups)
    changes = []
    for frame in X:
        found = explain(classifier, frame)
        blocks = found.map.reshape(6, 8, 8, 8).sum(axis=(1, 3)).ravel()
        order, greyed = np.argsort(blocks), []
        for chosen in (order[-10:], order[:10]):
            mask = np.kron(np.isin(np.arange(48), chosen).reshape(6, 8), np.ones((8, 8), bool)).astype(bool)
            greyed.append(np.where(mask[..., None], np.uint8(128), frame))
        codes = [classifier.classes_.tolist().index(name) for name in (found.label, found.against)]
        squares = classifier.transform(np.stack(greyed)) ** 2 / classifier.head_.temperature_
        label, against = (squares[:, classifier.head_.cluster_labels_ == code].min(axis=1) for code in codes)
        changes.append(against - label - found.evidence)
    lowered, raised = np.mean(changes, axis=0)
    assert lowered < raised
    assert lowered < 0


def test_the_method_of_a_classifier_explains_as_the_function_does(plain):
    classifier, frames = plain
    other = next(name for name in ("across", "blobs", "down") if name != classifier.predict(frames[:1])[0])
    own, found = classifier.explain(frames[0], against=other), explain(classifier, frames[0], against=other)
    assert (own.label, own.against, own.evidence) == (found.label, other, found.evidence)
    assert (own.map == found.map).all()
