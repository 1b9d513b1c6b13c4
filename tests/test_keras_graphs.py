"""Keras models that branch, that contain others, and whose operations have several forms, become our networks."""

import keras_networks as kn
import numpy as np
import pytest

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FlatteningLayer,
    FormatError,
    InputLayer,
    PaddingLayer,
    ParallelLayer,
    PoolingLayer,
    ScalingLayer,
    Sequential,
)
from framecnn.interop.keras import copy_from_keras, copy_to_keras, from_keras, to_keras

keras, layers, ops = kn.keras, kn.keras.layers, kn.keras.ops
SHAPE = (8, 9, 4)


def built(function, shape=SHAPE):
    """Return a Keras model of a function of its symbolic input, with random weights and statistics."""
    x = keras.Input(shape)
    return kn.randomised(keras.Model(x, function(x)))


def read(function, shape=SHAPE):
    """Return our network of a function of symbolic Keras values, after a comparison of outputs."""
    net = built(function, shape)
    model, x = from_keras(net), np.random.default_rng(2).normal(size=(3, *shape)).astype(np.float32)
    expected = net(x, training=False).numpy()
    assert np.abs(model.predict(x) - expected).max() < 1e-5 * np.abs(expected).max()
    return model


def squeezed(x):
    y = layers.Dense(2, activation="silu")(layers.GlobalAveragePooling2D()(x))
    y = layers.Dropout(0.5)(layers.BatchNormalization()(y))
    y = layers.Dense(x.shape[-1], activation="sigmoid", use_bias=False)(y)
    return layers.Multiply()([x, layers.Reshape((1, 1, x.shape[-1]))(y)])


BLOCKS = {
    "residual": lambda x: layers.Add()([x, layers.Conv2D(4, 3, padding="same", activation="relu")(x)]),
    "residual by +": lambda x: layers.Conv2D(4, 3, padding="same")(x) + layers.Conv2D(4, 1)(x),
    "inception": lambda x: layers.Concatenate()(
        [layers.Conv2D(3, 1)(x), layers.MaxPooling2D(3, 1, "same")(x), layers.AveragePooling2D(3, 1, "same")(x), x]
    ),
    "concatenated by its axis": lambda x: ops.concatenate([x, layers.Conv2D(3, 1)(x)], axis=3),
    "squeezed and excited by dense layers": squeezed,
    "squeezed and excited by convolutions": lambda x: (
        x * layers.Conv2D(4, 1, activation="hard_sigmoid")(layers.GlobalMaxPooling2D(keepdims=True)(x))
    ),
    "average": lambda x: layers.Average()([x, layers.Conv2D(4, 1)(x), layers.Conv2D(4, 1)(x)]),
    "difference": lambda x: layers.Subtract()([x, layers.Conv2D(4, 1)(x)]),
    "difference by -": lambda x: layers.Conv2D(4, 1)(x) - x,
    "shared beginning": lambda x: (lambda y: layers.Add()([layers.ReLU()(y), x, layers.Softmax()(y)]))(
        layers.Conv2D(4, 1)(x)
    ),
    "rows": lambda x: layers.Concatenate()([layers.Dense(3)(layers.Flatten()(x)), layers.GlobalMaxPooling2D()(x)]),
    "doubled": lambda x: layers.Add()([x, x]),
    "merges of one value": lambda x: layers.Concatenate()([layers.Add()([layers.Conv2D(2, 1)(x)])]),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_blocks_are_read_and_written(block):
    model = read(block)
    again = from_keras(to_keras(model))
    x = np.random.default_rng(3).normal(size=(2, *SHAPE)).astype(np.float32)
    assert np.abs(again.predict(x) - model.predict(x)).max() < 1e-5 * np.abs(model.predict(x)).max()


def nested():
    """Return a network of ours with every merge, two levels deep."""
    gate = (PoolingLayer(1, mode="adaptive_average"), ConvLayer(6, kernel_size=1), ActivationLayer("sigmoid"))
    depthwise = ConvLayer(6, kernel_size=3, padding="same", groups=6)
    inner = ParallelLayer(((), (depthwise, BatchNormLayer(momentum=0.875), ActivationLayer("relu6"))))
    strided = ConvLayer(6, kernel_size=3, strides=2, padding=((0, 1), (0, 1)), use_bias=False)
    stem = (strided, BatchNormLayer(momentum=0.875), ActivationLayer("hard_swish"))
    block = ParallelLayer(((inner, ParallelLayer(((), gate), merge="multiply")), (ConvLayer(6, kernel_size=1),)))
    joined = ParallelLayer(((PoolingLayer(3, strides=1, padding="same"),), (ScalingLayer(),)), merge="concatenate")
    head = (PoolingLayer(1, mode="adaptive_average"), FlatteningLayer(), DenseLayer(4))
    return Sequential([InputLayer((12, 14, 3)), *stem, block, ActivationLayer("relu"), joined, *head])


def test_a_network_converted_to_keras_and_back_has_the_same_layers_names_and_weights(tmp_path):
    model = nested().build(3)
    net = kn.randomised(to_keras(model))
    assert not isinstance(net, keras.Sequential)
    assert "parallel_1.branch_1.parallel_1.branch_2.conv_1" in {layer.name for layer in net.layers}
    back = from_keras(net)
    assert back.layers == model.layers
    copy_from_keras(net, model)
    assert all((back.state_dict()[name] == value).all() for name, value in model.state_dict().items())
    other = to_keras(nested().build(4))
    net.save(tmp_path / "network.keras")
    assert from_keras(keras.models.load_model(tmp_path / "network.keras")).layers == model.layers
    copy_to_keras(model, other)
    x = np.random.default_rng(2).normal(size=(3, 12, 14, 3))
    assert (other(x, training=False).numpy() == net(x, training=False).numpy()).all()
    np.testing.assert_allclose(net.predict(x, verbose=0), model.predict(x), rtol=1e-4, atol=1e-5)  # not eagerly


def test_weights_of_somebody_elses_model_are_copied_to_the_network_read_from_it():
    def function(x):
        return layers.Add()([layers.DepthwiseConv2D(3, depth_multiplier=1, padding="same")(x), layers.Conv2D(4, 1)(x)])

    net = built(function)
    model = from_keras(net)
    kn.randomised(net, seed=9)
    copy_from_keras(net, model)
    assert all((from_keras(net).state_dict()[name] == value).all() for name, value in model.state_dict().items())


@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_depthwise_convolution_keeps_the_order_of_its_channels(multiplier, strides, padding):
    model = read(
        lambda x: layers.DepthwiseConv2D((3, 2), strides, padding, depth_multiplier=multiplier, activation="relu")(x)
    )
    assert (model.layers[1].groups, model.layers[1].filters) == (4, 4 * multiplier)
    layer = to_keras(model).layers[0]
    assert (type(layer).__name__, layer.depth_multiplier) == ("DepthwiseConv2D", multiplier)
    x = np.random.default_rng(2).normal(size=(3, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(to_keras(model)(x).numpy(), model.predict(x), rtol=1e-5, atol=1e-5)


def test_a_depthwise_convolution_with_unequal_strides_is_written_as_a_grouped_one():
    layer = ConvLayer(8, kernel_size=3, strides=(1, 2), groups=4)
    model = Sequential([InputLayer(SHAPE), layer]).build(1)
    x = np.random.default_rng(2).normal(size=(3, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(to_keras(model)(x).numpy(), model.predict(x), rtol=1e-5, atol=1e-5)


SAME = {
    "separable convolution": (
        lambda x: layers.SeparableConv2D(5, 3, 2, "same", depth_multiplier=2, activation="elu")(x),
        [
            ConvLayer(8, kernel_size=3, strides=2, padding="same", groups=4, use_bias=False),
            *(ConvLayer(5, kernel_size=1), ActivationLayer("elu")),
        ],
    ),
    "padding before a convolution": (
        lambda x: layers.DepthwiseConv2D(3)(layers.ZeroPadding2D(((0, 1), (2, 0)))(x)),
        [ConvLayer(4, kernel_size=3, groups=4, padding=((0, 1), (2, 0)))],
    ),
    "padding before a maximum of values that are not negative": (
        lambda x: layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(layers.ReLU()(x))),
        [ActivationLayer("relu"), PoolingLayer(3, strides=2, padding=((1, 1), (1, 1)))],
    ),
    "padding before a maximum": (
        lambda x: layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x)),
        [PaddingLayer(((1, 1), (1, 1))), PoolingLayer(3, strides=2)],
    ),
    "wide padding before a maximum": (
        lambda x: layers.MaxPooling2D(2)(layers.ZeroPadding2D(2)(layers.ReLU()(x))),
        [ActivationLayer("relu"), PaddingLayer(((2, 2), (2, 2))), PoolingLayer(2)],
    ),
    "padding before a mean": (
        lambda x: layers.AveragePooling2D(3, 2)(layers.ZeroPadding2D(1)(layers.ReLU()(x))),
        [ActivationLayer("relu"), PaddingLayer(((1, 1), (1, 1))), PoolingLayer(3, strides=2, mode="average")],
    ),
    "padding twice": (
        lambda x: layers.Conv2D(2, 3)(layers.ZeroPadding2D(1)(layers.ZeroPadding2D(2)(x))),
        [PaddingLayer(((2, 2), (2, 2))), ConvLayer(2, kernel_size=3, padding=((1, 1), (1, 1)))],
    ),
    "padding alone": (lambda x: layers.ZeroPadding2D(1)(x), [PaddingLayer(((1, 1), (1, 1)))]),
    "scaled in the middle": (lambda x: 2 * layers.ReLU()(x) + 1, [ActivationLayer("relu"), ScalingLayer()]),
    "scaled by channel": (lambda x: layers.Rescaling([1, 2, 3, 4], offset=-1)(x), [ScalingLayer()]),
    "scaled by weights": (lambda x: layers.EinsumDense("abcd,d->abcd", SHAPE)(x), [ScalingLayer()]),
    "scaled by weights, with an activation": (
        lambda x: layers.EinsumDense("abcd,d->abcd", SHAPE, bias_axes="d", activation="relu")(x),
        [ScalingLayer(), ActivationLayer("relu")],
    ),
    "normalised": (
        lambda x: layers.Normalization(mean=[1, 2, 3, 4], variance=[4, 3, 2, 0])(layers.Rescaling(0.5)(x)),
        [ScalingLayer()],
    ),
    "normalised and back": (
        lambda x: layers.Normalization(axis=None, mean=2, variance=3, invert=True)(layers.ReLU()(x)),
        [ActivationLayer("relu"), ScalingLayer()],
    ),
    "arithmetic": (
        lambda x: (3 - ops.negative(layers.ReLU()(x) - 0.5)) / np.float32([1, 2, 3, 4]),
        [ActivationLayer("relu"), ScalingLayer()],
    ),
    "multiplied by one": (
        lambda x: layers.Rescaling(0.5)(layers.Rescaling(2.0)(layers.ReLU()(x))),
        [ActivationLayer("relu")],
    ),
    "hard sigmoid": (lambda x: layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0), [ActivationLayer("hard_sigmoid")]),
    "hard sigmoid of operations": (lambda x: ops.relu6(x + 3.0) / 6.0, [ActivationLayer("hard_sigmoid")]),
    "hard swish": (
        lambda x: layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) * np.float32(1 / 6)]),
        [ActivationLayer("hard_swish")],
    ),
    "hard swish divided last": (lambda x: x * ops.relu6(x + 3.0) / 6, [ActivationLayer("hard_swish")]),
    "silu": (lambda x: ops.sigmoid(x) * x, [ActivationLayer("silu")]),
    "not a hard sigmoid": (
        lambda x: ops.relu6(x + 2.0) / 6,
        [ScalingLayer(), ActivationLayer("relu6"), ScalingLayer()],
    ),
    "not a hard swish": (
        lambda x: layers.Multiply()([x, ops.relu6(x + 3.0), x]) / 6,
        [ParallelLayer(((), (ScalingLayer(), ActivationLayer("relu6")), ()), merge="multiply"), ScalingLayer()],
    ),
    "a sum of relu6": (
        lambda x: (x + ops.relu6(x + 3.0)) / 6,
        [ParallelLayer(((), (ScalingLayer(), ActivationLayer("relu6")))), ScalingLayer()],
    ),
    "dense at every pixel": (
        lambda x: layers.Dense(3, "tanh")(x),
        [ConvLayer(3, kernel_size=1), ActivationLayer("tanh")],
    ),
    "mean by an operation": (
        lambda x: ops.mean(x, (1, 2)),
        [PoolingLayer(1, mode="adaptive_average"), FlatteningLayer()],
    ),
    "maximum by an operation": (
        lambda x: ops.max(x, (-3, -2), keepdims=True),
        [PoolingLayer(1, mode="adaptive_max")],
    ),
    "one pixel flattened by reshaping": (
        lambda x: ops.squeeze(layers.Conv2D(3, 1)(ops.mean(x, (1, 2), keepdims=True)), (1, 2)),
        [PoolingLayer(1, mode="adaptive_average"), ConvLayer(3, kernel_size=1), FlatteningLayer()],
    ),
    "flattened by reshaping": (lambda x: layers.Reshape((-1,))(x), [FlatteningLayer()]),
    "flattened twice": (lambda x: layers.Flatten()(layers.Flatten()(x)), [FlatteningLayer()]),
    "reshaped to its own shape": (lambda x: layers.Reshape(SHAPE)(layers.ReLU()(x)), [ActivationLayer("relu")]),
    "batch-norm without scale and shift": (
        lambda x: layers.BatchNormalization(scale=False, center=False)(x),
        [BatchNormLayer()],
    ),
    "dropout of branches, channels, and none": (
        lambda x: layers.Dropout(0.1)(
            layers.SpatialDropout2D(0.5)(layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(x))
        ),
        [DropoutLayer(0.1)],
    ),
    "augmented": (lambda x: layers.ReLU()(layers.GaussianNoise(1)(layers.RandomFlip()(x))), [ActivationLayer("relu")]),
    "the same activation twice": (
        lambda x: (lambda relu: relu(layers.Conv2D(4, 1)(relu(x))))(layers.ReLU()),
        [ActivationLayer("relu"), ConvLayer(4, kernel_size=1), ActivationLayer("relu")],
    ),
    "frozen": (lambda x: layers.BatchNormalization()(x, training=False), [BatchNormLayer()]),
    "activations given as layers": (
        lambda x: layers.Conv2D(2, 1, activation=layers.ReLU(6))(layers.Dense(2, activation=layers.LeakyReLU(0.1))(x)),
        [
            *(ConvLayer(2, kernel_size=1), ActivationLayer("leaky_relu", negative_slope=0.1)),
            *(ConvLayer(2, kernel_size=1), ActivationLayer("relu6")),
        ],
    ),
    "softmax by the number of its axis": (lambda x: layers.Softmax(axis=3)(x), [ActivationLayer("softmax")]),
}


@pytest.mark.parametrize(("function", "expected"), SAME.values(), ids=SAME)
def test_operations_become_these_layers_which_keras_gives_back(function, expected):
    model = read(function)
    assert list(model.layers[1:]) == expected
    assert from_keras(to_keras(model)).layers == model.layers


def test_one_number_at_the_input_becomes_its_scale():
    model = read(lambda x: layers.ReLU()(layers.Rescaling(4)(layers.Rescaling(0.5)(x))))
    assert list(model.layers) == [InputLayer(SHAPE, scale=2.0), ActivationLayer("relu")]
    assert read(lambda x: x).layers == (InputLayer(SHAPE),)


ACTIVATIONS = ("relu", "relu6", "sigmoid", "tanh", "softmax", "silu", "hard_sigmoid", "hard_silu", "elu", "softplus")


@pytest.mark.parametrize("name", [*ACTIVATIONS, "leaky_relu", "gelu"])
def test_an_activation_is_read_as_a_layer_and_as_an_operation(name):
    by_name, arguments = read(layers.Activation(name)), {"approximate": False} if name == "gelu" else {}
    assert by_name.layers == read(lambda x: getattr(ops, name)(x, **arguments)).layers
    assert len(by_name.layers) == 2


def test_models_inside_a_model_are_read_with_it():
    x = keras.Input((6, 7, 4))
    block = keras.Model(x, layers.Add()([x, layers.Conv2D(4, 3, padding="same", name="conv")(x)]), name="block")
    head = keras.Sequential([keras.Input((6, 7, 4)), layers.GlobalAveragePooling2D(), layers.Dense(3)], name="head")
    model = read(lambda x: head(block(layers.Conv2D(4, 3)(x), training=False)))
    residual = ParallelLayer(((), (ConvLayer(4, kernel_size=3, padding="same"),)))
    pooled = (PoolingLayer(1, mode="adaptive_average"), FlatteningLayer(), DenseLayer(3))
    assert model.layers[1:] == (ConvLayer(4, kernel_size=3), residual, *pooled)
    chain = keras.Sequential([keras.Input(SHAPE), keras.Sequential([layers.Conv2D(4, 3), layers.ReLU()]), block])
    assert from_keras(chain).layers[1:] == (ConvLayer(4, kernel_size=3), ActivationLayer("relu"), residual)


def test_a_model_for_frames_of_any_size_inside_one_for_frames_of_a_size_is_read():
    x = keras.Input((None, None, 4))
    gate = layers.Conv2D(4, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    y = layers.Reshape((-1, 4))(layers.Add()([x * gate * 2, layers.Conv2D(4, 1)(x)]))
    assert y.shape == (None, None, 4)
    flat = keras.Model(x, layers.Flatten()(layers.Add()([x * gate * 2, layers.Conv2D(4, 1)(x)])), name="any")
    read(lambda x: layers.Dense(3)(layers.Reshape((-1,))(flat(x))))
    with pytest.raises(FormatError, match=r"cannot take Reshape 'any/reshape.*': .* got \(72, 4\) from \(8, 9, 4\)"):
        from_keras(built(lambda value: keras.Model(x, y, name="any")(value)))


def shared_halfway(x):
    a, b = layers.ReLU(name="a")(x), layers.Softmax(name="b")(x)
    c = layers.Add(name="c")([a, b])
    return layers.Add(name="d")([c, layers.Conv2D(4, 1, name="e")(a)])


class Subclassed(keras.Model):
    """A model that computes by code."""

    def call(self, x):
        return x


REFUSED = {
    "expected blocks in series and in parallel, got 'a', which goes to 'e', 'c', whose branches do not": shared_halfway,
    "cannot take Maximum 'm': of operations on several values framecnn has sums, products and concaten": lambda x: (
        layers.Maximum(name="m")([x, layers.ReLU()(x)])
    ),
    "cannot take Concatenate 'c': expected values that are joined along the channels, got axis=1": lambda x: (
        layers.Concatenate(axis=1, name="c")([x, layers.ReLU()(x)])
    ),
    "cannot take Add 'a': expected values of one shape, or in a product one value per channel beside maps, got (8,": (
        lambda x: layers.Add(name="a")([x, layers.GlobalMaxPooling2D(keepdims=True)(x)])
    ),
    "cannot take Multiply 'm': expected values of one shape, or in a product one value per channel beside maps, ": (
        lambda x: layers.Multiply(name="m")([x, layers.Conv2D(1, 1)(x)])
    ),
    "cannot take ops.Cos 'cos": lambda x: ops.cos(x),
    "cannot take ops.GetItem 'get_item": lambda x: x[:, 2:],
    "cannot take ops.TrueDivide 'true_divide": lambda x: 2 / layers.ReLU()(x),
    "cannot take ops.TrueDivide 'true_divid": lambda x: x / layers.Softmax()(x),
    "cannot take ops.Add 'add": lambda x: ops.add(x, np.ones((8, 9, 1), np.float32)),
    "cannot take ops.Mul": lambda x: layers.GlobalMaxPooling2D()(x) * np.ones((1, 1, 1, 4), np.float32),
    "cannot take Add 'a': expected values that depend on the input, got a constant ": lambda x: layers.Add(name="a")(
        [x, ops.ones((1, *SHAPE))]
    ),
    "cannot take ops.Concatenate 'concatenate": lambda x: ops.concatenate([x, ops.ones((1, *SHAPE))]),
    "cannot take ops.Max 'max": lambda x: ops.max(x, (1, 2), initial=2.0),
    "cannot take EinsumDense 'e': expected a multiplication of every channel by a weight, got equation='nabc,cd->n": (
        lambda x: layers.EinsumDense("nabc,cd->nabd", (8, 9, 5), name="e")(x)
    ),
    "cannot take EinsumDense 'e': expected a multiplication of every channel by a weight, got equation='nabc,c->na": (
        lambda x: layers.EinsumDense("nabc,c->nabc", (8, 9, 4), bias_axes="ac", name="e")(x)
    ),
    "cannot take ops.Mean 'mean": lambda x: ops.mean(x, 1),
    "cannot take ops.Gelu 'gelu": lambda x: ops.gelu(x, approximate=True),
    "cannot take ops.Split 'split": lambda x: ops.split(x, 2, axis=-1)[0],
    "cannot take Subclassed 's': expected a functional or sequential model of one input": lambda x: Subclassed(
        name="s"
    )(x),
    "cannot take Reshape 'r': expected rows as output, or maps of one pixel that were flattened before": lambda x: (
        layers.Reshape((1, 1, 288), name="r")(layers.Flatten()(x))
    ),
}


@pytest.mark.parametrize(("message", "function"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_expressed_is_named(message, function):
    with pytest.raises(FormatError) as error:
        from_keras(built(function))
    assert str(error.value).startswith(f"from_keras: {message}")


def test_rows_that_were_never_maps_cannot_be_reshaped_to_maps():
    with pytest.raises(FormatError, match=r"cannot take Reshape 'r': .* got \(1, 1, 4\) from \(4,\)"):
        from_keras(built(lambda x: layers.Reshape((1, 1, 4), name="r")(layers.Dense(4)(x)), (4,)))


def test_a_value_of_another_input_is_named():
    x, other = keras.Input(SHAPE), keras.Input(SHAPE, name="other")
    inner = keras.Model([x, other], layers.Add()([x, other]), name="inner")
    with pytest.raises(FormatError, match="cannot take Functional 'inner': expected a functional or sequential model"):
        from_keras(built(lambda x: inner([x, layers.ReLU()(x)])))
