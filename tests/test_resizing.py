"""ResizingLayer: at every size, and against PyTorch and Pillow."""

from fractions import Fraction

import numpy as np
import pytest
from agreement import expected, rounding
from gradient_bounds import defined, gradients_for, rounding_backward
from PIL import Image

from framecnn import InputLayer, ResizingLayer, Sequential, ShapeError
from framecnn.kernels import triangle_taps
from framecnn.testing.draws import draw_frames

SIZES = [1, 2, 3, 5, 8, 13, 40, 77]
PAIRS = [((270, 480), (224, 224)), ((32, 33), (224, 100)), ((7, 9), (4, 5)), ((100, 3), (1, 17)), ((5, 6), (5, 6))]


@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
@pytest.mark.parametrize("size", SIZES)
def test_resizing_and_its_gradient_are_within_their_bounds_at_every_size(size, axis):
    for length in range(1, 71):
        shape = (length, 3, 2) if axis == 0 else (3, length, 1 + length % 18)
        layer = ResizingLayer((size, 4) if axis == 0 else (4, size)).build(shape)
        x = draw_frames(layer, 1)
        assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all(), shape
        y, backward = layer.vjp(x)
        dy = gradients_for(y)
        wanted, _ = defined(layer, x, dy)
        assert (np.abs(backward(dy)[0] - wanted) <= rounding_backward(layer, x, dy)[0]).all(), shape


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_weights_of_every_pixel_sum_to_one_exactly(dtype):
    for length in [*range(1, 50), 1000]:
        for size in SIZES:
            starts, stops, weights = triangle_taps(length, size, np.dtype(dtype))
            assert (starts < stops).all()
            assert {sum(map(Fraction, row)) for row in weights.tolist()} == {1}, (length, size)


def test_a_frame_of_the_same_size_is_unchanged():
    layer = ResizingLayer((6, 7)).build((6, 7, 3))
    x = draw_frames(layer, 2)
    np.testing.assert_array_equal(layer(x), x)


@pytest.mark.parametrize(("frame", "size"), PAIRS, ids=str)
def test_frames_are_those_of_pillow_within_one_grey_level(frame, size):
    x = np.random.default_rng(0).integers(0, 256, (*frame, 3), np.uint8)
    resized = Image.fromarray(x).resize(size[::-1], Image.Resampling.BILINEAR)
    y = Sequential([InputLayer(x.shape), ResizingLayer(size)]).build().predict(x[None])[0]
    assert np.abs(y - np.asarray(resized)).max() <= 1


@pytest.mark.parametrize(("frame", "size"), PAIRS, ids=str)
def test_frames_are_those_of_pytorch_within_its_rounding(frame, size):
    torch = pytest.importorskip("torch")
    layer = ResizingLayer(size).build((*frame, 3), dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(2, *frame, 3))
    first = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    theirs = torch.nn.functional.interpolate(first, size=size, mode="bilinear", antialias=True)
    np.testing.assert_allclose(layer(x), theirs.numpy().transpose(0, 2, 3, 1), rtol=0, atol=1e-12)


def test_rows_of_features_are_refused():
    with pytest.raises(ShapeError, match="expected frames"):
        ResizingLayer(3).build((4,))
