"""Regularised discriminant scores in closed form, and what they would be for frames left out.

Ridge regression onto the class indicators spans the space of penalised discriminant analysis (Hastie, Buja &
Tibshirani, "Penalized Discriminant Analysis", Annals of Statistics 1995). All systems are solved in the smaller of
sample and feature dimension, every factorisation by one BLAS thread, so that the bits do not depend on their number.

Shapes: features (n, d) with mean zero, targets (n, classes) with mean zero.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from framecnn.kernels.linalg import blocked_product
from framecnn.kernels.threads import ordered_map, single_threaded_blas
from framecnn.typing import Array

__all__ = ["SHRINKAGES", "Choice", "centre_accuracy", "choose_shrinkage", "folds_by_group", "ridge"]

SHRINKAGES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Candidates: the penalty in units of the summed variance of the features (their number, when standardised)."""
FALLBACK = 0.03  # where no group can be left out
N_FOLDS = 4
N_SPLITS = 3
Folds = list[Array]


@dataclass(frozen=True)
class Choice:
    """A shrinkage, the accuracy over folds left out that it was chosen for, and that accuracy's standard error."""

    shrinkage: float
    accuracy: float
    standard_error: float


def folds_by_group(codes: Array, groups: Array | None, seed: int) -> Folds:
    """Give the rows of up to four folds that share no group and are stratified by class as well as groups allow.

    Shapes: codes (n,) class numbers, groups (n,) or None for every row its own. Empty where no two folds exist.
    """
    n_groups = len(codes) if groups is None else len(np.unique(groups))
    n_folds = min(N_FOLDS, n_groups, np.bincount(codes).max())
    if n_folds < 2:
        return []
    folding = StratifiedKFold if n_groups == len(codes) else StratifiedGroupKFold
    if np.bincount(codes).min() < n_folds and folding is StratifiedKFold:
        folding, groups = StratifiedGroupKFold, np.arange(len(codes))  # unlike StratifiedKFold silent on rare classes
    splits = folding(n_folds, shuffle=True, random_state=seed).split(codes, codes, groups)
    return [held_out for _, held_out in splits if len(held_out)]


def ridge(features: Array, targets: Array, shrinkage: float, folds: Folds) -> tuple[Array, Array]:
    """Solve ``min |targets - features w|^2 + penalty |w|^2``; give w, and the scores of every fold left out of it.

    With ``L L^T`` the penalised Gram matrix, a fold ``b`` left out has the residuals ``(I - A^T A)^{-1} r_b``,
    ``A = L^{-1} features_b^T``; in the dual ``(A^T A)^{-1} alpha_b``, ``A = L^{-1} e_b``: one factorisation for all.

    Shapes: weights (d, classes), scores (n, classes); rows of no fold keep their fitted scores.
    """
    dual = len(features) <= features.shape[1]
    system = _gram(features if dual else np.ascontiguousarray(features.T))
    system[np.diag_indices_from(system)] += _penalty(features, shrinkage)
    with single_threaded_blas():
        factor = linalg.cholesky(system, lower=True, overwrite_a=True, check_finite=False)
        if dual:
            alpha = linalg.cho_solve((factor, True), targets, check_finite=False)
            weights = features.T.astype(np.float64) @ alpha
        else:
            moments = features.T.astype(np.float64) @ targets
            weights = linalg.cho_solve((factor, True), moments, check_finite=False)
        scores = blocked_product(features.astype(np.float64), weights)

        def left_out(rows: Array) -> Array:
            right = np.eye(len(features))[:, rows] if dual else features[rows].T.astype(np.float64)
            a = linalg.solve_triangular(factor, right, lower=True, overwrite_b=True, check_finite=False)
            if dual:
                residuals = linalg.solve(a.T @ a, alpha[rows], assume_a="pos")
            else:
                residuals = linalg.solve(np.eye(len(rows)) - a.T @ a, targets[rows] - scores[rows], assume_a="pos")
            return targets[rows] - residuals

        for rows, found in zip(folds, ordered_map(left_out, folds), strict=True):
            scores[rows] = found
    return weights, scores


def choose_shrinkage(features: Array, targets: Array, codes: Array, groups: Array | None, seed: int) -> Choice:
    """Pick the shrinkage with the best accuracy over folds left out, averaged over several splits by group.

    One eigendecomposition serves all shrinkages and splits: with ``H`` the matrix that maps targets to fitted scores,
    the residuals of a fold ``b`` left out are ``(I - H_bb)^{-1} (targets - H targets)_b``. Equal accuracies go to the
    larger shrinkage.
    """
    splits = [folds for number in range(N_SPLITS) if (folds := folds_by_group(codes, groups, seed + number))]
    if not splits:
        return Choice(FALLBACK, 0.0, 0.0)
    vectors, values = _eigen(features)
    projected = vectors.T @ targets

    def accuracies(shrinkage: float) -> list[float]:
        damping = values / (values + _penalty(features, shrinkage))
        residuals = targets - vectors @ (damping[:, None] * projected)
        found = []
        for folds in splits:
            scores = np.empty_like(residuals)
            for rows in folds:
                own = vectors[rows]
                missing = linalg.solve(np.eye(len(rows)) - (own * damping) @ own.T, residuals[rows], assume_a="pos")
                scores[rows] = targets[rows] - missing
            found += [centre_accuracy(scores, codes, rows) for rows in folds]
        return found

    with single_threaded_blas():
        table = np.array(ordered_map(accuracies, SHRINKAGES))
    best = int(len(SHRINKAGES) - 1 - table.mean(axis=1)[::-1].argmax())
    error = table[best].std(ddof=1) / np.sqrt(len(splits[0]))  # the splits share their rows: they add no evidence
    return Choice(SHRINKAGES[best], float(table[best].mean()), float(error))


def centre_accuracy(scores: Array, codes: Array, rows: Array) -> float:
    """Give the share of `rows` whose nearest class centre, over all rows, is their own class."""
    centres = np.stack([scores[codes == code].mean(axis=0) for code in np.unique(codes)])
    distances = ((scores[rows, None] - centres) ** 2).sum(axis=2)
    return float((np.unique(codes)[distances.argmin(axis=1)] == codes[rows]).mean())


def _penalty(features: Array, shrinkage: float) -> float:
    """Shrinkage in units of the summed variance; 1 for features that never vary."""
    return shrinkage * float(np.square(features, dtype=np.float64).sum()) / len(features) or 1.0


def _gram(a: Array) -> Array:
    product = blocked_product(a, np.ascontiguousarray(a.T)).astype(np.float64)
    return (product + product.T) / 2


def _eigen(features: Array) -> tuple[Array, Array]:
    """Give left singular vectors (n, r) and squared singular values (r,) of the features."""
    n, d = features.shape
    with single_threaded_blas():
        if n <= d:
            values, vectors = linalg.eigh(_gram(features), driver="evd", overwrite_a=True)
            return vectors, np.maximum(values, 0)
        values, right = linalg.eigh(_gram(np.ascontiguousarray(features.T)), driver="evd", overwrite_a=True)
        kept = values > values[-1] * np.finfo(features.dtype).eps
        values, right = values[kept], right[:, kept]
        return blocked_product(features.astype(np.float64), right) / np.sqrt(values), values
