"""Optimizers: their updates are those of Keras and of the kernels' definitions, their state is arrays."""

import tracemalloc
from dataclasses import fields

import numpy as np
import pytest

from framecnn import BatchNormLayer, DenseLayer, InputLayer, Sequential, ShapeError, num_threads
from framecnn.errors import SettingError
from framecnn.kernels import reference
from framecnn.kernels.update import adam_update, sgd_update
from framecnn.testing.draws import same_bits
from framecnn.training.optimizers import SGD, Adam, AdamW, Optimizer
from framecnn.training.schedules import StepDecay

RULES = {
    "SGD": (SGD, {"learning_rate": 0.05}),
    "momentum": (SGD, {"learning_rate": 0.05, "momentum": 0.9}),
    "Nesterov": (SGD, {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    "Adam": (Adam, {"learning_rate": 0.02}),
    "Adam, other settings": (Adam, {"learning_rate": 0.02, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.1}),
    "AdamW": (AdamW, {"learning_rate": 0.02, "weight_decay": 0.3}),
}


@pytest.fixture(params=RULES)
def rule(request):
    return RULES[request.param]


def network(dtype=np.float64):
    return Sequential([InputLayer((3,)), DenseLayer(4)]).build(0, dtype)


def gradients(state, step):
    """Gradients that depend on the weights, of sizes from 1e-9 to 10."""
    rng = np.random.default_rng(step)
    return {name: value * 10.0 ** rng.uniform(-9, 1, value.shape) - 0.1 for name, value in state.items()}


def after(optimizer, n_steps, model=None, first=0):
    model = model or network()
    for step in range(first, first + n_steps):
        optimizer.update(model, gradients(model.state_dict(), step))
    return model


@pytest.mark.parametrize("decays", [False, True], ids=["constant rate", "step decay"])
def test_fifty_updates_are_those_of_keras(rule, decays):
    """Keras on TensorFlow rounds settings to float32 even when it computes in float64, so the test rounds them too."""
    keras = pytest.importorskip("keras", reason="needs the package keras")
    kind, settings = rule
    own = {field.name: getattr(kind(**settings), field.name) for field in fields(kind)}
    settings = {name: float(np.float32(value)) if isinstance(value, float) else value for name, value in own.items()}
    keras.config.set_floatx("float64")
    try:
        theirs = dict(settings)
        if decays:  # powers of two, since a schedule of Keras computes in float32
            settings = settings | {"learning_rate": StepDecay(0.0625, 20, 0.5)}
            theirs["learning_rate"] = keras.optimizers.schedules.ExponentialDecay(0.0625, 20, 0.5, staircase=True)
        optimizer = getattr(keras.optimizers, kind.__name__)(**theirs)
        state = network().state_dict()
        variables = [keras.Variable(value) for value in state.values()]
        for step in range(50):
            values = (np.asarray(variable) for variable in variables)
            optimizer.apply(gradients(dict(zip(state, values, strict=True)), step).values(), variables)
        expected = [np.asarray(variable) for variable in variables]
    finally:
        keras.config.set_floatx("float32")
    for ours, keras_value in zip(after(kind(**settings), 50).state_dict().values(), expected, strict=True):
        np.testing.assert_allclose(ours, keras_value, rtol=1e-10, atol=1e-14)


def test_defaults_are_those_of_keras():
    keras = pytest.importorskip("keras", reason="needs the package keras")
    for kind in (SGD, Adam, AdamW):
        theirs = getattr(keras.optimizers, kind.__name__)().get_config()
        for field in fields(kind):
            assert field.default == pytest.approx(theirs[field.name], rel=1e-7)


def arrays(size, dtype):
    return (np.random.default_rng(seed).normal(size=size).astype(dtype) for seed in range(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nesterov", [False, True])
def test_a_step_of_sgd_is_its_definition(dtype, nesterov):
    weights, gradient, momentum = arrays(1001, dtype)
    expected = reference.sgd_update(weights, gradient, momentum, 0.1, 0.9, nesterov)
    updated = np.empty_like(weights)
    sgd_update((updated, momentum), weights, gradient, 0.1, 0.9, nesterov)
    for value, exact in zip((updated, momentum), expected, strict=True):
        np.testing.assert_allclose(value, exact, rtol=0, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_of_adam_is_its_definition(dtype):
    weights, gradient, momentum = arrays(1001, dtype)
    velocity = np.square(momentum)
    expected = reference.adam_update(weights, gradient, (momentum, velocity), 0.1, 0.01, (0.9, 0.99), 0.02)
    updated = np.empty_like(weights)
    adam_update((updated, momentum, velocity), weights, gradient, 0.1, 0.01, (0.9, 0.99), 0.02)
    for value, exact in zip((updated, momentum, velocity), expected, strict=True):
        np.testing.assert_allclose(value, exact, rtol=0, atol=20 * np.finfo(dtype).eps * np.abs(exact).max())


def test_any_number_of_threads_gives_the_same_bits():
    weights, gradient, momentum = arrays(700_001, np.float32)
    found = []
    for n in (1, 2, 5):
        with num_threads(n):
            updated, own, velocity = np.empty_like(weights), momentum.copy(), np.square(momentum)
            adam_update((updated, own, velocity), weights, gradient, 0.1, 1e-7, (0.9, 0.999), 0.0)
            sgd_update((updated, own), updated.copy(), gradient, 0.1, 0.9, True)
        found.append(np.concatenate([updated, own, velocity]))
    assert same_bits(found[0], found[1])
    assert same_bits(found[0], found[2])


def test_an_optimizer_with_a_loaded_state_gives_the_same_bits(rule):
    kind, settings = rule
    whole = after(kind(**settings), 7)
    first = kind(**settings)
    model = after(first, 3)
    second = kind(**settings)
    second.load_state_dict(first.state_dict())
    after(second, 4, model, first=3)
    for name, value in whole.state_dict().items():
        assert same_bits(model.state_dict()[name], value)


def test_state_consists_of_copies_of_arrays():
    optimizer = Adam()
    after(optimizer, 2)
    state = optimizer.state_dict()
    moments = [f"{slot}/{name}" for slot in ("momentum", "velocity") for name in network().state_dict()]
    assert list(state) == ["iterations", *moments]
    assert state["iterations"].tolist() == [2]
    state["velocity/dense_1/bias"][:] = 7
    assert not (optimizer.state_dict()["velocity/dense_1/bias"] == 7).any()
    optimizer.load_state_dict(state)
    state["velocity/dense_1/bias"][:] = 8
    assert (optimizer.state_dict()["velocity/dense_1/bias"] == 7).all()


def test_float32_weights_have_float32_moments():
    optimizer = Adam()
    model = after(optimizer, 1, network(np.float32))
    assert {value.dtype.name for value in model.state_dict().values()} == {"float32"}
    assert {value.dtype.name for value in optimizer.moments["velocity"].values()} == {"float32"}


def test_parameters_that_are_not_trainable_need_no_gradient():
    model = Sequential([InputLayer((3,)), BatchNormLayer()]).build()
    Adam().update(model, {"batch_norm_1/gamma": np.ones(3), "batch_norm_1/beta": np.ones(3)})
    state = model.state_dict()
    assert (state["batch_norm_1/gamma"] < 1).all()
    assert (state["batch_norm_1/moving_variance"] == 1).all()


GRADS = {name: np.ones_like(value) for name, value in network().state_dict().items()}


@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ({}, r"SGD.update: expected gradients of all trainable parameters .*, dense_1/bias as \(4,\), got none"),
        ({**GRADS, "dense_9/bias": np.ones(1)}, r"dense_9/bias as absent, got \(1,\)"),
        ({**GRADS, "dense_1/bias": np.ones(5)}, r"dense_1/bias as \(4,\), got \(5,\)"),
    ],
)
def test_gradients_that_do_not_fit_are_refused_and_change_nothing(grads, message):
    model, optimizer = network(), SGD()
    with pytest.raises(ShapeError, match=message):
        optimizer.update(model, grads)
    assert optimizer.iterations == 0
    assert all(same_bits(value, network().state_dict()[name]) for name, value in model.state_dict().items())


def test_an_optimizer_with_moments_of_another_model_is_refused():
    optimizer = Adam()
    after(optimizer, 1)
    other = Sequential([InputLayer((3,)), DenseLayer(5)]).build()
    with pytest.raises(ShapeError, match=r"Adam.update: expected moments of .* dense_1/bias as \(5,\), got \(4,\)"):
        optimizer.update(other, other.parameters())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"Adam.load_state_dict: expected iterations, and momentum and velocity of the same .* got \[\]"),
        ({"iterations": [1], "momentum/a/b": [0.0]}, "of the same parameters, got"),
        ({"iterations": [1], "speed/a/b": [0.0]}, "expected iterations and momentum and velocity .* got 'speed/a/b'"),
        ({"iterations": [1], "momentum": [0.0]}, "got 'momentum'; pass a state_dict"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(state, message):
    optimizer = Adam()
    with pytest.raises(ShapeError, match=message):
        optimizer.load_state_dict(state)
    assert optimizer.iterations == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(-1), "Adam: expected learning_rate of at least 0, got -1"),
        (lambda: SGD("fast"), "SGD: expected learning_rate as a finite number, got 'fast'"),
        (lambda: Adam(lambda step: 0.1), "Adam: expected learning_rate as a finite number, got <function"),
        (lambda: SGD(momentum=1), "SGD: expected momentum of at least 0 and below 1, got 1"),
        (lambda: Adam(beta_1=-0.1), "Adam: expected beta_1 of at least 0 and below 1, got -0.1"),
        (lambda: AdamW(beta_2=None), "AdamW: expected beta_2 as a finite number, got None"),
        (lambda: Adam(epsilon=np.nan), "Adam: expected epsilon as a finite number, got nan"),
        (lambda: AdamW(weight_decay="some"), "AdamW: expected weight_decay as a finite number, got 'some'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_an_optimizer_without_a_step_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="Optimizer: expected a method step, got none; define it"):
        Optimizer().step((), np.zeros(1), np.zeros(1))


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), Adam()])
def test_an_update_allocates_the_new_parameters_only(optimizer):
    model = Sequential([InputLayer((500,)), DenseLayer(500, use_bias=False)]).build()
    grads = {name: np.ones_like(value) for name, value in model.parameters().items()}
    optimizer.advance(model, grads)
    tracemalloc.start()
    optimizer.advance(model, grads)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 4 * 500 * 500
