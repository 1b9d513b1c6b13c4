"""Samples that are given by their products with each other."""

import numpy as np
import pytest

from framecnn.data.product_shards import ProductShards
from framecnn.data.shards import SHARD_ROWS, ArrayShards, as_shards
from framecnn.estimators import sums

SIZES = [2, SHARD_ROWS - 1, SHARD_ROWS, SHARD_ROWS + 1, 1300]


def samples(n):
    """Return integers (n, n + 5) as float64, and the same samples by their products."""
    x = np.random.default_rng(n).integers(-9, 10, (n, n + 5)).astype(np.float64)
    return x, ProductShards(x @ x.T, as_shards(x).edges)


@pytest.mark.parametrize("n", SIZES)
def test_samples_are_read_as_their_products_with_all(n):
    x, found = samples(n)
    assert (found.shape, found.dtype) == ((n, n), np.float64)
    np.testing.assert_array_equal(found[:], x @ x.T)
    rows = np.flatnonzero(np.random.default_rng(1).random(n) < 0.6)
    part = found.subset(rows)
    np.testing.assert_array_equal(part[:], x[rows] @ x.T)
    np.testing.assert_array_equal(part.edges, as_shards(x).subset(rows).edges)
    np.testing.assert_array_equal(part.subset(np.arange(len(rows))[::2])[:], x[rows[::2]] @ x.T)
    np.testing.assert_array_equal(sums.gram(part), x[rows] @ x[rows].T)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_whatever_is_done_to_samples_is_done_to_their_products(n, is_weighted):
    """Twice a part is taken and centred; then samples are multiplied by factors and a part is taken again."""
    x, found = samples(n)
    plain = ArrayShards(x)
    for seed in (0, 1):
        rows = np.flatnonzero(np.random.default_rng(seed).random(len(plain)) < 0.8)
        rows = rows if len(rows) > 1 else np.arange(len(plain))
        weights = np.arange(len(rows)) % 3 + 1.0 if is_weighted else None
        plain, found = plain.subset(rows), found.subset(rows)
        means = [sums.mean_of(part, weights) for part in (plain, found)]
        np.testing.assert_allclose(means[1], means[0] @ x.T, atol=1e-8)
        plain, found = (part.centred(mean, weights) for part, mean in zip((plain, found), means, strict=True))
    factors = np.arange(len(plain))[:, None] % 5 + 1.0
    tolerance = 1e-12 * n * 81 * 25
    right = np.random.default_rng(2).normal(size=(len(plain), 3))
    right -= factors * (factors.T @ right) / (factors**2).sum()
    plain, found = plain.scaled(factors), found.scaled(factors)
    np.testing.assert_allclose(found[:], plain[:] @ x.T, atol=tolerance)
    np.testing.assert_allclose(x.T @ sums.products(found, right), sums.products(plain, right), atol=tolerance)
    rows = np.arange(0, len(plain), 2)
    for one, other in ((plain, found), (plain.subset(rows), found.subset(rows))):
        np.testing.assert_allclose(np.tril(sums.gram(other)), np.tril(sums.gram(one)), atol=tolerance)
