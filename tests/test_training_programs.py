"""Training steps that run as programs: the bits of passes one after the other, for any network, batch and caller."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    ParallelLayer,
    PoolingLayer,
    Sequential,
    num_threads,
)
from framecnn.networks import training_programs
from framecnn.networks.passes import vjp_through
from framecnn.networks.residual import residual_network
from framecnn.testing.draws import draw_params, same_bits

RELU = ActivationLayer("relu")


def conv(filters=6, kernel_size=3, **settings):
    return ConvLayer(filters, kernel_size=kernel_size, **{"padding": "same", **settings})


def network(*layers, shape=(9, 7, 6), dtype=np.float32):
    model = Sequential([InputLayer(shape, scale=0.5), *map(copy.copy, layers)]).build(0, dtype=dtype)
    for layer in model.layers:
        draw_params(layer)
    return model


def batch(model, n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *model.input_shape)).astype(model.layers[0].dtype)


def gradients(model, x):
    """Return the output of a training step and its gradients, which the program computes if there is one."""
    y, backward = model.vjp(x, np.random.default_rng(0), wrt_input=False)
    dx, grads = backward(np.cos(y))
    assert dx is None
    return {**grads, "y": y}


def by_passes(model, x):
    """Return the same, one pass after the other."""
    passes = model._snapshot().training_passes
    y, backward = vjp_through(passes, model.names, x, np.random.default_rng(0), model._first_with_parameters)
    return {**backward(np.cos(y))[1], "y": y}


def programs(model):
    return [program for free in model._programs._pool._free.values() for program in free]


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert same_bits(found[name], value), name


def assert_steps_agree(model, sizes=(3, 3, 3, 2, 2, 3), is_recorded=True):
    """Fail unless steps on different batches and parameters have the bits of passes one after the other."""
    for seed, n in enumerate(sizes):
        x = batch(model, n, seed)
        assert_same(gradients(model, x), by_passes(model, x))
        model.update({name: 0.9 * value for name, value in model.parameters().items()})
    assert [program.is_valid for program in programs(model)] == [True] * len(set(sizes)) * is_recorded


BRANCH = [conv(), BatchNormLayer(), RELU, conv(use_bias=False)]
NETWORKS = {
    "residual": lambda: residual_network((9, 11, 3), 4, filters=(5, 17, 34)).build(0),
    "deep": lambda: residual_network((8, 8, 3), 4, filters=(4, 8), blocks=2).build(0),
    "dense": lambda: network(FlatteningLayer(), DenseLayer(17), BatchNormLayer(), RELU, DenseLayer(3)),
    "convolutions": lambda: network(conv(17), RELU, conv(40, 1), conv(33, 5), FlatteningLayer(), DenseLayer(2)),
    "strides": lambda: network(conv(5, strides=2), RELU, conv(7, (2, 3), strides=2), conv(3, 1, strides=2)),
    "winograd": lambda: network(conv(16, algorithm="winograd4"), conv(48, algorithm="winograd2"), conv(20, 5)),
    "average pooling": lambda: network(conv(), PoolingLayer(3, strides=2, mode="average"), conv(), RELU),
    "max pooling": lambda: network(conv(), PoolingLayer(3, strides=2), conv(8), RELU),
    "three branches": lambda: network(ParallelLayer([BRANCH, [], [conv(6, 1)]]), RELU, conv()),
    "nested branches": lambda: network(ParallelLayer([[ParallelLayer([BRANCH, []]), RELU, conv()], BRANCH])),
    "no parameters": lambda: network(RELU, PoolingLayer(2)),
    "one pixel": lambda: network(conv(1), BatchNormLayer(), RELU, FlatteningLayer(), DenseLayer(1), shape=(1, 1, 1)),
    "float64": lambda: network(*BRANCH, BatchNormLayer(), RELU, conv(17, strides=2), dtype=np.float64),
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_steps_have_the_bits_of_passes_one_after_the_other(name, threads):
    with num_threads(threads):
        assert_steps_agree(NETWORKS[name]())


@pytest.mark.parametrize("function", ["leaky_relu", "sigmoid", "softmax", "gelu", "hard_swish", "softplus"])
def test_other_activations_are_recorded_too(function):
    assert_steps_agree(network(conv(), ActivationLayer(function), BatchNormLayer(), ActivationLayer(function)))


def test_every_size_of_frame_and_batch_has_the_bits_of_passes():
    for height in range(1, 18):
        model = network(*BRANCH, BatchNormLayer(), RELU, conv(5, strides=2), shape=(height, 3, 6))
        assert_steps_agree(model, (height % 5 + 1,) * 3)


@pytest.mark.parametrize(
    "layers",
    [
        [conv(), DropoutLayer(0.5)],
        [conv(groups=6)],
        [conv(6, groups=2)],
        [conv(), conv(strides=2, dilation_rate=2)],
        [conv(), conv(strides=3, kernel_size=(2, 1), padding=((0, 3), (2, 1)))],
        [conv(), RELU, PoolingLayer(2)],
        [ParallelLayer([BRANCH, []], merge="multiply")],
        [ParallelLayer([BRANCH, []], merge="concatenate")],
        [ParallelLayer([[DropoutLayer(0.5)], BRANCH])],
        [conv(), conv(padding=((4, 0), (0, 4)))],
    ],
)
def test_what_computes_in_python_is_not_recorded_and_still_right(layers):
    assert_steps_agree(network(*layers), (3, 3, 3), is_recorded=False)


def test_a_subclass_is_not_recorded():
    class Doubling(ActivationLayer):
        """A layer that computes something else."""

        def forward(self, x):
            return 2 * x

        def vjp(self, x, rng=None):
            return 2 * x, lambda dy: (2 * dy, {})

    del Layer.registry["Doubling"]
    assert_steps_agree(network(conv(), Doubling("relu")), (2, 2, 2), is_recorded=False)


def test_results_stay_as_they_were_and_backward_may_be_called_again():
    model = network(*BRANCH, BatchNormLayer(), RELU)
    for seed in range(2):
        gradients(model, batch(model, 3, seed))
    x = batch(model, 3, 9)
    y, backward = model.vjp(x, np.random.default_rng(0), wrt_input=False)
    first = {**backward(np.cos(y))[1], "y": y}
    kept = {name: value.copy() for name, value in first.items()}
    backward(np.sin(y))
    gradients(model, batch(model, 3, 10))
    assert_same(first, kept)
    assert_same({**backward(np.cos(y))[1], "y": y}, kept)


def test_steps_at_once_have_programs_of_their_own():
    model = NETWORKS["residual"]()
    batches = [batch(model, 2 + seed % 2, seed) for seed in range(24)]
    wanted = [by_passes(model, x) for x in batches]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for found, other in zip(pool.map(lambda x: gradients(model, x), batches), wanted, strict=True):
                assert_same(found, other)


def test_memory_is_limited_and_kept_for_the_next_step(monkeypatch):
    model = network(*BRANCH)
    for seed in range(9):
        gradients(model, batch(model, 3, seed))
    assert len(programs(model)) == 1
    monkeypatch.setattr(training_programs, "MOST_BYTES", 1000)
    small = network(*BRANCH)
    assert_steps_agree(small, (3, 3, 3), is_recorded=False)


def test_a_batch_that_is_too_large_does_not_keep_smaller_ones_from_being_recorded(monkeypatch):
    model = network(*BRANCH)
    for _ in range(3):
        gradients(model, batch(model, 2))
    (small,) = programs(model)
    monkeypatch.setattr(training_programs, "MOST_BYTES", 2 * small.nbytes)
    other = network(*BRANCH)
    for n in (64, 64, 64, 2, 2, 2):
        gradients(other, batch(other, n))
    assert len(programs(other)) == 1


def test_memory_is_free_after_training():
    model = network(*BRANCH, FlatteningLayer(), DenseLayer(2))
    used = []
    labels = np.arange(12) % 2
    model.fit(batch(model, 12), labels, batch_size=4, progress=lambda _: used.extend(map(weakref.ref, programs(model))))
    gc.collect()
    assert used
    assert not any(program() for program in used)


def test_pickles_hold_no_addresses():
    model = network(*BRANCH)
    x = batch(model, 3)
    for _ in range(3):
        wanted = gradients(model, x)
    other = pickle.loads(pickle.dumps(model))
    assert programs(model)
    assert not programs(other)
    for _ in range(3):
        assert_same(gradients(other, x), wanted)
