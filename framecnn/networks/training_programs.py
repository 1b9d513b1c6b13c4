"""Training steps without Python between their kernels: forward and backward pass of a network, recorded once."""

import copy
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from framecnn.kernels.buffers import take_free
from framecnn.kernels.program import ProgramPool, Recording
from framecnn.layers import Backward, InputLayer, Layer
from framecnn.layers.chain import layer_names
from framecnn.networks.fusion import training_passes
from framecnn.networks.passes import vjp_through
from framecnn.typing import Array

__all__ = ["TrainingProgram", "TrainingPrograms"]

MOST_BYTES = 512 * 1024 * 1024
"""Bytes of the programs of a network: about the maps of 128 frames of 32 x 32 in a small residual network."""


class TrainingProgram:
    """The kernels of forward and backward pass for batches of one shape, with memory and parameters of their own.

    Parameters
    ----------
    layers : sequence of Layer
        Built layers; the first is an InputLayer, whose pass is computed in Python.
    lowest : int
        The index of the first layer with parameters.
    x : (n, *input_shape) array
        A batch of the shape.

    Attributes
    ----------
    is_valid : bool
        Whether :meth:`vjp` computes the same as the layers do.
    """

    def __init__(self, layers: Sequence[Layer], lowest: int, x: Array):
        self._layers = [_with_own_parameters(layer) for layer in layers]
        passes = training_passes(self._layers, self._layers[0].input_shape)[1:]
        self.is_valid = type(layers[0]) is InputLayer and all(step.only_kernels for step in passes)
        if self.is_valid:
            self._memory = take_free()
            self._forward, self._backward = Recording(self._memory), Recording(self._memory)
            self._x = np.array(self._layers[0].forward(x))
            with self._forward.recorded():
                rng = np.random.default_rng(0)  # means training; kernels draw nothing
                self._y, backward = vjp_through(passes, layer_names(self._layers), self._x, rng, lowest)
            self._dy = np.zeros_like(self._y)
            with self._backward.recorded():
                _, self._gradients = backward(self._dy)
            self._held = backward  # and with it the maps
            self.is_valid = self._forward.is_valid and self._backward.is_valid

    @property
    def nbytes(self) -> int:
        """The bytes of the memory that the program computes in."""
        return self._x.nbytes + sum(buffer.size for buffer in self._memory)

    def vjp(self, layers: Sequence[Layer], x: Array) -> tuple[Array, Backward]:
        """Return the output of layers like the first, with other parameters, and a function of the gradients.

        The function returns None as dx. It may be called until the next call of this method.
        """
        for own, layer in zip(self._layers, layers, strict=True):
            for name, value in layer.params.items():
                array = own.params[name]
                array.flags.writeable = True
                array[...] = value
                array.flags.writeable = False
        self._x[...] = layers[0].forward(x)
        self._forward.run()

        def backward(dy: Array) -> tuple[Any, dict[str, Array]]:
            self._dy[...] = dy
            self._backward.run()
            return None, {name: value.copy() for name, value in self._gradients.items()}

        return self._y.copy(), backward


class TrainingPrograms:
    """The training programs of a network, one or more for each shape of a batch that is trained on again.

    Any number of threads may call it: each takes a program of its own, until its backward is no longer referred to.
    """

    def __init__(self) -> None:
        self._pool: ProgramPool[TrainingProgram] = ProgramPool(MOST_BYTES)

    def vjp(self, layers: Sequence[Layer], lowest: int, x: Array) -> tuple[Array, Backward] | None:
        """Return what :meth:`TrainingProgram.vjp` does; None if there is no program for the shape of x."""
        key = x.shape, x.dtype
        program = self._pool.take(key, lambda: TrainingProgram(layers, lowest, x))
        if program is None:
            return None
        y, backward = program.vjp(layers, x)
        weakref.finalize(backward, self._pool.give_back, key, program).atexit = False
        return y, backward


def _with_own_parameters(layer: Layer) -> Layer:
    """Return a copy of a built layer with arrays of its own as parameters, which branches share."""
    values = {name: value.copy() for name, value in layer.params.items()}
    for value in values.values():
        value.flags.writeable = False
    return copy.copy(layer).assign(layer.input_shape, values, layer.dtype)
