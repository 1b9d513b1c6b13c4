"""Programs repeat the kernels of a prediction: same bits, for other frames, threads, batches and callers at once."""

import copy
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    FlatteningLayer,
    InputLayer,
    ParallelLayer,
    PoolingLayer,
    Sequential,
)
from framecnn.kernels import activate, buffers
from framecnn.kernels.buffers import empty, memory_of, reused_memory
from framecnn.kernels.program import Program, Programs
from framecnn.kernels.threads import ordered_map, recording
from framecnn.kernels.winograd import winograd_forward
from framecnn.networks.prediction import PredictionPlan
from framecnn.testing.draws import same_bits
from framecnn.thread_count import num_threads

SHAPE = (30, 34, 6)


def network():
    conv = ConvLayer(6, kernel_size=3, padding="same")
    depthwise = ConvLayer(6, kernel_size=3, padding="same", groups=6)
    return Sequential(
        [
            InputLayer(SHAPE),
            ParallelLayer([[conv, ActivationLayer("relu"), conv], []]),
            ActivationLayer("relu"),
            ParallelLayer([[depthwise, ActivationLayer("hard_swish")], [ActivationLayer("tanh")]], merge="concatenate"),
            ConvLayer(20, kernel_size=1, strides=2),
            PoolingLayer(3, strides=2),
            PoolingLayer(1, mode="adaptive_average"),
            FlatteningLayer(),
        ]
    ).build(seed=1)


def layer_by_layer(model, x):
    for layer in model.layers:
        x = layer(x)
    return x


def frames(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_predictions_keep_their_bits_from_the_first_to_the_fourth(threads):
    model = network()
    with num_threads(threads):
        for n in (1, 3):
            for seed in range(4):
                x = frames(n, seed)
                assert same_bits(model.predict(x), layer_by_layer(model, x)), (n, seed)


def test_a_prediction_uses_the_parameters_of_its_time():
    model, x = network(), frames(2)
    for scale in (1, 2, 3):
        model.update({name: value * scale for name, value in model.state_dict().items()})
        for _ in range(3):
            assert same_bits(model.predict(x), layer_by_layer(model, x)), scale


def test_an_earlier_result_stays_as_it_was():
    model, x = network(), frames(1)
    results = [model.predict(x) for _ in range(4)]
    kept = [y.copy() for y in results]
    model.predict(frames(1, seed=9))
    assert all(same_bits(y, before) for y, before in zip(results, kept, strict=True))


def test_many_callers_at_once_get_their_own_results():
    model = network()
    batches = [frames(1 + seed % 2, seed) for seed in range(40)]
    wanted = [layer_by_layer(model, x) for x in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for y, other in zip(pool.map(model.predict, batches), wanted, strict=True):
                assert same_bits(y, other)


def test_copies_and_pickles_of_a_computation_hold_no_addresses():
    programs = Programs(np.abs)
    for other in (copy.deepcopy(programs), pickle.loads(pickle.dumps(programs))):
        x = np.array([[-1.0, 2.0]], np.float32)
        for _ in range(2):
            np.testing.assert_array_equal(other(x), [[1, 2]])


def test_a_computation_that_is_no_kernel_is_not_recorded():
    def compute(x):
        ordered_map(lambda number: number, [1, 2])
        return activate(x, "relu", 0.0)

    x = np.array([[-1.0, 2.0]], np.float32)
    assert not Program(compute, x).is_valid
    programs = Programs(compute)
    for seed in range(4):
        np.testing.assert_array_equal(programs(x - seed), np.maximum(x - seed, 0))


@pytest.fixture
def no_buffers(monkeypatch):
    """The buffers of a thread that has not predicted yet."""
    monkeypatch.setattr(buffers._buffers, "all", [])


def test_a_program_does_not_pack_kernels_again():
    layers = [ConvLayer(9, kernel_size=3, algorithm="winograd2").build(SHAPE, seed=0)]
    layers += [BatchNormLayer().build(layers[0].output_shape)]
    (step,) = PredictionPlan.of(layers, SHAPE).on_frames
    recorder = mock.Mock()
    with recording(recorder):
        step.run(frames(1))
    assert [call.args[0] for call in recorder.kernel.call_args_list] == [winograd_forward]
    assert not recorder.other.called


def test_memory_is_used_again_only_when_no_array_lies_in_it(no_buffers):
    shape = (100, 1000)
    with reused_memory():
        first = empty(shape, np.float32)
        second = empty(shape, np.float32)
        assert not np.shares_memory(first, second)
        address, view = first.ctypes.data, first[::2].T
        del first
        assert not np.shares_memory(empty(shape, np.float32), view)
        del view
        gc.collect()
        assert address in {empty(shape, np.float32).ctypes.data, empty((50, 1000), np.float32).ctypes.data}
    third = empty(shape, np.float32)
    assert third.base is None
    assert not np.shares_memory(second, third)


def test_a_larger_array_replaces_free_memory_but_never_that_of_a_program(no_buffers):
    with reused_memory():
        empty((100, 1000), np.float32)
        assert empty((200, 1000), np.float32).shape == (200, 1000)
    own = []
    with memory_of(own):
        for rows in (1, 2, 3):
            empty((rows, 10), np.float32)
    assert [buffer.size for buffer in own] == [40, 80, 120]
