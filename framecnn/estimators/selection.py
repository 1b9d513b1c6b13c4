"""What is chosen on the training data: the pooling grid and the shrinkage."""

from dataclasses import dataclass

import numpy as np

from framecnn.estimators.ridge import Choice, choose_shrinkage
from framecnn.typing import Array

__all__ = ["Chosen", "choose_grid"]


@dataclass(frozen=True)
class Chosen:
    """The grid and shrinkage that were taken, and the best choice for every grid that was tried."""

    grid: tuple[int, int]
    shrinkage: float
    tried: dict[tuple[int, int], Choice]


def choose_grid(features: dict[tuple[int, int], Array], codes: Array, groups: Array | None, seed: int) -> Chosen:
    """Pick the coarsest grid whose accuracy over left-out groups is within one standard error of the best.

    Many configurations tried on few groups favour luck, hence the simpler one in doubt (the one-standard-error rule
    of Breiman et al., "Classification and Regression Trees", 1984).

    Parameters
    ----------
    features : {(rows, columns): (n, d) array}
        Standardised features by grid, the coarsest first.
    codes : (n,) int array
        Class numbers.
    groups : (n,) array or None
    seed : int

    Returns
    -------
    Chosen
    """
    indicators = np.eye(codes.max() + 1)[codes]
    targets = indicators - indicators.mean(axis=0)
    tried = {grid: choose_shrinkage(x, targets, codes, groups, seed) for grid, x in features.items()}
    best = max(tried.values(), key=lambda choice: choice.accuracy)
    grid = next(g for g, choice in tried.items() if choice.accuracy >= best.accuracy - best.standard_error)
    return Chosen(grid, tried[grid].shrinkage, tried)
