"""Writes one small file of each kind in the current format, and what it predicts: ``python tests/make_fixtures.py``.

Run it once for each new number of the format, never again: the files show that later versions of framecnn still read
what this one wrote.
"""

import json
from pathlib import Path

import numpy as np

from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    FrameClassifier,
    InputLayer,
    PoolingLayer,
    Sequential,
    save,
)
from framecnn.storage.container import FORMAT
from framecnn.training.loop import fit
from framecnn.training.optimizers import Adam
from framecnn.training.schedules import CosineDecay

FIXTURES = Path(__file__).parent / "fixtures"


def stripes():
    """Return 12 frames (12, 16, 3) of horizontal and vertical stripes, and their labels."""
    rows, columns = np.arange(12)[:, None, None], np.arange(16)[None, :, None]
    colours = np.array([0, 40, 80])
    frames = [(37 * (rows if n % 2 else columns) + 11 * n + colours) % 256 + 0 * (rows + columns) for n in range(12)]
    return np.array(frames, np.uint8), np.array(["vertical", "horizontal"])[np.arange(12) % 2]


def network():
    """Return a network of small integers: on frames it computes integers, which are exact on every CPU."""
    model = Sequential(
        [
            InputLayer((12, 16, 3)),
            ConvLayer(2, kernel_size=3, padding="same"),
            ActivationLayer("relu"),
            PoolingLayer(2),
            FlatteningLayer(),
            DenseLayer(2),
        ]
    )
    shapes = {name: spec.shape for name, spec in model.param_specs().items()}
    return model.load_state_dict({name: np.arange(np.prod(s)).reshape(s) % 5 - 2.0 for name, s in shapes.items()})


def train(**settings):
    """Return a tiny trained network and its history."""
    frames, labels = stripes()
    layers = [InputLayer((12, 16, 3), scale=1 / 255), PoolingLayer(4), FlatteningLayer(), DenseLayer(2)]
    model = Sequential(layers).build(0)
    codes = (labels == "vertical").astype(int)
    optimizer = Adam(CosineDecay(0.001, 20))
    history = fit(model, frames, codes, epochs=2, batch_size=4, optimizer=optimizer, progress=None, **settings)
    return model, history


def main():
    folder = FIXTURES / f"format_{FORMAT}"
    folder.mkdir(parents=True)
    frames, labels = stripes()
    save(network(), folder / "network.safetensors")
    classifier = FrameClassifier(n_filters=4, random_state=0).fit(frames, labels)
    classifier.save(folder / "classifier.safetensors")
    _, history = train(checkpoint=folder / "checkpoint.safetensors")
    expected = {
        "outputs": network().predict(frames).tolist(),
        "labels": classifier.predict(frames).tolist(),
        "features": classifier.features_.networks_[0].predict(frames).tolist(),
        "losses": history.loss,
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
