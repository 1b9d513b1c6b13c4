"""A new layer takes one file and one import: it is checked, drawn, saved, trained and exported like framecnn's own."""

import importlib
import sys

import numpy as np
import pytest
from hypothesis import find

from framecnn import DenseLayer, FlatteningLayer, InputLayer, Sequential, SettingError, load, save
from framecnn.layers import Layer
from framecnn.testing import check_layer, layers, models
from framecnn.testing.draws import draw_frames, draw_params, same_bits
from framecnn.training import Adam

SCALE = '''
"""A learned scale for every channel."""

from dataclasses import dataclass

from framecnn.interop.keras_layers import KERAS_CONVERTERS
from framecnn.interop.onnx_layout import flattened_order
from framecnn.interop.onnx_export_layers import ONNX_CONVERTERS
from framecnn.layers import Case, Layer, Param


@dataclass(frozen=True)
class ScaleLayer(Layer):
    """Multiply every channel by a learned number."""

    cases = (Case({}, (4, 5, 3)), Case({}, (6,)))

    def infer_shape(self, input_shape):
        return tuple(input_shape)

    def param_specs(self, input_shape):
        return {"scale": Param(input_shape[-1:], "ones")}

    def forward(self, x):
        return x * self.params["scale"]

    def vjp(self, x, rng=None):
        scale = self.params["scale"]
        return x * scale, lambda dy: (dy * scale, {"scale": (dy * x).reshape(-1, x.shape[-1]).sum(axis=0)})


@ONNX_CONVERTERS.register(ScaleLayer)
def in_onnx(graph, layer, value):
    scale = layer.params["scale"].astype("float32")
    if len(layer.input_shape) == 3:
        scale = scale[:, None, None]
    elif value.flattened:
        scale = scale[flattened_order(value.flattened)]
    return value._replace(name=graph.add("Mul", value.name, graph.constant(scale)))


@KERAS_CONVERTERS.register(ScaleLayer)
def in_keras(layer):
    axes = "abc"[: len(layer.input_shape) - 1]
    return [("EinsumDense", {"equation": f"n{axes}k,k->n{axes}k", "output_shape": layer.output_shape})]
'''

OTHER = '''
from dataclasses import dataclass

from framecnn.layers import Layer


@dataclass(frozen=True)
class {name}(Layer):
    """Nothing yet."""

    def infer_shape(self, input_shape):
        return tuple(input_shape)

    def forward(self, x):
        return x
'''


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry that forgets the test's own layers."""
    monkeypatch.setattr(Layer, "registry", dict(Layer.registry))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Imports a module of a temporary package from its source."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_layers").mkdir()
    (tmp_path / "own_layers" / "__init__.py").write_text("")

    def imported(name, source):
        (tmp_path / "own_layers" / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        return importlib.import_module(f"own_layers.{name}")

    yield imported
    for name in [name for name in sys.modules if name.startswith("own_layers")]:
        del sys.modules[name]


@pytest.fixture
def scale_layer(package):
    return package("scale", SCALE).ScaleLayer


def network(scale_layer):
    """A network with the layer on maps and on flattened rows, all parameters drawn."""
    model = Sequential([InputLayer((4, 5, 3)), scale_layer(), FlatteningLayer(), scale_layer(), DenseLayer(2)]).build(0)
    for layer in model.layers:
        draw_params(layer)
    return model


def frames():
    return draw_frames(InputLayer((4, 5, 3)).build((4, 5, 3)), 6)


def test_it_passes_the_checks(scale_layer):
    check_layer(scale_layer)


def test_it_is_drawn_by_the_strategies(scale_layer):
    assert isinstance(find(layers([scale_layer]), lambda layer: True), scale_layer)
    drawn = find(models([scale_layer, FlatteningLayer]), lambda model: "scale_2" in model.names)
    assert drawn.predict(np.ones((1, *drawn.input_shape))).shape == (1, *drawn.output_shape)


def test_it_is_saved_and_loaded(scale_layer, tmp_path):
    model = network(scale_layer)
    save(model, tmp_path / "model.safetensors")
    assert same_bits(load(tmp_path / "model.safetensors").predict(frames()), model.predict(frames()))


def test_it_is_trained(scale_layer):
    model = Sequential([InputLayer((4, 5, 3)), scale_layer(), FlatteningLayer(), DenseLayer(2)]).build(0)
    history = model.fit(frames() / 40, [0, 1] * 3, epochs=20, optimizer=Adam(0.05), progress=None)
    assert history.loss[-1] < history.loss[0] / 2
    assert (model.state_dict()["scale_1/scale"] != 1).all()


def test_it_is_exported_to_onnx(scale_layer):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from framecnn.interop.onnx_export import to_onnx

    model, x = network(scale_layer), frames()
    session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString())
    (given,) = session.run(None, {"x": x.transpose(0, 3, 1, 2)})
    bound = 64 * np.finfo(np.float32).eps * magnitude(model, x)  # 60 products, two scales each
    assert (np.abs(given - model.predict(x)) <= bound).all()


def test_it_goes_to_keras(scale_layer):
    pytest.importorskip("keras")
    from framecnn.interop.keras import to_keras

    model, x = network(scale_layer), frames()
    given = to_keras(model)(x, training=False).numpy()
    bound = 64 * np.finfo(np.float32).eps * magnitude(model, x)
    assert (np.abs(given - model.predict(x)) <= bound).all()


def magnitude(model, x):
    """The output for absolute values of frames and parameters: the sums of absolute products."""
    twin = Sequential([type(layer)(**own) for layer, own in zip(model.layers, settings(model), strict=True)])
    return twin.load_state_dict({name: np.abs(value) for name, value in model.state_dict().items()}).predict(np.abs(x))


def settings(model):
    return [{name: value for name, value in layer.config.items() if name != "layer"} for layer in model.layers]


def test_forgotten_cases_are_asked_for(package):
    kind = package("bare", OTHER.format(name="BareLayer")).BareLayer
    message = (
        r"^BareLayer: expected cases, the examples for tests, got none; add to the class: "
        r"cases = \(Case\(\{'setting': value\}, input_shape\),\)"
    )
    for use in (lambda: check_layer(kind), lambda: find(layers([kind]), lambda layer: True)):
        with pytest.raises(SettingError, match=message):
            use()


def test_a_name_that_another_layer_has_is_refused(package):
    message = (
        r"^Layer: expected a class name that no other layer has, got own_layers.second.DenseLayer beside "
        r"framecnn.layers.dense.DenseLayer; files name a layer by its class, so rename it$"
    )
    with pytest.raises(TypeError, match=message):
        package("second", OTHER.format(name="DenseLayer"))
    assert Layer.registry["DenseLayer"] is DenseLayer


def test_a_module_that_is_loaded_again_replaces_its_own_layer(scale_layer):
    module = importlib.reload(sys.modules["own_layers.scale"])
    assert module.ScaleLayer is not scale_layer
    assert Layer.registry["ScaleLayer"] is module.ScaleLayer
    check_layer(module.ScaleLayer(), (2, 3))
