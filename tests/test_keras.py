"""Networks converted to Keras and back compute the same."""

import subprocess
import sys

import numpy as np
import pytest

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FilterBankLayer,
    FlatteningLayer,
    FormatError,
    InputLayer,
    Layer,
    MissingExtraError,
    PaddingLayer,
    PoolingLayer,
    ResizingLayer,
    Sequential,
    ShapeError,
)
from framecnn.interop.keras import copy_from_keras, copy_to_keras, from_keras, load_keras, to_keras

keras = load_keras("the tests")
layers = keras.layers

UNSUPPORTED = [
    (ActivationLayer("sqrt"), (4,)),
    (ConvLayer(2, kernel_size=2, strides=2, dilation_rate=2), (9, 9, 1)),
    (DownsamplingLayer(2, mode="stride"), (4, 4, 1)),
    (FilterBankLayer(2, kernel_size=2), (4, 4, 1)),
    (PaddingLayer(((1, 1), (1, 1)), value=2.0), (6, 6, 1)),
    (PoolingLayer(3, padding=((1, 1), (1, 1))), (6, 6, 1)),
    (PoolingLayer(2, dilation_rate=2), (6, 6, 1)),
    (ResizingLayer(2), (6, 6, 1)),
]


def cases():
    """Yield every case of every layer that Keras has."""
    for kind in Layer.registry.values():
        for case in kind.cases:
            layer = kind(**case.settings)
            if not isinstance(layer, InputLayer) and not is_unsupported(layer):
                yield pytest.param(layer, case.input_shape, id=f"{kind.__name__} {dict(case.settings)}")


def is_unsupported(layer):
    match layer:
        case FilterBankLayer() | ResizingLayer() | ActivationLayer(function="sqrt") | DownsamplingLayer(mode="stride"):
            return True
        case PoolingLayer(mode="max" | "average"):
            return not isinstance(layer.padding, str) or layer.dilation_rate != (1, 1)
        case PaddingLayer():
            return layer.value != 0
        case ConvLayer():
            return max(layer.strides) > 1 and max(layer.dilation_rate) > 1
    return False


def drawn(steps, input_shape, dtype=np.float32, scale=1.0):
    """Return a built network with every parameter drawn, so that a lost or swapped one changes the output."""
    model = Sequential([InputLayer(input_shape, scale=scale), *steps]).build(0, dtype)
    rng = np.random.default_rng(1)
    return model.load_state_dict({name: rng.uniform(0.5, 1.5, v.shape) for name, v in model.state_dict().items()})


def batch(shape, dtype=np.float32):
    return np.random.default_rng(2).normal(size=(3, *shape)).astype(dtype)


def difference(a, b):
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.mark.parametrize(("layer", "shape"), list(cases()))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_computes_the_same_in_keras_and_back(layer, shape, dtype):
    model, x = drawn([layer], shape, dtype), batch(shape, dtype)
    net = to_keras(model)
    single = isinstance(layer, ActivationLayer) and layer.function in ("leaky_relu", "gelu")  # constants in float32
    bound = 1e-5 if dtype == np.float32 or single else 1e-13
    assert difference(net(x, training=False).numpy(), model.predict(x)) < bound
    back = from_keras(net)
    assert difference(back.predict(x), model.predict(x)) < bound
    assert back.layers[0].dtype == dtype


def test_a_network_converted_to_keras_and_back_has_the_same_layers_names_and_weights():
    model = drawn(
        [
            *(ConvLayer(4, kernel_size=3, padding=((0, 1), (2, 0)), kernel_initializer="he_uniform"), BatchNormLayer()),
            *(ActivationLayer("relu"), PoolingLayer(2), DropoutLayer(0.25), ConvLayer(6, kernel_size=3, strides=2)),
            *(ActivationLayer("leaky_relu", negative_slope=0.1), PoolingLayer(2, mode="adaptive_average")),
            *(FlatteningLayer(), DenseLayer(5, use_bias=False), ActivationLayer("softmax")),
        ],
        (16, 20, 3),
        scale=0.25,
    )
    net = to_keras(model)
    assert [layer.name for layer in net.layers if "border" not in layer.name] == list(model.names)
    back = from_keras(net)
    assert back.layers == model.layers
    assert back.names == model.names
    for name, value in model.state_dict().items():
        assert (back.state_dict()[name] == value).all()


def test_weights_are_copied_both_ways_between_networks_that_exist():
    one, other = (drawn([BatchNormLayer(), FlatteningLayer(), DenseLayer(3)], (2, 2, 2)) for _ in range(2))
    net = to_keras(one)
    other.build(7)
    copy_to_keras(other, net)
    x = batch((2, 2, 2))
    assert difference(net(x, training=False).numpy(), other.predict(x)) < 1e-6
    copy_from_keras(net, one)
    assert difference(one.predict(x), other.predict(x)) == 0


@pytest.mark.parametrize(("layer", "shape"), UNSUPPORTED)
def test_a_layer_that_keras_does_not_have_is_named(layer, shape):
    with pytest.raises(FormatError, match=r"^to_keras: expected layers that Keras has, got ") as error:
        to_keras(Sequential([InputLayer(shape), layer]).build())
    assert str(layer) in str(error.value)


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ShapeError, match="expected a built layer"):
        to_keras(Sequential([InputLayer((3,)), DenseLayer(2)]))


def net_of(*steps, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *steps])


KERAS_ONLY = {
    "conv and activation": lambda: net_of(layers.Conv2D(4, 3, activation="relu"), layers.Conv2D(2, 3, strides=2)),
    "leaky relu of a dense layer": lambda: net_of(layers.Flatten(), layers.Dense(3, activation="leaky_relu")),
    "global poolings": lambda: net_of(layers.GlobalMaxPooling2D(keepdims=True), layers.GlobalAveragePooling2D()),
    "relu and softmax": lambda: net_of(layers.ReLU(), layers.ReLU(negative_slope=0.4), layers.Softmax()),
    "an initialiser of its own": lambda: net_of(layers.Conv2D(2, 3, kernel_initializer="orthogonal")),
    "batch-norm by the number of its axis": lambda: net_of(layers.BatchNormalization(axis=3)),
    "rescaled": lambda: net_of(layers.Rescaling(0.5), layers.LeakyReLU()),
}


@pytest.mark.parametrize("make", KERAS_ONLY.values(), ids=KERAS_ONLY)
def test_a_network_written_in_keras_computes_the_same_here(make):
    net, x = make(), batch((8, 8, 3))
    assert difference(from_keras(net).predict(x), net(x, training=False).numpy()) < 1e-5


def test_a_functional_chain_is_converted_like_a_sequential_model():
    x = inputs = keras.Input((8, 8, 3))
    for layer in (layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten(), layers.Dense(2)):
        x = layer(x)
    net = keras.Model(inputs, x)
    assert difference(from_keras(net).predict(batch((8, 8, 3))), net(batch((8, 8, 3)), training=False).numpy()) < 1e-5


def twice_the_same():
    x, dense = keras.Input((3,)), layers.Dense(3, name="again")
    return keras.Model(x, dense(dense(x)))


def two_outputs():
    x = keras.Input((3,))
    y = layers.ReLU(name="inner")(x)
    return keras.Model(x, [y, layers.Softmax(name="outer")(y)], name="two")


def two_inputs():
    x, y = keras.Input((3,)), keras.Input((3,))
    return keras.Model([x, y], layers.Add()([x, y]))


def adapted():
    dense = layers.Dense(4, name="d")
    net = net_of(layers.Flatten(), dense)
    dense.enable_lora(2)
    return net


class Own(layers.Dense):
    """A layer of somebody."""


REFUSED = {
    "expected a built keras.Sequential or functional model, got Sequential": lambda: keras.Sequential(
        [layers.Dense(2)]
    ),
    "expected a built keras.Sequential or functional model, got Sequentia": lambda: Sequential([InputLayer((3,))]),
    "expected one input of a known shape, got [(None, None, 3)]": lambda: net_of(layers.ReLU(), shape=(None, None, 3)),
    "expected one input of a known shape, got [(3,), (3,)]": two_inputs,
    "cannot take Dense 'again': expected every layer with weights once, got it called more than once": twice_the_same,
    "expected one input and one output of model 'two', got 1 and 2; convert part of it": two_outputs,
    "expected layers of float32, or all of float64, got mixed_float16": lambda: net_of(
        layers.Conv2D(2, 3, dtype="mixed_float16")
    ),
    "expected layers of float32, or all of float64, got float32, float64": lambda: net_of(
        layers.ReLU(), layers.Conv2D(2, 3, dtype="float64")
    ),
    "cannot take Own 'mine': framecnn has no equivalent layer; remove it": lambda: net_of(
        layers.Flatten(), Own(2, name="mine")
    ),
    "cannot take LayerNormalization 'l': framecnn has no equivalent layer": lambda: net_of(
        layers.LayerNormalization(name="l")
    ),
    "cannot take BatchNormalization 'b': expected axis=-1, got 1; change the setting": lambda: net_of(
        layers.BatchNormalization(axis=1, name="b")
    ),
    "cannot take ReLU 'r': framecnn has no activation ReLU(max_value=5": lambda: net_of(layers.ReLU(5.0, name="r")),
    "cannot take ReLU 'r': framecnn has no activation ReLU(max_value=6.0, negative_slope=0.5": lambda: net_of(
        layers.ReLU(6.0, negative_slope=0.5, name="r")
    ),
    "cannot take Activation 'a': framecnn has no activation 'selu'; use another": lambda: net_of(
        layers.Activation("selu", name="a")
    ),
    "cannot take Softmax 's': framecnn has no activation Softmax(axis=1)": lambda: net_of(
        layers.Softmax(axis=1, name="s")
    ),
    "cannot take Rescaling 'r': expected one number, or one for each of 3 channels, got numbers of shape (8, 8, 3)": (
        lambda: net_of(layers.Rescaling(np.ones((8, 8, 3)), name="r"))
    ),
    "cannot take Flatten 'f': expected data_format='channels_last', got 'channels_first'": lambda: net_of(
        layers.Flatten(data_format="channels_first", name="f")
    ),
    "cannot take Reshape 'r': expected rows as output, or maps of one pixel that were flattened before, got (64, 3)": (
        lambda: net_of(layers.Reshape((64, 3), name="r"))
    ),
    "cannot take Dense 'd': expected lora_rank=None, got 2; change the setting": adapted,
    "cannot take Dense 'd': expected rows or maps, got values of shape (8, 3)": lambda: net_of(
        layers.Dense(2, name="d"), shape=(8, 3)
    ),
}


@pytest.mark.parametrize(("message", "make"), REFUSED.items(), ids=REFUSED)
def test_a_keras_layer_that_framecnn_does_not_have_is_named(message, make):
    with pytest.raises(FormatError) as error:
        from_keras(make())
    assert str(error.value).startswith(f"from_keras: {message}")


def test_without_keras_the_install_command_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'framecnn\[keras\]'"):
        load_keras("somebody")


def test_tensorflow_prints_nothing_and_gets_our_number_of_threads():
    script = (
        "from framecnn import set_num_threads, Sequential, InputLayer, DenseLayer\n"
        "set_num_threads(1)\n"
        "from framecnn.interop.keras import to_keras\n"
        "net = to_keras(Sequential([InputLayer((3,)), DenseLayer(2)]).build())\n"
        "import numpy, tensorflow as tf\n"
        "print(net(numpy.ones((1, 3))).numpy().shape, tf.config.threading.get_intra_op_parallelism_threads())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(1, 2) 1\n", "")
