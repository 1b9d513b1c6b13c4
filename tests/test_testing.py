"""The checks themselves: a correct layer passes all of them, and each finds the fault it is meant to find."""

import ctypes
import re
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
from agreement import OURS

from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    FilterBankLayer,
    FlatteningLayer,
    MissingExtraError,
    ParallelLayer,
    PoolingLayer,
    SettingError,
    ShapeError,
    get_num_threads,
)
from framecnn.kernels import pool, threads
from framecnn.layers import Case, Layer, Param
from framecnn.testing import (
    check_layer,
    conv_cases,
    frames,
    labelled_features,
    layer_checks,
    layers,
    models,
    parametrize_with_layer_checks,
    pool_cases,
    shapes,
)
from framecnn.testing.contract import CONTRACT
from framecnn.testing.draws import draw_frames, draw_params
from framecnn.testing.gradients import GRADIENTS, linear_arguments


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry that forgets the test's own layers."""
    monkeypatch.setattr(Layer, "registry", dict(Layer.registry))


def scale_layer(**methods):
    """Return a layer class that scales and shifts every channel, with some of its methods replaced."""

    class Base(Layer):
        shift: float = 1.0
        cases = (Case({}, (3, 4, 2)), Case({"shift": 0.5}, (5,)))

        def infer_shape(self, input_shape):
            return tuple(input_shape)

        def param_specs(self, input_shape):
            return {"scale": Param((1, input_shape[-1]), "he_normal")}

        def forward(self, x):
            return x * self.params["scale"] + x.dtype.type(self.shift)

        def vjp(self, x, rng=None):
            return self.forward(x), lambda dy: (dy * self.params["scale"], {"scale": channel_sums(x * dy)})

    return dataclass(frozen=True)(type("ScaleLayer", (Base,), {"__annotations__": {"shift": float}} | methods))


def channel_sums(products):
    """Sum over all axes but the last."""
    return products.reshape(-1, products.shape[-1]).sum(axis=0, keepdims=True)


def scaled(self, x):
    """The output of a correct layer."""
    return x * self.params["scale"] + x.dtype.type(self.shift)


def gradients(self, x, dy):
    """The gradients of a correct layer."""
    return dy * self.params["scale"], {"scale": channel_sums(x * dy)}


def count_calls(self, x):
    self.params["scale"] = self.params["scale"] + 1
    return scaled(self, x)


def wrong_at_width_17(self, x):
    return scaled(self, x) + x.dtype.type(np.shape(x)[2:3] == (17,))


def write_input(self, x):
    if x.flags.writeable:
        x += 1
    return scaled(self, x)


def wait_for_another(self, x):
    self._set(last=x)
    time.sleep(0.01)
    return scaled(self, self.last)


def build_with_a_secret(self, input_shape, seed=0, dtype=np.float32):
    layer = Layer.build(self, input_shape, seed, dtype)
    layer._set(secret=layer.dtype.type(3))
    return layer


def backward_on_the_layer(self, x, rng=None):
    self._set(last=x)
    return scaled(self, x), lambda dy: gradients(self, self.last, dy)


def backward_that_works_once(self, x, rng=None):
    held = [x]
    return scaled(self, x), lambda dy: gradients(self, held.pop() if held else 0 * x, dy)


def backward(change):
    """Return a vjp whose gradients are changed by a function of (layer, x, dy, rng, dx, dscale)."""

    def vjp(self, x, rng=None):
        def changed(dy):
            dx, of_params = gradients(self, x, dy)
            return change(self, x, dy, rng, dx, of_params["scale"])

        return scaled(self, x), changed

    return vjp


MUTANTS = [
    ("config_round_trip", {"__post_init__": lambda self: self._set(shift=self.shift + 1)}, "back from its config, got"),
    ("build_once", {"forward": count_calls}, "expected the same bits from a second call, got"),
    (
        "build_once",
        {"build": lambda self, shape, seed=0, dtype=np.float32: Layer.build(self, shape, 0, dtype)},
        "expected a different scale from a different seed, got the same",
    ),
    (
        "output_shape",
        {"infer_shape": lambda self, shape: (*shape[:-1], shape[-1] + 1)},
        r"expected an output of shape \(1, 3, 4, 3\), got \(1, 3, 4, 2\)",
    ),
    (
        "output_shape",
        {"forward": lambda self, x: np.asfortranarray(scaled(self, x))},
        "a contiguous output, got",
    ),
    ("parameter_layout", {"n_params": property(lambda self: 0)}, "expected n_params 2, got 0"),
    ("both_dtypes", {"forward": lambda self, x: scaled(self, x).astype(float)}, "an output of float32, got float64"),
    (
        "both_dtypes",
        {"forward": lambda self, x: (scaled(self, x) / 64).round().astype(x.dtype) if x.itemsize < 8 else x / 64},
        "expected float32 within roundings, .*, of float64, got .* off",
    ),
    ("batch_independence", {"forward": lambda self, x: scaled(self, x - x.mean(axis=0))}, "alone and in a batch, got"),
    ("input_unchanged", {"forward": write_input}, "expected the input unchanged, got 48 of 48 values that differ"),
    ("input_layouts", {"__call__": lambda self, x: scaled(self, np.asarray(x))}, "same bits from .*, got float64 of"),
    (
        "nan_propagates",
        {"forward": lambda self, x: np.nan_to_num(scaled(self, x))},
        "expected NaN in every output that value 0 affects, got 1 of 1 without",
    ),
    (
        "empty_batch",
        {"forward": lambda self, x: scaled(self, x if len(x) else np.zeros((1, *x.shape[1:])))},
        "no frames",
    ),
    ("eight_python_threads", {"forward": wait_for_another}, "same bits from eight threads at once as from one, got"),
    (
        "number_of_threads",
        {"forward": lambda self, x: scaled(self, x) * get_num_threads()},
        "same bits on 1 threads",
    ),
    (
        "save_and_load",
        {"build": build_with_a_secret, "forward": lambda self, x: scaled(self, x) * vars(self).get("secret", 1)},
        "expected the same bits from a loaded model, got",
    ),
    ("plan_equals_model", {"__call__": lambda self, x: scaled(self, x) + x.dtype.type(1)}, "from a model as from its"),
    ("every_size", {"__call__": wrong_at_width_17}, r"from a model of \(3, 17, 2\) as from its layers, got"),
    ("same_output", {"vjp": lambda self, x, rng=None: (scaled(self, x) * x.dtype.type(2), None)}, "output of forward"),
    (
        "gradient_layout",
        {"vjp": backward(lambda self, x, dy, rng, dx, dscale: (dx, {}))},
        r"expected gradients of \['scale'\], got \[\]",
    ),
    (
        "gradient_layout",
        {"vjp": backward(lambda self, x, dy, rng, dx, dscale: (dx, {"scale": dscale.astype(float)}))},
        r"expected dscale as float32 of \(1, 2\), got float64 of \(1, 2\)",
    ),
    ("backward_again", {"vjp": backward_that_works_once}, "same bits of dscale from a second call of back"),
    ("eight_threads_backward", {"vjp": backward_on_the_layer}, "expected the same bits of dscale from eight threads"),
    (
        "number_of_threads_backward",
        {"vjp": backward(lambda self, x, dy, rng, dx, dscale: (dx / dx.dtype.type(get_num_threads()), {}))},
        "expected the same bits of dx for frames in later chunks, got",
    ),
    (
        "gradient",
        {"vjp": backward(lambda self, x, dy, rng, dx, dscale: (dx, {"scale": dscale / 3}))},
        "expected dscale along a direction as its central difference, .*, got",
    ),
    (
        "gradient_in_training",
        {"vjp": backward(lambda self, x, dy, rng, dx, dscale: (dx if rng is None else -dx, {"scale": dscale}))},
        "expected dx along a direction as its central difference, .*, got",
    ),
    (
        "adjoint",
        {"vjp": backward(lambda self, x, dy, rng, dx, dscale: (dx + 1, {"scale": dscale}))},
        r"expected <L x, dy> = -?\d+.0 as <x, L\* dy>, got -?\d+.0",
    ),
]


def test_a_correct_layer_passes_every_check():
    check_layer(scale_layer())
    check_layer(scale_layer()(shift=2.0), (2, 3))


@pytest.mark.parametrize(("name", "methods", "message"), MUTANTS, ids=[f"{name}" for name, _, _ in MUTANTS])
def test_a_check_finds_the_fault_that_it_is_meant_to_find(name, methods, message):
    check = next(check for check in layer_checks(scale_layer(**methods)) if check.name == name)
    with pytest.raises(AssertionError, match=f"^ScaleLayer: .*{message}"):
        check()
    with pytest.raises(AssertionError, match=r"^ScaleLayer: expected "):
        check_layer(scale_layer(**methods))


def test_every_check_has_a_fault_that_it_finds():
    assert {check.__name__ for check in (*CONTRACT, *GRADIENTS)} == {name for name, _, _ in MUTANTS}


PARALLEL = [ConvLayer, DenseLayer, PoolingLayer, DownsamplingLayer, ActivationLayer, FilterBankLayer]
PARALLEL_CHECKS = [  # the backward pass of a filter bank is NumPy's
    check
    for kind in PARALLEL
    for check in layer_checks(kind)
    if check.name == "number_of_threads" or (check.name == "number_of_threads_backward" and kind is not FilterBankLayer)
]


@pytest.mark.parametrize("check", PARALLEL_CHECKS, ids=str)
def test_a_check_of_threads_works_on_more_than_one_chunk(check, monkeypatch):
    helpers, submit = [], threads._submit

    def counted(work, times, n_threads):
        helpers.append(times)
        return submit(work, times, n_threads)

    monkeypatch.setattr(threads, "_submit", counted)
    check()
    assert max(helpers) > 0


def without_the_last(function, items):
    """Compute all chunks but the last, if there are several."""
    items = list(items)
    return [function(item) for item in items[: max(len(items) - 1, 1)]]


def each_as_the_first(function, items):
    """Compute the first chunk in the place of every other."""
    items = list(items)
    return [function(items[0]) for _ in items]


def only_the_first_on_two_threads(function, items):
    """Compute no chunk but the first if there are several threads."""
    items = list(items)
    return [function(item) for item in items[: 1 if get_num_threads() > 1 else None]]


@pytest.fixture
def memory_without_old_values():
    """Memory is overwritten when it is freed, by glibc's M_PERTURB (-6): it holds no values of a test before."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", lambda option, value: None)
    set_option(-6, 0xA5)
    yield
    set_option(-6, 0)


@pytest.fixture
def correct_positions_of_maxima(monkeypatch):
    """No mutant computes the positions of maxima: positions that nobody wrote lead to gradients outside their array."""
    located, correct = pool.locate_maxima, threads._map

    def locate(*arguments):
        with pytest.MonkeyPatch.context() as context:
            context.setattr(threads, "_map", correct)
            return located(*arguments)

    monkeypatch.setattr(pool, "locate_maxima", locate)


@pytest.mark.usefixtures("memory_without_old_values", "correct_positions_of_maxima")
@pytest.mark.parametrize("mutant", [without_the_last, each_as_the_first, only_the_first_on_two_threads])
@pytest.mark.parametrize("check", [check for check in PARALLEL_CHECKS if "-0-" in str(check)], ids=str)
def test_a_fault_in_the_order_or_the_number_of_chunks_is_found(check, mutant, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("framecnn.kernels")]:
        for name in {"ordered_map", "_map"} & vars(sys.modules[module]).keys():
            monkeypatch.setattr(sys.modules[module], name, mutant)
    with pytest.raises(AssertionError, match="expected the same bits"):
        check()


LINEAR = {
    "ConvLayer": {"x", "kernel", "bias"},
    "DenseLayer": {"x", "kernel", "bias"},
    "FilterBankLayer": set(),
    "DownsamplingLayer": {"x"},
    "FlatteningLayer": {"x"},
    "DropoutLayer": {"x"},
    "InputLayer": {"x"},
    "BatchNormLayer": {"x", "gamma", "beta"},
    "PaddingLayer": {"x"},
    "ResizingLayer": {"x"},
    "ScalingLayer": {"x", "scale", "offset"},
}


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind is not ParallelLayer])  # as linear as its branches
def test_a_layer_is_linear_in_the_arguments_that_its_definition_is_linear_in(kind):
    for case in kind.cases:
        layer = draw_params(kind(**case.settings).build(case.input_shape, dtype=np.float64), integers=True)
        expected = LINEAR.get(kind.__name__, set())
        if kind is PoolingLayer and layer.reduction == "average":
            expected = {"x"}
        values = {"x": draw_frames(layer, 3, integers=True), **layer.params}
        trainable = {name: values[name] for name in values if not name.startswith("moving")}
        assert set(linear_arguments(layer, trainable)) == expected & set(trainable)


def test_a_layer_without_a_backward_pass_is_checked_without_it():
    kind = scale_layer(vjp=Layer.vjp)
    names = [check.name for check in layer_checks(kind)]
    assert names == 2 * [check.__name__ for check in CONTRACT]
    check_layer(kind)


def test_checks_are_named_after_layer_example_and_check():
    checks = list(layer_checks(scale_layer()))
    assert str(checks[0]) == "ScaleLayer-0-config_round_trip"
    assert checks[0].description == "A layer equals the one made from its settings in JSON."
    assert str(checks[-1]) == "ScaleLayer-1-adjoint"
    assert len({str(check) for check in checks}) == len(checks)


def test_a_built_layer_is_checked_with_its_own_input_shape_and_not_changed():
    layer = ConvLayer(2, kernel_size=2).build((4, 3, 1), seed=7)
    kernel = layer.params["kernel"]
    assert {check.input_shape for check in layer_checks(layer)} == {(4, 3, 1)}
    check_layer(layer)
    assert layer.params["kernel"] is kernel


def test_what_cannot_be_checked_is_refused():
    message = "ScaleLayer: expected cases, the examples for tests, got none; add to the class: cases = (Case("
    with pytest.raises(SettingError, match=re.escape(message)):
        list(layer_checks(scale_layer(cases=())))
    with pytest.raises(ShapeError, match=r"DenseLayer: expected a built layer, got one without .* call build\(input_s"):
        list(layer_checks(DenseLayer(2)))


def test_pytest_gets_a_test_for_each_check():
    mark = parametrize_with_layer_checks([FlatteningLayer, DenseLayer(1).build((2,))])
    names, checks = mark.args
    assert names == "check"
    assert {check.subject for check in checks} == {"FlatteningLayer-0", "FlatteningLayer-1", "DenseLayer-0"}


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("hypothesis", shapes),
        ("hypothesis", frames),
        ("hypothesis", conv_cases),
        ("hypothesis", pool_cases),
        ("hypothesis", layers),
        ("hypothesis", models),
        ("hypothesis", labelled_features),
        ("pytest", lambda: parametrize_with_layer_checks([])),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package, use, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"package {package} is not installed; run: .*framecnn\[test\]"):
        use()
