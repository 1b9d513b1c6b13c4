"""A network of layers in sequence: build it, print it, predict with it, get and set its weights."""

import numpy as np

from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    InputLayer,
    PoolingLayer,
    Sequential,
)

model = Sequential(
    [
        InputLayer(shape=(240, 360, 3), scale=1 / 255),
        ConvLayer(filters=32, kernel_size=3, padding="same"),
        ActivationLayer("relu"),
        PoolingLayer(pool_size=2),
        ConvLayer(filters=64, kernel_size=3, padding="same"),
        ActivationLayer("relu"),
        PoolingLayer(pool_size=4),
        FlatteningLayer(),
        DenseLayer(units=8),
        ActivationLayer("softmax"),
    ]
).build(seed=0)
print(model.summary())

frames = np.random.default_rng(0).integers(0, 256, (3, 240, 360, 3), dtype=np.uint8)
print(model.predict(frames).sum(axis=1))

weights = model.state_dict()
print({name: value.shape for name, value in weights.items()})
model.load_state_dict(weights)
