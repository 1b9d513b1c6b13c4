"""Write a layer of your own and test it: settings, shapes, a forward and a backward pass.

In a test file, with pytest and Hypothesis::

    @parametrize_with_layer_checks([PReluLayer])
    def test_my_layer(check):
        check()

    @given(models([PReluLayer, ConvLayer]))
    def test_my_layer_in_any_network(model): ...
"""

from dataclasses import dataclass

import numpy as np

from framecnn import ConvLayer, InputLayer, Layer, Sequential
from framecnn.layers import Case, Param
from framecnn.testing import check_layer, layer_checks


@dataclass(frozen=True)
class PReluLayer(Layer):
    """A learned slope for negative values: x, or slope * x below zero (He et al., ICCV 2015)."""

    shared: bool = False  # one slope for all channels

    cases = (Case({}, (4, 5, 3)), Case({"shared": True}, (6,)))

    def infer_shape(self, input_shape):
        return input_shape

    def param_specs(self, input_shape):
        return {"slope": Param((1,) if self.shared else input_shape[-1:], "zeros")}

    def forward(self, x):
        return np.where(x < 0, self.params["slope"] * x, x)

    def vjp(self, x, rng=None):
        slope = self.params["slope"]

        def backward(dy):
            below = np.minimum(x, 0) * dy
            dslope = below.reshape(-1, x.shape[-1]).sum(axis=0)
            return np.where(x < 0, slope * dy, dy), {"slope": dslope.sum(keepdims=True) if self.shared else dslope}

        return self.forward(x), backward


for check in layer_checks(PReluLayer):
    check()
    print(check, "holds:", check.description)

check_layer(PReluLayer(shared=True), (3, 3, 2))  # all checks at once
model = Sequential([InputLayer((6, 6, 1)), ConvLayer(2, kernel_size=3), PReluLayer()]).build(seed=0)
print(model.predict(np.ones((1, 6, 6, 1))).shape)
