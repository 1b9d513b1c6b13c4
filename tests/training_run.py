"""A small training run that uses every source of randomness; as a script it takes a checkpoint FILE to resume from."""

import sys

import numpy as np
from textures import CLASSES, textures

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FlatteningLayer,
    InputLayer,
    PoolingLayer,
    Sequential,
)
from framecnn.data import Augmentation
from framecnn.training.loop import fit
from framecnn.training.optimizers import AdamW
from framecnn.training.schedules import CosineDecay, WarmUp

FRAMES, LABELS, _ = textures(8, (12, 16, 3))
CODES = np.searchsorted(CLASSES, LABELS)
TRAIN, VALIDATION = (FRAMES[:36], CODES[:36]), (FRAMES[36:], CODES[36:])


def network(dtype=np.float32):
    layers = [
        InputLayer((12, 16, 3), scale=1 / 255),
        ConvLayer(8, kernel_size=3, padding="same"),
        BatchNormLayer(momentum=0.8),
        ActivationLayer("relu"),
        PoolingLayer(2),
        FlatteningLayer(),
        DenseLayer(16),
        ActivationLayer("relu"),
        DropoutLayer(0.3),
        DenseLayer(3),
    ]
    return Sequential(layers).build(0, dtype)


def run(model=None, train=TRAIN, **settings):
    """Train; return the model and its history."""
    model = network() if model is None else model
    own = {
        "epochs": 6,
        "batch_size": 8,
        "optimizer": AdamW(WarmUp(CosineDecay(0.01, 30), 5)),
        "validation_data": VALIDATION,
        "augment": Augmentation(flip=True, shift=0.1, brightness=0.1, cutout=0.2),
        "seed": 3,
        "progress": None,
    }
    return model, fit(model, *train, **own | settings)


if __name__ == "__main__":
    run(checkpoint=sys.argv[1], resume=True, progress=lambda _: print("step", flush=True))
