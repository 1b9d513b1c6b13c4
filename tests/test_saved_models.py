"""Every model has save and load; a file of another class is named; a user's subclass is saved as framecnn's class."""

import numpy as np
import pytest
from commands import write_frames
from textures import textures

import framecnn
from framecnn import (
    DenseLayer,
    FormatError,
    FrameClassifier,
    FrameFeatures,
    InputLayer,
    KMeansClassifier,
    Sequential,
)
from framecnn.estimators.trained_features import TrainedFeatures
from framecnn.evaluation import EvaluationResult
from framecnn.training.history import History

FRAMES, LABELS, GROUPS = textures(4, (16, 20, 3))
VECTORS = FRAMES.reshape(len(FRAMES), -1)[:, ::40].astype(float)


class OwnNetwork(Sequential):
    """A network of a user."""


class OwnClassifier(FrameClassifier):
    """A classifier of a user."""


def network(kind=Sequential):
    return kind([InputLayer((2,)), DenseLayer(3)]).build()


MODELS = {
    Sequential: (network, np.ones((4, 2)), "predict"),
    FrameClassifier: (
        lambda: FrameClassifier(n_filters=4, random_state=0).fit(FRAMES, LABELS, GROUPS),
        FRAMES,
        "predict_proba",
    ),
    FrameFeatures: (lambda: FrameFeatures(n_filters=4, random_state=0).fit(FRAMES), FRAMES, "transform"),
    KMeansClassifier: (lambda: KMeansClassifier(random_state=0).fit(VECTORS, LABELS, GROUPS), VECTORS, "predict_proba"),
    TrainedFeatures: (lambda: TrainedFeatures(random_state=0, epochs=1).fit(FRAMES, LABELS), FRAMES, "transform"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the file of each model, and the model."""
    folder = tmp_path_factory.mktemp("models")
    found = {}
    for kind, (make, _, _) in MODELS.items():
        path, model = folder / f"{kind.__name__}.safetensors", make()
        model.save(path)
        found[kind] = path, model
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_comes_back_by_its_class_and_by_load(files, kind, tmp_path):
    path, model = files[kind]
    _, x, method = MODELS[kind]
    for load in (kind.load, framecnn.load):
        loaded = load(path)
        assert type(loaded) is kind
        np.testing.assert_array_equal(getattr(loaded, method)(x), getattr(model, method)(x))
    framecnn.save(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_of_another_class_is_named(files, kind):
    for other in MODELS.keys() - {kind}:
        path, _ = files[other]
        message = f"^{path.name}: expected a {kind.__name__}, got a {other.__name__}; load it with framecnn.load$"
        with pytest.raises(FormatError, match=message):
            kind.load(path)


def test_a_subclass_is_saved_as_its_base_class_and_loads_itself(files, tmp_path):
    network(OwnNetwork).save(tmp_path / "m.safetensors")
    assert type(framecnn.load(tmp_path / "m.safetensors")) is Sequential
    assert type(OwnNetwork.load(tmp_path / "m.safetensors")) is OwnNetwork
    path, model = files[FrameClassifier]
    own = OwnClassifier.load(path)
    assert type(own) is OwnClassifier
    assert own.predict(FRAMES).tolist() == model.predict(FRAMES).tolist()


def test_a_fitted_estimator_says_to_what_it_was_fitted(files):
    assert repr(FrameClassifier(n_filters=4)) == "FrameClassifier(n_filters=4)"
    assert repr(files[FrameClassifier][1]) == (
        "FrameClassifier(n_filters=4, random_state=0), fitted to frames of 16x20x3, 3 classes (across, blobs, down)"
    )
    assert repr(files[FrameFeatures][1]).endswith(", fitted to frames of 16x20x3")
    assert repr(files[KMeansClassifier][1]).endswith(", fitted to 24 features, 3 classes (across, blobs, down)")
    labels = np.repeat(np.arange(8), 3)
    assert repr(KMeansClassifier(random_state=0).fit(VECTORS, labels)).endswith("8 classes (0, 1, 2, 3, 4, ...)")


@pytest.mark.parametrize("name", framecnn.layers.__all__)
def test_the_repr_of_a_layer_builds_it_again_without_defaults(name):
    kind = getattr(framecnn.layers, name)
    for case in getattr(kind, "cases", ()):
        layer = kind(**case.settings)
        assert eval(repr(layer), vars(framecnn.layers)) == layer
        assert "glorot_uniform" not in repr(layer)


def test_other_objects_have_short_reprs():
    history = History()
    assert repr(history) == "History(0 epochs)"
    for val_loss in (0.75, 0.5, 0.625):
        history.append({"loss": 0.25, "val_loss": val_loss}, learning_rate=0.001, seconds=2)
    assert repr(history) == "History(3 epochs; epoch 2: loss 0.25, val_loss 0.5, learning_rate 0.001)"
    loader = framecnn.BatchLoader(np.zeros((5, 2)), np.zeros(5), batch_size=2)
    assert repr(loader) == "BatchLoader(5 frames in batches of 2, shuffle=False)"
    result = EvaluationResult("test", ("day", "night"), [0, 1], np.eye(2), ["a", "b"])
    assert repr(result) == "EvaluationResult('test': 2 frames of 2 groups and 2 classes)"


def test_a_part_of_a_folder_has_a_short_repr(tmp_path):
    part, *_ = framecnn.FrameFolder(write_frames(tmp_path / "films"), size=(24, 32)).split()
    assert repr(part) == f"FrameSubset('films': {len(part)} frames of 3 of 3 classes, {len(set(part.groups))} groups)"
