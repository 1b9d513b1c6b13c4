"""Helpers of the tests of damaged and forged model files."""

import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
from textures import textures

from framecnn import DenseLayer, FormatError, FrameClassifier, InputLayer, Sequential, load, save


def write_models(folder):
    """Write a file of each kind of model, ``frames``, ``plain``, ``vectors`` and ``network``; return the folder."""
    frames, labels, groups = textures(4, (16, 20, 3))
    settings = {"frames": {"grid": (2, 2)}, "plain": {"projection": None, "clusters_per_class": 2}}
    for name, own in settings.items():
        FrameClassifier(n_filters=4, random_state=0, **own).fit(frames, labels, groups).save(folder / name)
    vectors = np.random.default_rng(0).normal(size=(24, 5))
    FrameClassifier(random_state=0).fit(vectors, labels, groups).save(folder / "vectors")
    save(Sequential([InputLayer((3,)), DenseLayer(2)]).build(), folder / "network")
    return folder


def refusal(path, content=None):
    """Return the message of the FormatError of loading a file, once `content` is written: one line with its name."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        load(path)
    message = str(error.value)
    assert message.startswith(f"{path.name}: ")
    assert "\n" not in message
    assert len(message) < 450
    return message.removeprefix(f"{path.name}: ")


@contextmanager
def little_memory():
    """Fail if the block allocates more than 4 MB."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 4 * 10**6
    finally:
        tracemalloc.stop()
