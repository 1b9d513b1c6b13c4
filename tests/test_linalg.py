"""Products and distances have the same bits on one thread and on two."""

import numpy as np
import pytest

from framecnn import num_threads
from framecnn.kernels.linalg import BLOCK_ROWS, blocked_product, cholesky, lower_gram, mirrored, squared_distances


def factor_of(x):
    """Return the Cholesky factor of the penalised products of samples."""
    return np.tril(cholesky((x @ x.T).astype(np.float64) + 1e3 * np.eye(len(x))))


def on_threads(n, function, *arguments):
    """Return the result of a function on a number of threads."""
    with num_threads(n):
        return function(*arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_integers_are_exact(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 10, (1100, 37)), rng.integers(-9, 10, (37, 5))
    product = blocked_product(a.astype(dtype), b.astype(dtype))
    assert product.dtype == dtype
    np.testing.assert_array_equal(product, a @ b)


def test_a_product_has_the_wider_dtype():
    a, b = np.ones((3, 2), np.float32), np.full((2, 1), 1 / 3)
    np.testing.assert_array_equal(blocked_product(a, b), np.full((3, 1), 2 / 3))


@pytest.mark.parametrize("shape", [(1100, 37), (37, 2500), (1, 1)])
def test_the_lower_triangle_of_a_gram_matrix_is_exact_for_integers(shape):
    a = np.random.default_rng(0).integers(-9, 10, shape)
    np.testing.assert_array_equal(np.tril(lower_gram(a.astype(np.float32))), np.tril(a @ a.T))
    np.testing.assert_array_equal(np.tril(lower_gram(a.T.astype(np.float32))), np.tril(a.T @ a))


def test_the_error_of_a_gram_matrix_does_not_grow_with_the_number_of_terms():
    a = np.full((1, 1_000_000), 0.1, np.float32)
    exact = 1_000_000 * float(a[0, 0]) ** 2
    assert abs(lower_gram(a)[0, 0] - exact) < 2048 * np.finfo(np.float32).eps * exact
    assert abs(np.cumsum(a[0] ** 2)[-1] - exact) > 2048 * np.finfo(np.float32).eps * exact


SIZES = [1, 2, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS + 300]


@pytest.mark.parametrize("n", SIZES)
def test_a_lower_triangle_is_mirrored(n):
    lower = np.arange(n * n).reshape(n, n)
    found = mirrored(lower.copy())
    np.testing.assert_array_equal(found, np.tril(lower) + np.tril(lower, -1).T)
    np.testing.assert_array_equal(mirrored(np.asfortranarray(lower)), found)


@pytest.mark.parametrize("n", SIZES)
def test_a_cholesky_factor_gives_back_the_system(n):
    """The bound is that of Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, theorem 10.3."""
    a = np.random.default_rng(0).normal(size=(n, n + 3))
    system = a @ a.T + np.eye(n)
    bound = (n + 1) * np.finfo(np.float64).eps / (1 - (n + 1) * np.finfo(np.float64).eps)
    above = np.triu_indices(n, BLOCK_ROWS)
    for order in "CF":
        given = np.array(system, order=order)
        given[above] = np.nan
        factor = np.tril(cholesky(given))
        assert (np.abs(factor @ factor.T - system) <= bound * (np.abs(factor) @ np.abs(factor.T))).all()


@pytest.mark.parametrize("row", [0, BLOCK_ROWS - 1, BLOCK_ROWS, 2 * BLOCK_ROWS])
def test_a_system_that_is_not_positive_definite_has_no_factor(row):
    system = np.eye(2 * BLOCK_ROWS + 1)
    system[row, row] = -1
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        cholesky(system)


def test_distances_are_sums_of_squared_differences():
    rng = np.random.default_rng(0)
    x, centres = rng.normal(size=(50, 7)).astype(np.float32), rng.normal(size=(3, 7)).astype(np.float32)
    differences = x[:, None].astype(np.float64) - centres
    roundings = 7 + 2  # of a difference, a square and a sum of seven terms
    np.testing.assert_allclose(
        squared_distances(x, centres), (differences**2).sum(axis=2), rtol=roundings * np.finfo(np.float64).eps
    )


def test_a_point_has_no_distance_from_itself_and_far_points_have_finite_ones():
    x = np.array([[1e30, -1e30]], np.float32)
    assert squared_distances(x, x)[0, 0] == 0
    assert np.isfinite(squared_distances(x, np.zeros_like(x))).all()


def test_results_have_the_same_bits_on_one_and_two_threads_and_for_a_row_alone():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 60)).astype(np.float32), rng.normal(size=(60, 90)).astype(np.float32)
    functions = [(blocked_product, (x, y)), (lower_gram, (x,)), (squared_distances, (x, y.T)), (factor_of, (x,))]
    for function, arguments in functions:
        one, two = on_threads(1, function, *arguments), on_threads(2, function, *arguments)
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(squared_distances(x[7:8], y.T), squared_distances(x, y.T)[7:8])
