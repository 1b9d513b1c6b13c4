"""The checks of a layer's output: functions whose name and first line say what is checked."""

import copy
import json
import math
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from framecnn.errors import ShapeError
from framecnn.kernels.threads import SHARED_WORK
from framecnn.layers import ActivationLayer, InputLayer, Layer, PoolingLayer
from framecnn.layers.base import DTYPES
from framecnn.networks.sequential import Sequential
from framecnn.serialization import load, save
from framecnn.testing.draws import difference, draw_frames, draw_params, same_bits
from framecnn.thread_count import num_threads
from framecnn.typing import Array

__all__ = ["CONTRACT", "Check", "Make", "expect", "expect_same", "n_roundings", "repeats_for_chunks"]

Make = Callable[..., Layer]
"""``make(dtype=float32, integers=False)`` returns a newly built layer with parameters from ``draw_params``."""

Check = Callable[[Make], None]

LONGEST = 40
"""Pixels along an axis in :func:`every_size`: five times the largest register block."""


def expect(holds: bool, layer: Layer, expected: str, received: object) -> None:
    """Raise an AssertionError with what was expected and what was received, unless `holds`.

    Raises
    ------
    AssertionError

    Examples
    --------
    >>> expect(False, InputLayer((2,)), "an output of shape (2,)", (3,))
    Traceback (most recent call last):
    AssertionError: InputLayer: expected an output of shape (2,), got (3,)
    """
    if not holds:
        raise AssertionError(f"{type(layer).__name__}: expected {expected}, got {received}")


def expect_same(layer: Layer, what: str, received: Array, expected: Array) -> None:
    """Raise an AssertionError with the difference, unless two arrays are equal bit for bit.

    Raises
    ------
    AssertionError

    Examples
    --------
    >>> expect_same(InputLayer((2,)), "same bits alone and in a batch", np.zeros(2), np.zeros(2))
    """
    if not same_bits(received, expected):
        expect(False, layer, what, difference(received, expected))


def n_roundings(layer: Layer) -> int:
    """Return an upper bound of the roundings in one output value: the number of inputs and parameters, plus two.

    Examples
    --------
    >>> n_roundings(InputLayer((2,)).build((2,)))
    4
    """
    return math.prod(layer.input_shape) + layer.n_params + 2


def repeats_for_chunks(layer: Layer, n_frames: int) -> int:
    """Return how often `n_frames` must be repeated for kernels to work on at least two chunks.

    More than SHARED_WORK multiply-adds are shared. Kernels count at least one per input value; Winograd counts a
    quarter of the products or more.

    Examples
    --------
    >>> repeats_for_chunks(InputLayer((1000,)).build((1000,)), 10)
    100
    """
    work = max(math.prod(layer.input_shape), layer.multiply_adds(layer.input_shape) / 4)
    return math.ceil(2 * SHARED_WORK / (work * n_frames))


def config_round_trip(make: Make) -> None:
    """A layer equals the one made from its settings in JSON."""
    layer = make()
    again = Layer.from_config(json.loads(json.dumps(layer.config)))
    expect(again == layer, layer, f"{layer!r} back from its config", repr(again))
    expect(hash(again) == hash(layer), layer, "an equal hash after the round trip", hash(again))
    expect(repr(again) == repr(layer), layer, f"the repr {layer!r} back from its config", repr(again))


def build_once(make: Make) -> None:
    """The seed determines the parameters, and calls change neither parameters nor settings."""
    layer = make()
    x, shape, config = draw_frames(layer, 2), layer.input_shape, layer.config
    before = {name: value.copy() for name, value in layer.params.items()}
    y = layer(x)
    expect_same(layer, "the same bits from a second call", layer(x), y)
    for name, value in before.items():
        expect_same(layer, f"{name} unchanged by calls", layer.params[name], value)
    expect(layer.config == config, layer, f"settings unchanged by calls, {config}", layer.config)
    first, again, other = (copy.copy(layer).build(shape, seed) for seed in (3, 3, 4))
    for name, spec in layer.param_specs(shape).items():
        expect_same(layer, f"the same {name} from the same seed", again.params[name], first.params[name])
        drawn = spec.initializer not in ("zeros", "ones")
        differs = not same_bits(other.params[name], first.params[name])
        expect(differs or not drawn, layer, f"a different {name} from a different seed", "the same")


def output_shape(make: Make) -> None:
    """The output is contiguous and has the shape that infer_shape returns."""
    layer = make()
    shape = layer.infer_shape(layer.input_shape)
    expect(layer.output_shape == shape, layer, f"output_shape as infer_shape returns it, {shape}", layer.output_shape)
    for n in (1, 3):
        y = layer(draw_frames(layer, n))
        expect(y.shape == (n, *shape), layer, f"an output of shape {(n, *shape)}", y.shape)
        expect(y.flags.c_contiguous, layer, "a contiguous output", f"strides {y.strides}")


def parameter_layout(make: Make) -> None:
    """Parameters have the names, the shapes and the dtype that param_specs returns."""
    for dtype in DTYPES:
        layer = make(dtype)
        specs = {name: spec.shape for name, spec in layer.param_specs(layer.input_shape).items()}
        shapes = {name: value.shape for name, value in layer.params.items()}
        expect(list(shapes.items()) == list(specs.items()), layer, f"the parameters {specs}, in that order", shapes)
        for name, value in layer.params.items():
            expect(value.dtype == dtype, layer, f"{name} of {dtype}", value.dtype)
            expect(value.flags.c_contiguous, layer, f"{name} contiguous", f"strides {value.strides}")
        n_params = sum(value.size for value in layer.params.values())
        expect(layer.n_params == n_params, layer, f"n_params {n_params}", layer.n_params)


def both_dtypes(make: Make) -> None:
    """The output has the layer's dtype, and float32 differs from float64 only by rounding.

    The effect of rounding inputs and parameters once is measured in float64, along random signs. A sum of n terms in
    float32 is the exact sum of terms that are each off by at most n roundings.
    """
    exact, rounded = (make(dtype) for dtype in (np.float64, np.float32))
    x = draw_frames(rounded, 3)
    y, z = exact(x), rounded(x)
    for layer, output in ((exact, y), (rounded, z)):
        expect(output.dtype == layer.dtype, layer, f"an output of {layer.dtype}", output.dtype)
    rng, eps, moved = np.random.default_rng(8), np.finfo(np.float32).eps, 0.0
    for _ in range(4):
        nearby = make(np.float64)
        nearby.params.update({name: _rounded_once(value, rng) for name, value in nearby.params.items()})
        moved = max(moved, float(np.abs(nearby(_rounded_once(x.astype(np.float64), rng)) - y).max()))
    error, allowed = np.abs(y - z).max(), n_roundings(exact) * (moved + eps * np.abs(y).max())
    expect(bool(error <= allowed), exact, f"float32 within roundings, {allowed:.1e}, of float64", f"{error:.1e} off")


def _rounded_once(values: Array, rng: np.random.Generator) -> Array:
    """Return float64 values moved by the spacing of float32, up or down at random."""
    moved: Array = values * (1 + np.finfo(np.float32).eps * rng.choice([-1.0, 1.0], values.shape))
    return moved


def batch_independence(make: Make) -> None:
    """The output of a frame is the same bit for bit alone, in any batch and at any position in it."""
    for dtype in DTYPES:
        layer = make(dtype)
        x = draw_frames(layer, 11)
        y = layer(x)
        for i in range(len(x)):
            expect_same(layer, f"the same bits for frame {i} alone and in a batch", layer(x[i : i + 1])[0], y[i])
        expect_same(layer, "the same bits for frames 2 to 8 in a smaller batch", layer(x[2:9]), y[2:9])
        expect_same(layer, "the same bits in reverse order", layer(x[::-1]), y[::-1].copy())


def input_unchanged(make: Make) -> None:
    """The input is not written to, and may be read-only."""
    layer = make()
    x = draw_frames(layer, 2)
    before = x.copy()
    y = layer(x)
    expect_same(layer, "the input unchanged", x, before)
    x.flags.writeable = False
    expect_same(layer, "the same bits from a read-only input", layer(x), y)


def input_layouts(make: Make) -> None:
    """The output depends neither on the memory layout of the input nor on its dtype."""
    layer = make()
    x = draw_frames(layer, 4, integers=True)
    y = layer(x)
    inputs = {
        "every other frame of an array": np.repeat(x, 2, axis=0)[::2],
        "an array in Fortran's order": np.asfortranarray(x),
        "uint8": x.astype(np.uint8),
        "float64": x.astype(np.float64),
        "lists": x.tolist(),
    }
    for name, value in inputs.items():
        expect_same(layer, f"the same bits from {name}", layer(value), y)


def nan_propagates(make: Make) -> None:
    """NaN in the input reaches every output value that the input value affects, and no other frame."""
    layer = make()
    x = draw_frames(layer, 3)
    y = layer(x)
    size = x[1].size
    for index in sorted({0, size // 3, size // 2, size - 1}):
        reached = np.zeros(layer.output_shape, bool)
        for value in (-900, 900, np.nan):
            changed = x.copy()
            changed[1].flat[index] = value
            z = layer(changed)
            for other in (0, 2):
                expect_same(layer, f"frame {other} unchanged when frame 1 holds {value}", z[other], y[other])
            if value == value:
                reached |= z[1] != y[1]
        lost = int((reached & ~np.isnan(z[1])).sum())
        expect(not lost, layer, f"NaN in every output that value {index} affects", f"{lost} of {reached.sum()} without")


def empty_batch(make: Make) -> None:
    """A batch of no frames has an output of no frames."""
    for dtype in DTYPES:
        layer = make(dtype)
        y = layer(draw_frames(layer, 0))
        expect((y.shape, y.dtype) == ((0, *layer.output_shape), dtype), layer, f"no frames of {dtype}", y)


def eight_python_threads(make: Make) -> None:
    """Eight threads may call one layer at once."""
    layer = make()
    batches = [draw_frames(layer, 3) + number for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(layer, batches))
    for x, y in zip(batches, results, strict=True):
        expect_same(layer, "the same bits from eight threads at once as from one", y, layer(x))


def number_of_threads(make: Make) -> None:
    """The output is the same bit for bit for any number of threads, in the first and in later chunks of a batch."""
    layer = make()
    x = draw_frames(layer, 11)
    repeats = repeats_for_chunks(layer, len(x))
    y, batch = np.concatenate([layer(x)] * repeats), np.concatenate([x] * repeats)
    # the second batch is reversed, else memory that is never written could hold the right values of the first call
    for number, order in ((1, 1), (2, -1)):
        with num_threads(number):
            result = layer(batch[::order])[::order]
        expect_same(layer, f"the same bits on {number} threads for frames in later chunks", result, y)


def save_and_load(make: Make) -> None:
    """A model with the layer predicts the same, bit for bit, after it is saved and loaded."""
    for dtype in DTYPES:
        layer = make(dtype)
        model = Sequential([InputLayer(layer.input_shape).build(layer.input_shape, dtype=dtype), layer])
        x = draw_frames(layer, 2)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.safetensors")
            save(model, path)
            loaded = load(path)
        expect(loaded.layers[1] == layer, layer, f"{layer!r} back from a file", repr(loaded.layers[1]))
        expect_same(layer, "the same bits from a loaded model", loaded.predict(x), model.predict(x))


def plan_equals_model(make: Make) -> None:
    """A model with the layer predicts what its layers compute one by one."""
    for dtype in DTYPES:
        layer = make(dtype)
        chain = [InputLayer(layer.input_shape), layer, ActivationLayer("relu")]
        if len(layer.output_shape) == 3:
            chain.append(PoolingLayer(1, mode="adaptive_average"))
        y = x = draw_frames(layer, 3)
        for step in chain:
            y = (step if step is layer else step.build(y.shape[1:], dtype=dtype))(y)
        expect_same(layer, "the same bits from a model as from its layers", Sequential(chain).predict(x), y)


def every_size(make: Make) -> None:
    """A model with the layer predicts what its layers compute one by one, at every height and width.

    Kernels compute several pixels at once, so that a fault may occur at one width in ten only. All sizes up to several
    register blocks are tried, except those that the layer refuses.
    """
    layer = make()
    if len(layer.input_shape) != 3:
        return
    height, width, channels = layer.input_shape
    sizes = range(1, LONGEST + 1)
    for shape in [*((height, size, channels) for size in sizes), *((size, width, channels) for size in sizes)]:
        resized = copy.copy(layer)
        try:
            draw_params(resized.build(shape))
        except ShapeError:
            continue
        after: Layer = ActivationLayer("relu")
        if len(resized.output_shape) == 3:
            after = PoolingLayer((2, 3), mode="adaptive_average")
        x = draw_frames(resized, 1)
        separate = after.build(resized.output_shape)(resized(x))
        model = Sequential([InputLayer(shape).build(shape), resized, after])
        expect_same(layer, f"the same bits from a model of {shape} as from its layers", model.predict(x), separate)


CONTRACT: tuple[Check, ...] = (
    config_round_trip,
    build_once,
    output_shape,
    parameter_layout,
    both_dtypes,
    batch_independence,
    input_unchanged,
    input_layouts,
    nan_propagates,
    empty_batch,
    eight_python_threads,
    number_of_threads,
    save_and_load,
    plan_equals_model,
    every_size,
)
"""All checks, the most basic first."""
