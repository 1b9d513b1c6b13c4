"""Parameters may be set while other threads predict: each call sees all old or all new parameters."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    FrameClassifier,
    InputLayer,
    KMeansClassifier,
    PoolingLayer,
    Sequential,
    ShapeError,
)
from framecnn.estimators import FrameFeatures
from framecnn.layers.normalization import pack_with_norm
from framecnn.layers.params import SWAPPING
from framecnn.training.loop import train_step
from framecnn.training.losses import softmax_cross_entropy
from framecnn.training.optimizers import SGD

SHAPE = (8, 9, 2)
READERS = 3
CALLS = 60


def network():
    """Return a network whose normalisations are folded into the layers before them."""
    return Sequential(
        [
            InputLayer(SHAPE),
            ConvLayer(4, kernel_size=3),
            BatchNormLayer(),
            ActivationLayer("relu"),
            PoolingLayer(2),
            FlatteningLayer(),
            DenseLayer(5),
            BatchNormLayer(),
            DenseLayer(3),
        ]
    )


def frames(n=2):
    return np.random.default_rng(0).normal(size=(n, *SHAPE)).astype(np.float32)


def seen_meanwhile(read, writes):
    """Return the set of results of `read` in several threads, while another thread calls `writes` in turn."""
    ended = threading.Event()

    def write():
        while not ended.is_set():
            for change in writes:
                change()

    writer = threading.Thread(target=write)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    writer.start()
    try:
        with ThreadPoolExecutor(READERS) as readers:
            calls = [readers.submit(lambda: {read() for _ in range(CALLS)}) for _ in range(READERS)]
            return set().union(*(call.result() for call in calls))
    finally:
        ended.set()
        writer.join()
        sys.setswitchinterval(before)


def read_all(changes, read):
    """Return the set of results of `read` after each change, without other threads."""
    results = set()
    for change in changes:
        change()
        results.add(read())
    return results


WRITERS = {
    "load_state_dict": lambda model, state, seed: model.load_state_dict(state),
    "update": lambda model, state, seed: model.update(state),
    "build": lambda model, state, seed: model.build(seed),
}
READS = {
    "predict": lambda model: model.predict(frames()).tobytes(),
    "predict in small batches": lambda model: model.predict(frames(5), batch_size=1).tobytes(),
    "vjp": lambda model: gradients(model),
    "state_dict": lambda model: b"".join(value.tobytes() for value in model.state_dict().values()),
}


def gradients(model):
    y, backward = model.vjp(frames())
    dx, own = backward(y)
    return b"".join(value.tobytes() for value in (y, dx, *own.values()))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("reader", READS)
def test_a_call_sees_all_old_or_all_new_parameters(writer, reader):
    model = network()
    states = [model.build(seed).state_dict() for seed in (1, 2)]
    writes = [lambda s=s, n=n: WRITERS[writer](model, s, n) for n, s in enumerate(states, start=1)]
    read = lambda: READS[reader](model)  # noqa: E731
    allowed = read_all(writes, read)
    assert len(allowed) == 2
    assert seen_meanwhile(read, writes) <= allowed


def test_a_layer_alone_sees_all_old_or_all_new_parameters():
    layer = DenseLayer(40).build((30,))
    x = np.random.default_rng(0).normal(size=(2, 30))
    values = [{"kernel": np.full((30, 40), n), "bias": np.full(40, n)} for n in (1.5, 2.5)]
    writes = [lambda v=v: layer.assign((30,), v) for v in values] + [lambda v=v: layer.params.update(v) for v in values]
    read = lambda: layer(x).tobytes()  # noqa: E731
    allowed = read_all(writes, read)
    assert seen_meanwhile(read, writes) <= allowed


def test_a_training_step_is_seen_completely_or_not_at_all():
    model, optimizer = network().build(0), SGD(0.1)
    x = frames(4)
    n_steps = 60
    after_each = {model.predict(x).tobytes()}

    def step():
        train_step(model, x, [0, 1, 2, 0], softmax_cross_entropy, optimizer)

    for _ in range(n_steps):
        step()
        after_each.add(model.predict(x).tobytes())
    model.build(0)
    optimizer = SGD(0.1)
    left = iter(range(n_steps))
    write = lambda: step() if next(left, None) is not None else threading.Event().wait(0.001)  # noqa: E731
    assert seen_meanwhile(lambda: model.predict(x).tobytes(), [write]) <= after_each


def samples(offset):
    rng = np.random.default_rng(offset)
    return rng.normal(size=(12, 40)) + offset, np.repeat([f"{offset}a", f"{offset}b"], 6)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "transform", "outlier_scores"])
@pytest.mark.parametrize("kind", [KMeansClassifier, FrameClassifier])
def test_an_estimator_may_be_fitted_again_while_other_threads_predict(kind, method):
    estimator = kind(alpha=1.0, random_state=0)
    x = samples(0)[0]
    writes = [lambda n=n: estimator.fit(*samples(n)) for n in (0, 1)]
    read = lambda: getattr(estimator, method)(x).tobytes()  # noqa: E731
    allowed = read_all(writes, read)
    assert len(allowed) == 2
    assert seen_meanwhile(read, writes) <= allowed


def test_a_failed_fit_changes_nothing():
    classifier = FrameClassifier(alpha=1.0, random_state=0).fit(*samples(0))
    features = FrameFeatures().fit(samples(0)[0])
    before = vars(classifier) | {}
    with pytest.raises(ValueError, match="at least two classes"):
        classifier.fit(samples(1)[0], ["a"] * 12)
    assert vars(classifier) == before
    with pytest.raises(ValueError, match="NaN"):
        features.fit(samples(1)[0] * np.nan)
    assert features.transform(samples(0)[0]).shape == (12, 40)


def test_an_update_that_does_not_fit_changes_nothing():
    model = network().build(0)
    before = model.state_dict()
    good = {"dense_2/kernel": np.ones((5, 3))}
    for bad in ({"dense_2/bias": np.ones(4)}, {"dense_2/biases": np.ones(3)}, {"dense_3/bias": np.ones(3)}):
        with pytest.raises(ShapeError):
            model.update(good | bad)
    layer = model.layers[-1]
    with pytest.raises(ShapeError, match="expected bias as real numbers"):
        layer.params.update(kernel=np.ones((5, 3)), bias="no")
    params = layer.params
    with pytest.raises(ShapeError, match="expected bias as real numbers"):
        params |= {"bias": np.ones(4)}
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())
    params |= {"bias": np.ones(3)}
    assert layer.params["bias"].tolist() == [1, 1, 1]


def test_a_copy_keeps_the_parameters_that_it_was_made_with():
    layer = DenseLayer(2).build((1,))
    first = layer.snapshot()
    assert layer.snapshot() is first
    layer.params["bias"] = [5, 5]
    assert layer.snapshot() is not first
    assert first.params["bias"].tolist() == [0, 0]
    assert first([[0]]).tolist() == [[0, 0]]
    assert layer([[0]]).tolist() == [[5, 5]]


FORK = """
import os, signal, threading, time
import numpy as np
from framecnn import DenseLayer
from framecnn.layers.normalization import pack_with_norm
from framecnn.layers.params import SWAPPING

layer = DenseLayer(3).build((2,))
layer([[0, 0]])
begun, ended = threading.Event(), threading.Event()

def write():
    while not ended.is_set():
        with SWAPPING:
            begun.set()
            time.sleep(0.001)
            layer.params["bias"] = [1, 2, 3]
        time.sleep(0.0001)

writer = threading.Thread(target=write)
writer.start()
begun.wait()
for _ in range(5):
    child = os.fork()
    if not child:
        signal.alarm(20)  # a deadlock ends the child
        layer.params["bias"] = [4, 5, 6]
        os._exit(0 if layer([[0, 0]]).tolist() == [[4, 5, 6]] else 1)
    assert os.waitpid(child, 0)[1] == 0
ended.set()
writer.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("norm", [None, BatchNormLayer().build((5,), seed=0)], ids=["alone", "with a norm"])
def test_threads_that_pack_a_kernel_at_the_same_time_use_one_copy(norm):
    params = ConvLayer(5, kernel_size=3).build(SHAPE, seed=0).params
    together = threading.Barrier(READERS)

    def pack(kernel, bias):
        together.wait(30)
        return kernel.copy()

    with ThreadPoolExecutor(READERS) as pool:
        packed = list(pool.map(lambda _: pack_with_norm(params, norm, pack), range(READERS)))
    assert all(kernel is packed[0] for kernel in packed)


def test_a_child_of_fork_can_set_parameters_although_another_thread_held_the_lock():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert SWAPPING.acquire(timeout=1)
    SWAPPING.release()


def test_failed_training_leaves_no_thread_behind_while_its_error_is_referenced():
    before, kept = threading.active_count(), []
    x = np.full((8, *SHAPE), 1e30)
    for _ in range(3):
        try:
            network().build(0).fit(x * 1e30, [0, 1] * 4, batch_size=2, progress=None)
        except (FloatingPointError, ShapeError) as error:
            kept.append(error)
    assert len(kept) == 3
    assert threading.active_count() <= before + 1  # beside them, a helper of the kernels
