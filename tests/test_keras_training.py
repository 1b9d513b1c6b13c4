"""Training here and in Keras: from the same weights, on the same batches, to the same numbers."""

import math

import numpy as np
import pytest
from textures import CLASSES, textures

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    InputLayer,
    ParallelLayer,
    PoolingLayer,
    ScalingLayer,
    Sequential,
)
from framecnn.data.augment import Augmentation
from framecnn.interop.keras import copy_from_keras, load_keras, to_keras
from framecnn.interop.keras_training import fit_keras, keras_device
from framecnn.networks.reference import reference_network
from framecnn.training.loop import fit, train_step
from framecnn.training.losses import softmax_cross_entropy
from framecnn.training.optimizers import SGD, Adam
from framecnn.training.schedules import CosineDecay

keras = load_keras("the tests")
AUGMENTATION = Augmentation(flip=True, shift=0.1, brightness=0.1)

# Keras on TensorFlow rounds momentum and the betas to float32, whatever the weights are; sums of powers of two survive.
SHARES = {"momentum": 0.875, "beta_1": 0.875, "beta_2": 1 - 2**-10}
OPTIMIZERS = {
    "momentum": (SGD, "SGD", {"learning_rate": 0.05, "momentum": SHARES["momentum"]}),
    "nesterov": (SGD, "SGD", {"learning_rate": 0.05, "momentum": SHARES["momentum"], "nesterov": True}),
    "adam": (Adam, "Adam", {"learning_rate": 0.003, "beta_1": SHARES["beta_1"], "beta_2": SHARES["beta_2"]}),
}


@pytest.fixture
def floatx():
    """Sets the dtype that Keras keeps learning rates and losses in."""
    before, policy = keras.config.floatx(), keras.config.dtype_policy()  # a policy of the time is kept, once asked for
    yield keras.config.set_floatx
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)


def every_kind(dtype):
    """A network with every kind of layer that learns or moves gradients, but dropout."""
    return Sequential(
        [
            *(InputLayer((12, 16, 3)), ConvLayer(6, kernel_size=3, padding="same", use_bias=False)),
            *(BatchNormLayer(momentum=0.875), ActivationLayer("relu"), PoolingLayer(2)),
            *(ConvLayer(8, kernel_size=3, strides=2, padding="same"), ActivationLayer("relu")),
            *(PoolingLayer(2, mode="average", strides=1), FlatteningLayer(), DenseLayer(10)),
            *(ActivationLayer("relu"), DenseLayer(4)),
        ]
    ).build(0, dtype)


def every_merge(dtype):
    """A network of branches that are added, multiplied and concatenated, with a depthwise convolution and a scaling."""
    norm = BatchNormLayer(momentum=0.875)
    expanded = (ConvLayer(12, kernel_size=1, use_bias=False), norm, ActivationLayer("relu6"))
    depthwise = (ConvLayer(24, kernel_size=3, padding="same", groups=12, use_bias=False), norm, ActivationLayer("silu"))
    pooled = (PoolingLayer(1, mode="adaptive_average"), ConvLayer(6, kernel_size=1), ActivationLayer("hard_swish"))
    gate = (*pooled, ConvLayer(24, kernel_size=1), ActivationLayer("sigmoid"))
    projected = (ConvLayer(6, kernel_size=1, use_bias=False), norm)
    excited = ParallelLayer(((), gate), merge="multiply")
    joined = ((PoolingLayer(3, strides=1, padding="same"), ScalingLayer()), (ConvLayer(3, kernel_size=1),), ())
    stem = (ConvLayer(6, kernel_size=3, strides=2, padding=((0, 1), (0, 1)), use_bias=False), norm)
    block = ParallelLayer(((*expanded, *depthwise, excited, *projected), ()))
    head = (PoolingLayer(1, mode="adaptive_average"), FlatteningLayer(), DenseLayer(4))
    body = (ActivationLayer("elu"), block, ParallelLayer(joined, merge="concatenate"), ActivationLayer("softplus"))
    return Sequential([InputLayer((12, 16, 3)), *stem, *body, *head]).build(0, dtype)


def both_trained(dtype, kind, name, settings, steps, network=every_kind):
    """Train both; give the losses of every step, and the weights at the end."""
    ours, optimizer = network(dtype), kind(**settings)
    net = to_keras(ours)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(getattr(keras.optimizers, name)(**settings), loss)
    rng, losses = np.random.default_rng(1), []
    for _ in range(steps):
        x, y = rng.normal(size=(8, 12, 16, 3)).astype(dtype), rng.integers(0, 4, 8)
        net.reset_metrics()  # what train_on_batch gives is a mean since then
        losses.append((train_step(ours, x, y, softmax_cross_entropy, optimizer), float(net.train_on_batch(x, y))))
    theirs = copy_from_keras(net, network(dtype)).state_dict()
    return np.array(losses).T, [(value, theirs[name]) for name, value in ours.state_dict().items()]


@pytest.mark.parametrize(("kind", "name", "settings"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_fifty_steps_in_float64_give_the_same_losses_and_weights(floatx, without_tracing, kind, name, settings):
    floatx("float64")
    (ours, theirs), weights = both_trained(np.float64, kind, name, settings, steps=50)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    assert ours[-10:].mean() != ours[0]
    for one, other in weights:
        assert np.abs(one - other).max() < 1e-6 * np.abs(other).max()


@pytest.mark.parametrize(("kind", "name", "settings"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_twenty_steps_in_float32_give_the_same_losses(without_tracing, kind, name, settings):
    (ours, theirs), _ = both_trained(np.float32, kind, name, settings, steps=20)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize(("kind", "name", "settings"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_branches_are_trained_to_the_same_losses_and_weights(floatx, without_tracing, kind, name, settings):
    floatx("float64")
    (ours, theirs), weights = both_trained(np.float64, kind, name, settings, steps=12, network=every_merge)
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    assert ours[-3:].mean() != ours[0]
    assert len(weights) == 30
    for one, other in weights:
        assert np.abs(one - other).max() < 1e-6 * np.abs(other).max()


@pytest.fixture(scope="module")
def frames():
    pixels, labels, _ = textures(n_groups=3, shape=(16, 16, 3))
    targets = np.array([CLASSES.index(label) for label in labels])
    return (pixels[6:], targets[6:]), (pixels[:6], targets[:6])


def small(n_classes=3, seed=0):
    return reference_network((16, 16, 3), n_classes, filters=(4, 6), units=8, output=None, scale=1 / 255).build(seed)


@pytest.mark.parametrize("rate", [0.01, CosineDecay(0.02, 10)])
def test_both_are_fed_the_same_batches_of_the_same_augmented_frames(frames, rate):
    train, validation = frames
    settings = {"epochs": 3, "batch_size": 5, "validation_data": validation, "augment": AUGMENTATION, "seed": 3}
    ours = small()
    net = to_keras(ours)
    theirs = fit_keras(net, *train, learning_rate=rate, **settings)
    history = fit(ours, *train, optimizer=Adam(rate), progress=None, **settings)
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(getattr(history, name), getattr(theirs, name), rtol=1e-3)
    assert history.val_accuracy == pytest.approx(theirs.val_accuracy)
    assert (len(theirs), theirs.best_epoch) == (3, history.best_epoch)
    assert theirs.learning_rate == history.learning_rate
    assert all(seconds > 0 for seconds in theirs.seconds)


def test_training_in_keras_stops_early_and_keeps_its_best_weights(frames, without_tracing):
    train, (x, y) = frames
    net = to_keras(small())
    history = fit_keras(net, *train, epochs=20, learning_rate=0.02, validation_data=(x, (y + 1) % 3), patience=2)
    assert len(history) == history.best_epoch + 2 < 20
    evaluated = net.evaluate(x, (y + 1) % 3, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(history.val_loss[history.best_epoch - 1], rel=1e-5)


def test_a_loss_in_keras_that_is_not_finite_stops_with_finite_weights(frames, without_tracing):
    train, validation = frames
    net = to_keras(small())
    with pytest.raises(FloatingPointError, match="fit_keras: expected finite losses, got "):
        fit_keras(net, *train, epochs=5, learning_rate=math.inf, validation_data=validation)
    assert all(np.isfinite(weight).all() for weight in net.get_weights())


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "relu", None])
def test_the_reference_in_keras_is_our_network(output):
    net = to_keras(reference_network((32, 48, 3), 5, output=output, scale=1 / 255).build(seed=4))
    ours = reference_network((32, 48, 3), 5, output=output, scale=1 / 255).build(4)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    np.testing.assert_allclose(net(x, training=False).numpy(), ours.predict(x), rtol=1e-4, atol=1e-5)
    again = copy_from_keras(net, reference_network((32, 48, 3), 5, output=output, scale=1 / 255).build(9))
    assert all((again.state_dict()[name] == value).all() for name, value in ours.state_dict().items())


def test_the_device_is_a_gpu_where_keras_sees_one(monkeypatch):
    tf = pytest.importorskip("tensorflow")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [])
    assert keras_device() == "CPU"
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [f"{kind}:0"])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": f"{gpu} card"})
    assert keras_device() == "GPU: first card"
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert keras_device() == "GPU:0"


def test_momentum_is_what_keras_makes_of_it():
    """Keras keeps momentum in float32, so the tests of optimizers use shares that float32 holds exactly."""
    assert all(math.isclose(float(np.float32(share)), share, rel_tol=0) for share in SHARES.values())
