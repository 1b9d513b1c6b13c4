"""Compilation of all kernels at once, so that later runs need not compile any."""

import numpy as np

from framecnn.kernels import jit, linalg
from framecnn.layers import ConvLayer, FilterBankLayer, Layer, ParallelLayer, PoolingLayer, ScalingLayer
from framecnn.networks.fusion import training_passes
from framecnn.networks.prediction import PredictionPlan
from framecnn.training.optimizers import SGD, Adam

__all__ = ["warm_up"]


def warm_up() -> int:
    """Run every kernel once in float32 and return the number of compiled kernels in the cache.

    Returns
    -------
    int
        0 if there is no folder for compiled kernels.

    Examples
    --------
    >>> warm_up() >= 0
    True
    """
    for layer_class in list(Layer.registry.values()):
        for case in layer_class.cases:
            layer = layer_class(**case.settings).build(case.input_shape)
            layer(np.zeros((1, *case.input_shape)))
            y, backward = layer.vjp(np.zeros((1, *case.input_shape), np.float32), np.random.default_rng(0))
            backward(y)
    ConvLayer(512, kernel_size=3, algorithm="winograd4").build((6, 6, 64))(np.zeros((1, 6, 6, 64)))  # large weights
    bank = FilterBankLayer(4, kernel_size=3).build((9, 9, 3))
    pooling = PoolingLayer(2, mode="adaptive_average")
    PredictionPlan.of([bank, pooling], bank.input_shape).run(np.zeros((1, 9, 9, 3)), bank.dtype)
    layers = [ConvLayer(4, kernel_size=3).build((9, 9, 3)), PoolingLayer(2)]
    for step in training_passes(layers, (9, 9, 3)):
        y, backward = step.vjp(np.zeros((1, 9, 9, 3), np.float32))
        backward(y)
    branches = [
        ParallelLayer(((ConvLayer(3, kernel_size=1),), ()), merge=merge).build((4, 4, 3))
        for merge in ("add", "multiply", "concatenate")
    ]
    plan = PredictionPlan.of([*branches, ScalingLayer().build((4, 4, 6))], (4, 4, 3))
    for _ in range(3):  # the second records a program, the third runs it
        plan.run(np.zeros((1, 4, 4, 3)), np.dtype(np.float32))
    expanded = [ConvLayer(64, kernel_size=1).build((64, 64, 3)), ConvLayer(64, kernel_size=3, groups=64)]
    expanded[1].build((64, 64, 64))
    PredictionPlan.of(expanded, (64, 64, 3)).run(np.zeros((1, 64, 64, 3)), np.dtype(np.float32))
    for optimizer in (SGD(), Adam()):
        optimizer.step(tuple(np.zeros((1 + len(optimizer.slots), 1), np.float32)), *np.zeros((2, 1), np.float32))
    linalg.squared_distances(np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32))
    return jit.n_compiled()
