"""One model under every instruction set: its features agree within the bounds of rounding."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from spreading import exact_and_spread

import framecnn
from framecnn import FrameClassifier
from framecnn.kernels.jit import ISAS, current_isa

SIZES = [(240, 360, 3), (32, 32, 3), (97, 131, 1), (64, 83, 3)]
FEATURES = """
import sys
import numpy as np
import framecnn
from framecnn.kernels.jit import current_isa
folder, isa = sys.argv[1:]
assert current_isa() == isa
for number in range(int(folder.rsplit("-", 1)[1])):
    networks = framecnn.load(f"{folder}/{number}.safetensors").features_.networks_
    x = np.load(f"{folder}/{number}.npy")
    np.savez(f"{folder}/{number}-{isa}.npz", *[network.predict(x) for network in networks])
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder of classifiers for frames of several sizes, with frames for each."""
    folder = tmp_path_factory.mktemp("models") / f"of-{len(SIZES)}"
    folder.mkdir()
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
def test_features_agree_with_the_definition_under_every_instruction_set(isa, models, defined):
    done = subprocess.run(
        [sys.executable, "-c", FEATURES, str(models), isa],
        cwd=Path(__file__).parent,
        env=os.environ | {"FRAMECNN_ISA": isa},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for number, networks in enumerate(defined):
        with np.load(models / f"{number}-{isa}.npz") as features:
            for (exact, spread), given in zip(networks, features.values(), strict=True):
                assert (np.abs(given - exact) <= spread).all(), (SIZES[number], np.abs(given - exact).max())
                assert spread.max() < 0.02 * np.abs(exact).max(), "a bound so wide that a missing column would pass"


def test_this_machine_has_one_of_the_instruction_sets():
    assert current_isa() in ISAS
