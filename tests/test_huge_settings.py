"""Settings too large for any machine are refused by framecnn itself, before memory is allocated."""

import dataclasses
import warnings

import numpy as np
import pytest

from framecnn import (
    FrameClassifier,
    InputLayer,
    KMeansClassifier,
    Layer,
    ParallelLayer,
    Sequential,
    ShapeError,
    load,
    save,
)
from framecnn.errors import FormatError, SettingError
from framecnn.estimators import FrameFeatures, TrainedFeatures
from framecnn.layers import base

HUGE = (2**15, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**30)
OURS = [kind for kind in Layer.registry.values() if kind.__module__.startswith("framecnn.layers.")]


def variants(kind, case):
    """Settings of a layer, with one of them huge."""
    own = {field.name: field.default for field in dataclasses.fields(kind)} | dict(case.settings)
    for name, value in own.items():
        for huge in HUGE:
            if isinstance(value, bool) or name == "branches":
                continue
            if isinstance(value, int | tuple) and np.ravel(value).dtype.kind == "i":
                yield from (dict(case.settings) | {name: new} for new in (huge, (huge, 1), (1, huge)))
            elif isinstance(value, float):
                yield dict(case.settings) | {name: huge}
            elif name == "padding":
                borders = ((0, huge), (0, 0)), ((huge, 0), (huge, huge))
                yield from (dict(case.settings) | {name: border} for border in borders)


def run(make, shape):
    """Whether a layer could be made and run; any error but SettingError and ShapeError fails the test."""
    refusal = ""
    try:
        layer = make().build(shape)
        if np.prod(shape) < 1e6:
            layer(np.zeros((1, *shape), np.float32))
    except (SettingError, ShapeError) as error:
        refusal = str(error)
    assert not refusal or refusal.startswith(("InputLayer: ", *(f"{name}: " for name in names_of(make.args[0]))))
    return not refusal


def names_of(kind):
    """The names that an error of a layer, or of a kind of layer, may begin with."""
    if kind is ParallelLayer:
        return [kind.__name__ for kind in OURS]
    return type(kind).__name__, getattr(kind, "__name__", type(kind).__name__)


class Making:
    """Makes a layer, and says of which class."""

    def __init__(self, kind, settings):
        self.args, self.settings = (kind,), settings

    def __call__(self):
        return self.args[0](**self.settings)


@pytest.fixture
def smaller_limit(monkeypatch):
    """A limit that keeps what is allowed small enough for a test."""
    monkeypatch.setattr(base, "LARGEST", 2**21)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_a_huge_setting_of_a_layer_is_refused_or_harmless(kind, smaller_limit):
    for case in kind.cases:
        for settings in variants(kind, case):
            run(Making(kind, settings), case.input_shape)
    for case in kind.cases:
        for axis in range(len(case.input_shape)):
            for huge in HUGE:
                shape = (*case.input_shape[:axis], huge, *case.input_shape[axis + 1 :])
                settings = dict(case.settings) | ({"shape": shape} if kind is InputLayer else {})
                assert not run(Making(kind, settings), shape) or np.prod(shape, dtype=object) <= 2**21


@pytest.mark.parametrize("huge", HUGE[1:])
def test_the_message_says_what_is_too_large(huge):
    with pytest.raises(
        (SettingError, ShapeError),
        match=r"^ConvLayer: expected filters of at most 2,147,483,647, got|at most 1,073,741",
    ):
        Layer.registry["ConvLayer"](huge, kernel_size=3).build((8, 8, 3))
    with pytest.raises(ShapeError, match=r"^InputLayer: expected "):
        Sequential([InputLayer((huge, huge, 3))]).build()


def test_an_error_of_memory_names_the_parameters(monkeypatch):
    def draw(*arguments):
        raise MemoryError

    monkeypatch.setattr(base.initializers, "draw", draw)
    with pytest.raises(ShapeError, match=r"^DenseLayer: expected parameters that fit into memory, got kernel \(3, 2\)"):
        Layer.registry["DenseLayer"](2).build((3,))


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize("setting", ["n_filters", "depth", "grid", "frame_shape", "random_state"])
def test_a_huge_setting_of_an_estimator_is_refused_or_harmless(setting, huge):
    frames = np.random.default_rng(0).integers(0, 256, (4, 12, 14, 3), dtype=np.uint8)
    value = {"grid": (huge, huge), "frame_shape": (huge,) * 3}.get(setting, huge)
    harmless = huge <= {"random_state": 2**32 - 1, "n_filters": 60_000}.get(setting, 0)
    if harmless:
        return
    for estimator in (FrameFeatures(**{setting: value}), FrameClassifier(**{setting: value})):
        with pytest.raises(ValueError, match=r"^Frame(Features|Classifier): expected "):
            estimator.fit(frames, [0, 1, 0, 1])
    if setting == "random_state":
        for estimator in (KMeansClassifier(random_state=huge), TrainedFeatures(random_state=huge)):
            data = frames.reshape(4, -1) if isinstance(estimator, KMeansClassifier) else frames
            with pytest.raises(ValueError, match="expected random_state as None, a RandomState or an integer from 0"):
                estimator.fit(data, [0, 1, 0, 1])


def test_more_clusters_than_samples_are_fewer_clusters():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = KMeansClassifier(10**30, random_state=0).fit(np.eye(4), [0, 1, 0, 1])
    assert len(fitted.cluster_centers_) <= 4


@pytest.mark.parametrize("name", ["weights_", "cluster_centers_", "mean_"])
def test_a_forged_model_whose_answers_overflow_is_refused_when_it_answers(tmp_path, name):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (8, 12, 14, 3), dtype=np.uint8)
    classifier = FrameClassifier(n_filters=6, random_state=0, alpha=1.0).fit(x, [0, 1] * 4)
    forged = np.full_like(getattr(classifier.head_, name), 3e38)
    forged[::2] *= -1
    setattr(classifier.head_, name, forged)
    save(classifier, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    for answer in (again.predict, again.predict_proba, again.transform, again.reject):
        refusal, given = "", np.zeros(1)
        try:
            given = answer(x)
        except FormatError as error:
            refusal = str(error)
        expected = "KMeansClassifier: expected finite distances for finite input, got NaN"
        assert not refusal or refusal.startswith(expected)
        assert given.dtype.kind not in "f" or np.isfinite(given).all()


def test_a_classifier_whose_features_overflow_is_refused_when_it_predicts(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (8, 12, 14, 3), dtype=np.uint8)
    classifier = FrameClassifier(n_filters=6, random_state=0, alpha=1.0).fit(x, [0, 1] * 4)
    bank = classifier.features_.backbones_[0]
    bank.update({name: np.full_like(v, 3e38) for name, v in bank.parameters().items() if name.endswith("bias")})
    with pytest.raises(FormatError, match=r"^FrameFeatures: expected finite features for finite input, got NaN or inf"):
        classifier.predict(x)
