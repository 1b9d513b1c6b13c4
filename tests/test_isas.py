"""Kernels under every instruction set: layers and the features of a model agree with their definitions."""

import os
import subprocess
import sys

import numpy as np
import pytest
from spreading import exact_and_spread

import framecnn
from framecnn import FrameClassifier
from framecnn.kernels.jit import ISAS, current_isa

SIZES = [(240, 360, 3), (32, 32, 3), (97, 131, 1), (64, 83, 3)]
BLOCKS = {"avx512": "8 32", "avx2": "6 16", "neon": "6 16", "plain": "4 8"}  # pixels and filters of a register block
SCRIPT = """
import sys
import numpy as np
import framecnn
from agreement import CASES, built, expected, is_exact, rounding
from framecnn.kernels.jit import current_isa
from framecnn.kernels.codegen.microkernel import PIXELS, filter_block
from framecnn.testing.draws import draw_frames
for name, case in CASES.items():
    if name.split("-")[0] in ("ConvLayer", "DenseLayer", "FilterBankLayer"):
        for integers in (True, False):
            layer = built(case, np.float32, integers)
            x = draw_frames(layer, 3, integers)
            bound = 0 if integers and is_exact(layer) else rounding(layer, x)
            assert (np.abs(layer(x) - expected(layer, x)) <= bound).all(), name
            if integers and is_exact(layer):
                y, backward = layer.vjp(x)
                dy = np.random.default_rng(0).integers(-3, 4, y.shape).astype(y.dtype)
                dx, gradients = backward(dy)
                inner = np.vdot(y - layer(0 * x), dy)
                assert np.vdot(x, dx) == np.vdot(layer.params["kernel"], gradients["kernel"]) == inner, name
print(current_isa(), PIXELS, filter_block(np.float32))

folder, n = sys.argv[1], int(sys.argv[2])
for number in range(n):
    networks = framecnn.load(f"{folder}/{number}.safetensors").features_.networks_
    x = np.load(f"{folder}/{number}.npy")
    np.savez(f"{folder}/{number}-{current_isa()}.npz", *[network.predict(x) for network in networks])
"""


def run(isa, *command):
    """Return the finished process of a new Python under an instruction set; its folder is that of the tests."""
    return subprocess.run(
        [sys.executable, "-c", *command],
        cwd=os.path.dirname(__file__),
        env=os.environ | {"FRAMECNN_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder of classifiers for frames of several sizes, with frames for each."""
    folder = tmp_path_factory.mktemp("models")
    for number, shape in enumerate(SIZES):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (8, -(-shape[0] // 4), -(-shape[1] // 4), shape[2]), np.uint8)
        frames = np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2)[:, : shape[0], : shape[1]]
        classifier = FrameClassifier(n_filters=24, random_state=0).fit(frames, np.arange(8) % 2)
        classifier.save(folder / f"{number}.safetensors")
        np.save(folder / f"{number}.npy", frames[:2])
    return folder


@pytest.fixture(scope="module")
def defined(models):
    """Return the features of every network of every model by definition, and their rounding bounds."""
    found = []
    for number in range(len(SIZES)):
        networks = framecnn.load(models / f"{number}.safetensors").features_.networks_
        frames = np.load(models / f"{number}.npy")
        found.append([exact_and_spread(network.layers, frames) for network in networks])
    return found


@pytest.mark.parametrize("isa", ISAS)
def test_layers_and_features_agree_with_their_definitions_under_every_instruction_set(isa, models, defined):
    done = run(isa, SCRIPT, str(models), str(len(SIZES)))
    assert (done.stdout, done.stderr) == (f"{isa} {BLOCKS[isa]}\n", "")
    for number, networks in enumerate(defined):
        with np.load(models / f"{number}-{isa}.npz") as features:
            for (exact, spread), given in zip(networks, features.values(), strict=True):
                assert (np.abs(given - exact) <= spread).all(), (SIZES[number], np.abs(given - exact).max())
                assert spread.max() < 0.02 * np.abs(exact).max(), "a bound so wide that a missing column would pass"


def test_this_machine_has_one_of_the_instruction_sets():
    assert current_isa() in ISAS


def test_an_unknown_instruction_set_is_refused():
    done = run("nonsense", "import framecnn.kernels")
    assert done.returncode == 1
    message = "FRAMECNN_ISA: expected one of avx512, avx2, neon, plain, got 'nonsense'; unset it"
    assert done.stderr.endswith(f"framecnn.errors.SettingError: {message}\n")
