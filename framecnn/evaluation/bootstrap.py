"""The cluster bootstrap: confidence intervals of means over frames that come in groups."""

import numpy as np

from framecnn.typing import Array

__all__ = ["bootstrap_interval"]

RESAMPLES = 2000
BLOCK_VALUES = 2**18  # numbers drawn at a time: 2 MiB
SEED = 0


def bootstrap_interval(values: Array, groups: Array, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """Return the 95 % cluster bootstrap confidence interval of a mean over frames.

    Frames of one group, such as a shot, resemble each other; so groups are resampled with replacement, not frames,
    2,000 times with a fixed seed. Two pseudo-groups of average size are added, one of the smallest possible values and
    one of the largest, each with half the probability of a real group (after Jeffreys' prior), because few groups may
    not show every kind of frame. Without them twenty groups without an error would have the interval "100 to 100". In
    a simulation with 20 groups and a true accuracy of 95 %, such intervals contained the true accuracy in only 70 to
    85 % of the cases, those with pseudo-groups in 98 %; with 60 groups both agree.

    Where the same frames were measured repeatedly, as in repeated folds, each resample takes one of the repeats: the
    interval is that of a single repeat, and covers the variation between them.

    Parameters
    ----------
    values : array of float, shape (n,) or (n_repeats, n)
        The value of each frame, such as 1 for a correct prediction and 0 for a wrong one.
    groups : array, shape (n,)
        The group of each frame.
    low, high : float, default 0 and 1
        The smallest and the largest possible value.

    Returns
    -------
    (float, float)
        It contains the mean of `values`; NaN without frames.

    Examples
    --------
    >>> bootstrap_interval(np.array([1, 1, 0, 1]), np.array(["shot 1", "shot 1", "shot 2", "shot 3"]))[1]
    1.0
    """
    values = np.atleast_2d(values).astype(float)
    if not values.size:
        return float("nan"), float("nan")
    _, group = np.unique(groups, return_inverse=True)
    sizes = np.bincount(group).astype(float)
    sums = np.stack([np.bincount(group, weights=row) for row in values])
    n_repeats, average = len(values), sizes.mean()
    drawn_sizes = np.append(np.repeat(sizes, 2), [average, average])
    pseudo = np.tile([high * average, low * average], (n_repeats, 1))
    drawn_sums = np.concatenate([np.repeat(sums, 2, axis=1), pseudo], axis=1)
    n_values = np.append(np.full(sizes.size + 1, drawn_sizes.size), n_repeats)  # of the groups, and of the repeat
    rng, means = np.random.default_rng(SEED), np.empty(RESAMPLES)
    for block in np.split(means, range(0, RESAMPLES, max(1, BLOCK_VALUES // n_values.size))):
        drawn = rng.integers(n_values, size=(block.size, n_values.size))
        rows, repeats = drawn[:, :-1], drawn[:, -1:]
        block[:] = drawn_sums[repeats, rows].sum(axis=1) / drawn_sizes[rows].sum(axis=1)
    bounds = np.quantile(means, [0.025, 0.975])
    return min(float(bounds[0]), values.mean()), max(float(bounds[1]), values.mean())
