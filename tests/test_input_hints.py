"""Frames in another layout, and frames that are not scaled, get a hint that says what to do."""

import warnings

import numpy as np
import pytest
from textures import textures

from framecnn import DenseLayer, FlatteningLayer, FrameClassifier, InputLayer, Sequential, ShapeError

FRAMES, LABELS, _ = textures(4, (16, 20, 3))
FIRST = FRAMES.transpose(0, 3, 1, 2)
TARGETS = np.arange(len(FRAMES)) % 2


def network(shape, scale=1.0):
    return Sequential([InputLayer(shape, scale=scale), FlatteningLayer(), DenseLayer(2)]).build()


def fit(model, x):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, TARGETS, epochs=1, progress=None)
    return [str(each.message) for each in caught]


def test_channels_first_frames_of_a_known_shape_get_a_hint():
    hint = r"got \(24, 3, 16, 20\); the channels come first in it, but last in framecnn: pass x.transpose\(0, 2, 3, 1\)"
    classifier = FrameClassifier(n_filters=4, random_state=0).fit(FRAMES, LABELS)
    for call in (network((16, 20, 3)).predict, classifier.predict, network((16, 20, 3)).vjp):
        with pytest.raises(ShapeError, match=hint):
            call(FIRST)


def test_other_shapes_get_no_hint():
    with pytest.raises(ShapeError, match=r"got \(24, 20, 16, 3\)$"):
        network((16, 20, 3)).predict(FRAMES.transpose(0, 2, 1, 3))


def test_a_classifier_is_not_fitted_to_channels_first_frames_by_mistake():
    with pytest.raises(
        ShapeError, match=r"got shape \(24, 3, 16, 20\), whose channels seem to come first; pass X.trans"
    ):
        FrameClassifier().fit(FIRST, LABELS)
    fitted = FrameClassifier(frame_shape=(3, 16, 20), n_filters=4, random_state=0).fit(FIRST, LABELS)
    assert fitted.predict(FIRST).shape == (24,)


def test_a_network_warns_of_frames_that_are_not_scaled():
    (message,) = fit(network((16, 20, 3)), FRAMES)
    assert message == (
        "Sequential.fit: frames of 0 to 255 are not scaled, so training may diverge; "
        "use InputLayer((16, 20, 3), scale=1 / 255)"
    )
    assert fit(network((16, 20, 3), scale=1 / 255), FRAMES) == []
    assert fit(network((16, 20, 3)), FRAMES / 255) == []


def test_a_network_built_for_channels_first_frames_warns():
    (message,) = fit(network((3, 16, 20)), FIRST / 255)
    assert message.startswith(
        "Sequential.fit: a frame of shape (3, 16, 20) is read as 3 rows of 16 pixels with 20 chan"
    )
    assert fit(network((60,)), np.zeros((24, 60), np.uint8)) == []
