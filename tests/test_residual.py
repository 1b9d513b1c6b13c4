"""The residual network: its shape, and that it learns."""

import numpy as np
import pytest

from framecnn import ParallelLayer, SettingError
from framecnn.networks.residual import residual_network
from framecnn.training.optimizers import Adam


def test_its_stages_have_the_sizes_of_mlperf_tiny():
    network = residual_network((32, 32, 3), 10)
    assert network.summary().n_params == 78_714
    assert network.output_shape == (10,)
    outputs = [output for _, layer, _, output in network._walk() if isinstance(layer, ParallelLayer)]
    assert outputs == [(32, 32, 16), (16, 16, 32), (8, 8, 64)]


def test_blocks_after_the_first_of_a_stage_pass_their_input_on():
    network = residual_network((16, 16, 3), 4, filters=(8, 12), blocks=2)
    blocks = [layer for layer in network.layers if isinstance(layer, ParallelLayer)]
    assert [len(block.branches[1]) for block in blocks] == [0, 0, 2, 0]


@pytest.mark.parametrize("blocks", [0, 1.5, "2"])
def test_the_number_of_blocks_is_a_positive_integer(blocks):
    with pytest.raises(SettingError, match="residual_network: expected blocks as"):
        residual_network((16, 16, 3), 4, blocks=blocks)


def test_it_learns_which_half_is_brighter():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 200, (64, 12, 12, 3)).astype(np.uint8)
    labels = np.arange(64) % 2
    for frame, label in zip(frames, labels, strict=True):
        frame[:, 6 * label : 6 * label + 6] += 50
    network = residual_network((12, 12, 3), 2, filters=(4, 8), scale=1 / 255).build(0)
    history = network.fit(frames, labels, epochs=12, batch_size=16, optimizer=Adam(0.01), progress=None)
    assert history.loss[-1] < history.loss[0] / 3
