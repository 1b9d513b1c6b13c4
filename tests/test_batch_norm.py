"""Batch normalisation in training agrees with its definition at every size, whatever runs in one pass with it."""

import numpy as np
import pytest

from framecnn import ActivationLayer, BatchNormLayer, ConvLayer, InputLayer, ParallelLayer, Sequential, num_threads
from framecnn.kernels import batch_moments, batch_norm, batch_norm_backward, moving_averages, reference
from framecnn.layers.chain import chain_vjp
from framecnn.networks.fusion import training_passes
from framecnn.testing.draws import difference, draw_params, same_bits

EPSILON = 1e-3
DTYPES = [np.float32, np.float64]
SHAPES = [
    *((5, 3, channels) for channels in range(1, 71)),
    *((rows, 3) for rows in range(1, 71)),
    *((2, height, 4, 16) for height in range(1, 40)),
    (1, 200, 130, 3),
    (9, 600),
]


def drawn(shape, dtype):
    """Return x, dy, gamma and beta."""
    rng = np.random.default_rng(sum(shape))
    arrays = (rng.normal(2, 3, shape), rng.normal(size=shape), rng.normal(size=shape[-1]), rng.normal(size=shape[-1]))
    return tuple(array.astype(dtype) for array in arrays)


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_and_gradients_agree_with_their_definition_at_every_size(dtype):
    eps = np.finfo(dtype).eps
    for shape in SHAPES:
        x, dy, gamma, beta = drawn(shape, dtype)
        mean, variance = batch_moments(x)
        for value, wanted in zip((mean, variance), reference.batch_moments(x), strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-11, atol=1e-12, err_msg=str(shape))
        for activation in ("linear", "relu"):
            y = batch_norm(x, gamma, beta, mean, variance, EPSILON, activation)
            mask = y if activation == "relu" else None
            found = batch_norm_backward(dy, x, gamma, mean, variance, EPSILON, mask)
            wanted = reference.batch_norm_backward(dy, x, gamma, EPSILON, mask)
            scale = np.abs(gamma) / np.sqrt(variance + EPSILON)
            normal = np.abs(x - mean) / np.sqrt(variance + EPSILON)
            spread = np.abs(mean) / np.sqrt(variance + EPSILON)
            count, axes = x.size // x.shape[-1], tuple(range(x.ndim - 1))
            terms = np.abs(dy) + np.abs(dy).sum(axes) / count
            terms = terms + (normal + spread) * (np.abs(dy) * normal).sum(axes) / count
            bounds = 8 * eps * scale * terms, 8 * eps * (np.abs(dy) * normal).sum(axes), 8 * eps * np.abs(dy).sum(axes)
            for value, exact, bound in zip(found, wanted, bounds, strict=True):
                assert value.dtype == dtype
                assert (np.abs(value - exact) <= bound + 1e-14).all(), (shape, activation)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_integers_are_exact(dtype):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x, dy = (rng.integers(-9, 10, shape).astype(dtype) for _ in "xy")
        count, pixels = x.size // x.shape[-1], x.reshape(-1, x.shape[-1]).astype(np.int64)
        mean, variance = batch_moments(x)
        assert (np.rint(mean * count) == pixels.sum(axis=0)).all()
        np.testing.assert_allclose(mean, pixels.sum(axis=0) / count, rtol=0, atol=1e-14)
        ones, zeros = np.ones(x.shape[-1], dtype), np.zeros(x.shape[-1])
        _, dgamma, dbeta = batch_norm_backward(dy, x, ones, zeros, ones.astype(np.float64), 0.0, x)
        kept = np.where(x > 0, dy, 0).reshape(pixels.shape)
        np.testing.assert_array_equal(dbeta, kept.sum(axis=0))
        np.testing.assert_array_equal(dgamma, (kept * pixels).sum(axis=0))
        assert (variance >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_channel_far_from_zero_has_no_variance(dtype):
    x = np.full((7, 9, 5), 12345.678, dtype)
    mean, variance = batch_moments(x)
    np.testing.assert_array_equal(mean, x[0, 0])
    np.testing.assert_array_equal(variance, 0)


def test_a_mean_far_from_zero_costs_the_variance_no_digits():
    x = 1e6 + np.random.default_rng(0).integers(-9, 10, (4, 99, 3)).astype(np.float32)
    np.testing.assert_allclose(batch_moments(x)[1], reference.batch_moments(x)[1], rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_moving_averages_agree_with_their_definition_at_every_number_of_channels(dtype):
    rng = np.random.default_rng(0)
    for channels in range(1, 71):
        moving, batch = tuple(rng.normal(size=(2, channels)).astype(dtype)), tuple(rng.normal(size=(2, channels)))
        for momentum in (0.0, 0.9, 1.0):
            moved = moving_averages(moving, batch, momentum)
            for value, old, new in zip(moved, moving, batch, strict=True):
                wanted = momentum * old.astype(np.float64) + (1 - momentum) * new
                assert value.dtype == dtype
                np.testing.assert_allclose(value, wanted, rtol=0, atol=4 * np.finfo(dtype).eps)


def test_results_have_the_same_bits_on_any_number_of_threads():
    x, dy, gamma, beta = drawn((8, 40, 30, 24), np.float32)
    results = []
    for threads in (1, 2, 5):
        with num_threads(threads):
            mean, variance = batch_moments(x)
            y = batch_norm(x, gamma, beta, mean, variance, EPSILON, "relu")
            results.append((mean, variance, y, *batch_norm_backward(dy, x, gamma, mean, variance, EPSILON, y)))
    for others in results[1:]:
        for value, other in zip(results[0], others, strict=True):
            assert same_bits(value, other)


def assert_like_separate_layers(layers, shape, n, rng_seed):
    """Fail unless the first pass has all layers, and the bits of one layer after the other."""
    chain = []
    for layer in layers:
        chain.append(draw_params(layer.build(chain[-1].output_shape if chain else shape, dtype=np.float32)))
    (step,) = training_passes(chain, shape)
    x = np.random.default_rng(1).normal(size=(n, *shape)).astype(np.float32)
    rngs = [None if rng_seed is None else np.random.default_rng(rng_seed) for _ in "ab"]
    (y, backward), (wanted, separately) = step.vjp(x, rngs[0]), chain_vjp(chain, x, rngs[1])
    assert same_bits(y, wanted), difference(y, wanted)
    dy = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    (dx, gradients), (wanted_dx, named) = backward(dy), separately(dy)
    np.testing.assert_array_equal(dx, wanted_dx)
    named = {name.partition("/")[2]: value for name, value in named.items()}
    assert gradients.keys() == named.keys()
    for name, value in named.items():
        np.testing.assert_array_equal(gradients[name], value, err_msg=name)


BRANCH = (ConvLayer(6, kernel_size=3, padding="same", use_bias=False), BatchNormLayer(), ActivationLayer("relu"))
SHORTCUT = (ConvLayer(6, kernel_size=1, use_bias=False), BatchNormLayer())


@pytest.mark.parametrize("rng_seed", [None, 5], ids=["inference", "training"])
@pytest.mark.parametrize("n", [0, 1, 9])
def test_passes_give_the_bits_of_their_layers(n, rng_seed):
    def relu():
        return ActivationLayer("relu")

    shape = (7, 5, 6)
    for layers in (
        [BatchNormLayer(), relu()],
        [ParallelLayer((BRANCH, ())), relu()],
        [ParallelLayer((BRANCH, SHORTCUT)), relu()],
        [ParallelLayer((BRANCH, SHORTCUT, ())), relu()],
        [ParallelLayer((BRANCH, SHORTCUT), merge="multiply")],
        [ParallelLayer((BRANCH, SHORTCUT), merge="concatenate")],
    ):
        assert_like_separate_layers(layers, shape, n, rng_seed)


@pytest.mark.parametrize("merge", ["multiply", "concatenate"])
def test_relu_after_other_merges_is_a_pass_of_its_own(merge):
    layers = [ParallelLayer((BRANCH, SHORTCUT), merge=merge), ActivationLayer("relu")]
    assert len(training_passes(layers, (7, 5, 6))) == 2


def test_a_subclass_of_a_normalisation_runs_alone():
    class Other(BatchNormLayer):
        """A normalisation that may compute something else."""

    assert len(training_passes([Other(), ActivationLayer("relu")], (4, 4, 3))) == 2


def test_backward_of_a_network_may_be_called_again():
    model = Sequential([InputLayer((6, 6, 6)), ParallelLayer((BRANCH, ())), ActivationLayer("relu")]).build()
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 6)).astype(np.float32)
    y, backward = model.vjp(x, np.random.default_rng(0))
    (dx, gradients), (again, others) = backward(y), backward(y)
    assert same_bits(dx, again)
    assert all(same_bits(gradients[name], others[name]) for name in gradients)
