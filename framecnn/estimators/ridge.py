"""Ridge regression on one-hot targets in closed form, with the scores of held-out samples.

Ridge regression on one-hot targets yields the subspace of penalised discriminant analysis (Hastie, Buja & Tibshirani,
"Penalized Discriminant Analysis", Annals of Statistics 1995). All systems are solved in the smaller of sample and
feature dimension, in blocks, each by one BLAS thread, so that the bits do not depend on the number of threads.
Features are read in shards, and only systems, targets and scores are held in memory.

Shapes: features (n, d) with mean zero, targets (n, classes) with mean zero, weights (n,) of samples, or None if all
count the same.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from sklearn.model_selection import StratifiedKFold

from framecnn.data.group_folds import group_folds
from framecnn.data.shards import Shards, as_shards
from framecnn.errors import SettingError
from framecnn.estimators.sums import gram, grams_of_sets, mean_of, products, rows_times
from framecnn.kernels.linalg import cholesky, mirrored
from framecnn.kernels.threads import ordered_map, single_threaded_blas
from framecnn.memory import get_working_memory, resident_bytes
from framecnn.typing import Array

__all__ = ["ALPHAS", "Choice", "Folds", "centre_accuracy", "choose_alpha", "folds_by_group", "ridge"]

ALPHAS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Candidates: the penalty in units of the summed variance of the features (their number, when standardised)."""
FALLBACK = 0.03  # if no group can be held out
N_FOLDS = 4
N_SPLITS = 3
BLOCK_VALUES = 2**22  # differences of scores and centres at a time: 32 MiB
Folds = list[Array]


@dataclass(frozen=True)
class Choice:
    """A ridge penalty, its accuracy over held-out folds, and the standard error of that accuracy.

    Both are NaN if nothing could be held out.
    """

    alpha: float
    accuracy: float
    standard_error: float


def folds_by_group(codes: Array, groups: Array | None, seed: int, n_folds: int = N_FOLDS) -> Folds:
    """Return the rows of up to `n_folds` folds that share no group and are stratified by class as far as groups allow.

    Shapes: codes (n,) class numbers, groups (n,), or None if each row is its own group. The list is empty if
    there are fewer than two folds.
    """
    codes = _by_first_group(codes, groups)
    n_groups = len(codes) if groups is None else len(np.unique(groups))
    sizes = np.bincount(codes)
    n_folds = min(n_folds, n_groups, sizes.max())
    if n_folds < 2:
        return []
    strata = np.where(sizes[codes] < n_folds, sizes.argmax(), codes)  # scikit-learn warns about rarer classes
    if groups is None or n_groups == len(codes):
        splits = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(strata, strata)
        return [held_out for _, held_out in splits]
    fold = group_folds(strata, groups, n_folds, seed)
    return [np.flatnonzero(fold == number) for number in np.unique(fold)]


def _by_first_group(codes: Array, groups: Array | None) -> Array:
    """Return class numbers in the order of their first group: folds depend neither on class names nor on row order."""
    numbers = np.arange(len(codes)) if groups is None else np.unique(groups, return_inverse=True)[1]
    first = np.full(codes.max() + 1, len(codes))
    np.minimum.at(first, codes, numbers)
    return first.argsort(kind="stable").argsort(kind="stable")[codes]


@single_threaded_blas()
def ridge(
    features: Shards | Array, targets: Array, alpha: float, folds: Folds, weights: Array | None = None
) -> tuple[Array, Array]:
    """Return the solution of ``min |targets - features w|^2 + penalty |w|^2``, and the scores of held-out folds.

    With weights, each squared error counts with the weight of its sample: rows are multiplied by the roots of the
    weights, and scores divided by them.

    - Primal, n > d: the sums of a fold are subtracted from those of all samples, and the rest is solved.
    - Dual: the products of samples are computed once; the system without a fold is a part of them.

    Shapes: solution (d, classes), scores (n, classes); rows outside all folds have their fitted scores.

    Raises
    ------
    SettingError
        If the penalty is so small that rounding makes the system of dependent features singular.
    """
    features, targets, roots = _weighted(as_shards(features), targets, weights)
    solve = _ridge_dual if len(features) <= features.shape[1] else _ridge_primal
    coefficients, scores = solve(features, targets, alpha, folds)
    return coefficients, scores / roots


def _ridge_dual(features: Shards, targets: Array, alpha: float, folds: Folds) -> tuple[Array, Array]:
    system = mirrored(gram(features))
    penalty = _penalty(system.trace(), len(features), alpha)

    def solution(rows: Array) -> Array:
        own = system[np.ix_(rows, rows)].T
        own[np.diag_indices_from(own)] += penalty
        return linalg.cho_solve((_factor(own, alpha), True), targets[rows], check_finite=False)

    everything = np.arange(len(features))
    coefficients = solution(everything)
    scores = targets - penalty * coefficients
    for rows in folds:
        rest = np.setdiff1d(everything, rows)
        scores[rows] = system[np.ix_(rows, rest)] @ solution(rest)
    return products(features, coefficients), scores


def _ridge_primal(features: Shards, targets: Array, alpha: float, folds: Folds) -> tuple[Array, Array]:
    fold_of = np.full(len(features), len(folds))  # the last set has the rows outside all folds
    for number, rows in enumerate(folds):
        fold_of[rows] = number
    parts = _at_once(range(int(fold_of.max()) + 1), features.shape[1])
    system, moments, sums = np.zeros((features.shape[1],) * 2, order="F"), np.zeros((features.shape[1], 1)), []
    for numbers in parts:
        sums = grams_of_sets(features, targets, fold_of, numbers)
        for own_system, own_moments in sums:
            system += own_system
            moments = moments + own_moments
    penalty = _penalty(system.trace(), len(features), alpha)

    def solution(system: Array, moments: Array) -> Array:
        system[np.diag_indices_from(system)] += penalty
        return linalg.cho_solve((_factor(system, alpha), True), moments, check_finite=False)

    def without(own: tuple[Array, Array]) -> Array:
        return solution(np.subtract(system, own[0], out=own[0]), moments - own[1])

    held_out = []
    for numbers in parts:
        if len(parts) > 1:
            sums = grams_of_sets(features, targets, fold_of, numbers)
        held_out += ordered_map(without, sums[: max(0, len(folds) - numbers.start)])
    coefficients = solution(system, moments)
    return coefficients, rows_times(features, [*held_out, coefficients], fold_of)


def _at_once(numbers: range, size: int) -> list[range]:
    """Return parts of some numbers of sets, of which the systems (size, size) fit the memory together."""
    room = get_working_memory().max_memory - resident_bytes() - 8 * size**2
    most = max(1, room // (2 * 8 * size**2))  # the sums of a run, and of all runs
    return [numbers[start : start + most] for start in range(0, len(numbers), most)]


def _factor(system: Array, alpha: float) -> Array:
    """Return the Cholesky factor of a system, of which the lower triangle is read, in place."""
    try:
        return cholesky(system)
    except linalg.LinAlgError as error:
        raise SettingError(f"alpha: expected enough to outweigh rounding, got {alpha}; raise it") from error


@single_threaded_blas()
def choose_alpha(
    features: Shards | Array,
    targets: Array,
    codes: Array,
    groups: Array | None,
    seed: int,
    weights: Array | None = None,
) -> Choice:
    """Return the ridge penalty with the best accuracy over held-out folds, averaged over several splits by group.

    One eigendecomposition serves all alphas and splits: with ``H`` the matrix that maps targets to fitted scores,
    the residuals of a held-out fold ``b`` are ``(I - H_bb)^{-1} (targets - H targets)_b``. Among equal
    accuracies the larger penalty is chosen.
    """
    splits = [folds for number in range(N_SPLITS) if (folds := folds_by_group(codes, groups, seed + number))]
    if not splits:
        return Choice(FALLBACK, np.nan, np.nan)
    features, targets, roots = _weighted(as_shards(features), targets, weights, recentred=True)
    vectors, values = _eigen(features)
    projected = vectors.T @ targets

    def accuracies(alpha: float) -> list[float]:
        damping = values / (values + _penalty(values.sum(), len(features), alpha))
        residuals = targets - vectors @ (damping[:, None] * projected)
        damped = vectors * np.sqrt(damping)
        found = []
        for folds in splits:
            scores = np.empty_like(residuals)
            for rows in folds:
                fold = damped[rows]
                missing = linalg.solve(np.eye(len(rows)) - fold @ fold.T, residuals[rows], assume_a="pos")
                scores[rows] = targets[rows] - missing
            found += [centre_accuracy(scores / roots, codes, rows, weights) for rows in folds]
        return found

    table = np.array(ordered_map(accuracies, ALPHAS))
    best = int(len(ALPHAS) - 1 - table.mean(axis=1)[::-1].argmax())
    error = table[best].std(ddof=1) / np.sqrt(len(splits[0]))  # splits of the same rows are not independent
    return Choice(ALPHAS[best], float(table[best].mean()), float(error))


def centre_accuracy(scores: Array, codes: Array, rows: Array, weights: Array | None = None) -> float:
    """Return the share of `rows`, or of their weights, that are nearest to the centre of their own class.

    Centres are means of all rows.
    """
    classes = np.unique(codes)
    centres = np.stack([scores[codes == code].mean(axis=0) for code in classes])
    size = max(1, BLOCK_VALUES // centres.size)
    blocks = np.split(scores[rows], range(size, len(rows), size))
    nearest = [((block[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1) for block in blocks]
    right = classes[np.concatenate(nearest)] == codes[rows]
    return float(np.average(right, weights=None if weights is None else weights[rows]))


def _weighted(
    features: Shards, targets: Array, weights: Array | None, recentred: bool = False
) -> tuple[Shards, Array, Array | float]:
    """Return features and targets times the roots of the weights, and the roots (n, 1); 1 without weights.

    Features get the weighted mean zero first if they are to be `recentred`.
    """
    if weights is None:
        return features, targets, 1.0
    if recentred:
        features = features.centred(mean_of(features, weights), weights)
    roots = np.sqrt(weights)[:, None]
    return features.scaled(roots), targets * roots, roots


def _penalty(summed_squares: float, n_samples: int, alpha: float) -> float:
    """Return the penalty for `alpha`, in units of the summed variance; 1 for features that never vary."""
    return alpha * float(summed_squares) / n_samples or 1.0


def _eigen(features: Shards) -> tuple[Array, Array]:
    """Return left singular vectors (n, r) and squared singular values (r,) of the features."""
    dual = len(features) <= features.shape[1]
    nothing = np.zeros((len(features), 0))
    system = gram(features) if dual else grams_of_sets(features, nothing, np.zeros(len(features)), [0])[0][0]
    values, vectors = linalg.eigh(system, driver="evd", overwrite_a=True, check_finite=False)
    if dual:
        return vectors, np.maximum(values, 0)
    kept = values > values[-1] * np.finfo(features.dtype).eps
    scaled = vectors[:, kept] / np.sqrt(values[kept])
    return rows_times(features, [scaled], np.zeros(len(features), np.int64)), values[kept]
