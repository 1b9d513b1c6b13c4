"""Descriptors of small pictures, and the evidence in them for cuts, fades, flashes, dissolves and wipes.

Two descriptors complement each other. Colour histograms of the cells of a 4 x 4 grid hardly change with motion, but
change with the light. The structure (luma minus the mean of blocks of an eighth of the width, scaled to length 1)
hardly changes with the light, but changes with motion. Two frames differ if both descriptors do.
"""

import math
from typing import NamedTuple

import numpy as np

from framecnn.data.small_pictures import LUMA_WEIGHTS, SMALL_SIZE, has_blank_luma, luma
from framecnn.typing import Array

__all__ = [
    "CUT_WINDOW",
    "WIDTHS",
    "Described",
    "blend_features",
    "blend_scores",
    "colour_correlation",
    "could_blend",
    "cut_scores",
    "describe",
    "difference",
    "expanded",
    "neighbour_differences",
    "shifted_correlation",
]

CUT_WINDOW = 1 / 6
"""Seconds on either side of a cut whose frames are compared."""

WIDTHS = (0.28, 0.42, 0.63, 0.95)
"""Half lengths, in seconds, of the intervals in which gradual changes are looked for."""

_HEIGHT, _WIDTH = SMALL_SIZE
_PIXELS = _HEIGHT * _WIDTH
_ROWS, _COLUMNS = 18, 32  # of the structure; its pixels are means of 2 x 2
_MAX_CUT_FRAMES, _MIN_CUT_FRAMES = 10, 2  # on each side of a cut
_FEWEST_BEFORE = 3  # frames before a frame that it is compared with, however far away they are
_CELLS, _LUMA, _CHROMA = 4, 16, 5  # the grid; bins of luma; bins of blue and of red minus luma
_N_BINS = _LUMA * _CHROMA * _CHROMA
_BLACK_BINS = 4 * _CHROMA**2  # luma below 16 of 255
_CURVE = np.sqrt(np.arange(256) * 255.0).astype(np.int32)
_CHROMA_BIN = np.digitize(np.arange(-255, 256), (-20, -6, 6, 20)).astype(np.int32)
_CELL = _N_BINS * np.add.outer(
    np.arange(_HEIGHT) * _CELLS // _HEIGHT * _CELLS, np.arange(_WIDTH) * _CELLS // _WIDTH
).astype(np.int32)
_DARK = 6  # luma and colours below count as black
_LEAST_OVERLAP = 0.4  # of two frames at a shift
_LEAST_ENERGY = 1e-6  # of structures of length 1
_LEAST_CONTRAST = 1  # units of luma; frames with less have no structure
_GREY_SHARE = 0.95  # of the pixels of a frame without colours
_UNLIKE, _ALIKE = 0.35, 0.75  # correlations of structures at which the difference of colours counts fully; not at all
_LIT_SHARE = 0.2  # of the pixels of a cell that counts
_FEWEST_CELLS = 1 / 3  # of the cells, by which distances are divided at least: a few lit cells must not decide
_MOST_UNEXPLAINED, _MOST_UNEXPLAINED_MIDDLE = 0.3, 0.4  # by a mix of both ends, at the quarters and in the middle
_MOST_IN_A_QUARTER = 0.85  # of a gradual change

_EPSILON = 1e-3  # seconds


class Described(NamedTuple):
    """Descriptors of n frames.

    `elapsed` (n,) is in seconds; `histograms` (n, 16, 400) pixels of each colour in each cell; `structure` (n, 18, 32)
    has length 1, or is 0 in the dark; `colours` (n, 16, 24) are means of blocks in each cell; `contrast` (n,) is in
    units of luma, as is `luma` (n,); `is_blank` and `is_grey` (n,) are bool.
    """

    elapsed: Array
    histograms: Array
    structure: Array
    colours: Array
    contrast: Array
    luma: Array
    is_blank: Array
    is_grey: Array

    def take(self, index: Array) -> "Described":
        """Return the descriptors of some of the frames."""
        return Described(*(field[index] for field in self))

    def followed_by(self, other: "Described") -> "Described":
        """Return the descriptors of these frames, followed by `other`."""
        return Described(*(np.concatenate(fields) for fields in zip(self, other, strict=True)))


def describe(elapsed: Array, pictures: Array) -> Described:
    """Return the descriptors of frames.

    Parameters
    ----------
    elapsed : array (n,)
        Seconds.
    pictures : array (n, 36, 64, 3) of uint8

    Returns
    -------
    Described

    Examples
    --------
    >>> describe(np.zeros(1), np.zeros((1, 36, 64, 3), np.uint8)).is_blank
    array([ True])
    """
    n = len(pictures)
    curved = _CURVE[pictures]
    red, blue, grey = curved[..., 0], curved[..., 2], luma(curved)
    bins = (grey * _LUMA // 256 * _CHROMA + _CHROMA_BIN[blue - grey + 255]) * _CHROMA + _CHROMA_BIN[red - grey + 255]
    bins += _CELL + _CELLS**2 * _N_BINS * np.arange(n, dtype=np.int32)[:, None, None]
    histograms = np.bincount(bins.ravel(), minlength=n * _CELLS**2 * _N_BINS).astype(np.uint8)
    histograms = histograms.reshape(n, _CELLS**2, _N_BINS)
    light = pictures @ (LUMA_WEIGHTS / np.float32(256))
    blocks = light.reshape(n, _ROWS, 2, _COLUMNS, 2).mean((2, 4)).reshape(n, 6, 3, 8, 4)
    detail = blocks - blocks.mean((2, 4), keepdims=True)
    contrast = np.sqrt((detail**2).mean((1, 2, 3, 4)))
    detail *= (blocks >= _DARK).all((2, 4), keepdims=True)  # otherwise black bars would make all frames similar
    strength = np.sqrt((detail**2).mean((1, 2, 3, 4), keepdims=True))
    length = math.sqrt(_ROWS * _COLUMNS) * np.maximum(strength, _LEAST_CONTRAST)
    structure = np.where(strength < _LEAST_CONTRAST, 0, detail / length).reshape(n, _ROWS, _COLUMNS)
    colours = pictures[:, 2:34].reshape(n, 4, 2, 4, 4, 4, 4, 3).mean((3, 6), dtype=np.float32)
    return Described(
        elapsed,
        histograms,
        structure,
        colours.transpose(0, 1, 3, 2, 4, 5).reshape(n, 16, 24),
        contrast,
        light.mean((1, 2)),
        has_blank_luma(light.reshape(n, _PIXELS)),
        histograms[:, :, _CHROMA**2 // 2 :: _CHROMA**2].sum((1, 2), dtype=np.int32) > _GREY_SHARE * _PIXELS,
    )


def difference(frames: Described, one: Array, other: Array) -> Array:
    """Return how much frames `one` differ from `other`, 0 to 1: in colours, unless their structure is the same."""
    correlation = np.einsum("nhw,nhw->n", frames.structure[one], frames.structure[other])
    distances = _distances(frames.histograms[one], frames.histograms[other])
    return distances * (1 - np.clip((correlation - _UNLIKE) / (_ALIKE - _UNLIKE), 0, 1))


def colour_correlation(frames: Described, one: Array, other: Array) -> Array:
    """Return the correlation of the colours of frames `one` and `other`, which does not depend on the light."""
    first, second = frames.colours[one], frames.colours[other]
    lit = (first > _DARK) | (second > _DARK)
    count = np.maximum(lit.sum((1, 2), keepdims=True), 1)
    first, second = ((x - (x * lit).sum((1, 2), keepdims=True) / count) * lit for x in (first, second))
    norms = (first**2).sum((1, 2)) * (second**2).sum((1, 2))
    return (first * second).sum((1, 2)) / np.sqrt(np.maximum(norms, 1))


def shifted_correlation(frames: Described, one: Array, other: Array) -> Array:
    """Return the correlation of the structures of frames `one` and `other` at the best shift with enough overlap.

    Neither the light nor a camera that pans changes it much.
    """
    size = (2 * _ROWS, 2 * _COLUMNS)
    first, second = frames.structure[one], frames.structure[other]

    def products(x: Array, y: Array) -> Array:
        return np.fft.irfft2(np.fft.rfft2(x, size) * np.fft.rfft2(y, size).conj(), size)

    everywhere = np.ones((_ROWS, _COLUMNS))
    energies = products(first**2, everywhere) * products(everywhere, second**2)
    overlap = products(everywhere, everywhere)
    correlation = products(first, second) / np.sqrt(np.maximum(energies, _LEAST_ENERGY))
    return np.where(overlap < _LEAST_OVERLAP * _ROWS * _COLUMNS, 0.0, correlation).max((1, 2))


def _distances(one: Array, other: Array) -> Array:
    """Return the distances (n,), 0 to 1, of histograms (n, 16, 400): the mean over the least changed 3/4 of the cells.

    Cells that are black in both do not count, nor does black that both have in common.
    """
    one, other = one[..., _BLACK_BINS:], other[..., _BLACK_BINS:]
    lit = np.maximum(one.sum(-1, dtype=np.int32), other.sum(-1, dtype=np.int32))
    distances = 1 - np.minimum(one, other).sum(-1, dtype=np.int32) / np.maximum(lit, 1)
    distances[lit < _LIT_SHARE * _PIXELS / _CELLS**2] = np.inf
    counted = -(-3 * np.isfinite(distances).sum(-1) // 4)
    ordered = np.where(np.arange(_CELLS**2) < counted[:, None], np.sort(distances, -1), 0.0)
    return ordered.sum(-1) / np.maximum(counted, int(_FEWEST_CELLS * _CELLS**2))


def neighbour_differences(frames: Described, first: int) -> Array:
    """Return the differences (n - first, 19) of each frame from `first` on to the 1, 2, ... 19 frames before it.

    Frames more than 2 * `CUT_WINDOW` apart differ by infinity, except from the 3 frames directly before.
    """
    rows = np.arange(first, len(frames.elapsed))
    result = np.full((len(rows), 2 * _MAX_CUT_FRAMES - 1), np.inf, np.float32)
    for lag in range(1, result.shape[1] + 1):
        now = rows[rows >= lag]
        if lag > _FEWEST_BEFORE:
            now = now[frames.elapsed[now] - frames.elapsed[now - lag] < 2 * CUT_WINDOW + _EPSILON]
        if not len(now):
            break
        result[now - first, lag - 1] = difference(frames, now, now - lag)
    return result


def cut_scores(elapsed: Array, differences: Array) -> Array:
    """Return, for each frame, the smallest difference between a frame just before it and one at or just after it.

    Parameters
    ----------
    elapsed : array (n,)
        Seconds. The frames within `CUT_WINDOW` on each side are compared, at least two.
    differences : array (n, 19)
        See `neighbour_differences`.

    Returns
    -------
    array (n,)
        0 to 1; 0 for the first frame.
    """
    n = len(elapsed)
    rows = np.arange(n)
    before = np.clip(rows - np.searchsorted(elapsed, elapsed - CUT_WINDOW - _EPSILON), _MIN_CUT_FRAMES, _MAX_CUT_FRAMES)
    after = np.clip(np.searchsorted(elapsed, elapsed + CUT_WINDOW - _EPSILON) - rows, _MIN_CUT_FRAMES, _MAX_CUT_FRAMES)
    scores = np.ones(n, np.float32)
    for a in range(1, _MAX_CUT_FRAMES + 1):
        for b in range(_MAX_CUT_FRAMES):
            looked = (a <= before) & (b < after) & (rows >= a) & (rows + b < n)
            if a + b <= differences.shape[1] and looked.any():
                scores[looked] = np.minimum(scores[looked], differences[rows[looked] + b, a + b - 1])
    scores[:1] = 0
    return scores


def blend_features(frames: Described, times: Array, width: float) -> Array:
    """Return the features of a gradual change of one shot into another around each time.

    Frames A and B at both ends of an interval are compared with each other, with those at its quarters and its middle,
    and with those half an interval further out.

    Parameters
    ----------
    frames : Described
    times : array (m,)
        Elapsed seconds.
    width : float
        Half the length of the interval in seconds.

    Returns
    -------
    array (m, 12)
        0: distance of the colours of A and B by cell; 1: of the whole pictures; 2: correlation of their structures at
        the best shift; 3: without shift; 4: what the best mix of A and B, with a ratio for each cell, leaves
        unexplained in the frames at the quarters; 5: in the frame in the middle; 6: in that frame, with one ratio for
        all cells; 7: contrast between the ends divided by that at the ends; 8: distance of colours beyond the ends;
        9: logarithm of the root mean square of B - A; 10: largest share of the change in a quarter;
        11: `colour_correlation` of A and B.
    """
    elapsed = frames.elapsed
    earlier, start, first, middle, third, end, later = (
        np.clip(np.searchsorted(elapsed, times + share * width + _EPSILON) - 1, 0, len(elapsed) - 1)
        for share in (-2, -1, -0.5, 0, 0.5, 1, 2)
    )
    inner = (first, middle, third)
    colours, contrast, histograms = frames.colours, frames.contrast, frames.histograms
    change = colours[end] - colours[start]
    size = (change**2).sum(-1)
    total = np.maximum(size.sum(-1), 1)
    moved = [colours[index] - colours[start] for index in inner]
    shares = [np.clip((x * change).sum(-1) / np.maximum(size, 1), 0, 1) for x in moved]
    unmixed = [_unexplained(x, share, change, total) for x, share in zip(moved, shares, strict=True)]
    one_share = np.clip((moved[1] * change).sum((1, 2)) / total, 0, 1)[:, None]
    steps = np.diff([np.zeros(len(times)), *((s * size).sum(-1) / total for s in shares), np.ones(len(times))], axis=0)
    spectra = [np.fft.rfft2(frames.structure[index]) for index in (start, end)]
    before, after = _distances(histograms[earlier], histograms[start]), _distances(histograms[end], histograms[later])
    before[times < elapsed[0] + 2 * width] = after[times > elapsed[-1] - 2 * width] = 0
    ends = np.maximum((contrast[start] + contrast[end]) / 2, 0.5)
    return np.column_stack(
        [
            _distances(histograms[start], histograms[end]),
            1 - np.minimum(*(histograms[i].sum(1, dtype=np.int32) for i in (start, end))).sum(-1) / _PIXELS,
            np.fft.irfft2(spectra[0] * spectra[1].conj(), (_ROWS, _COLUMNS)).max((1, 2)),
            np.einsum("nhw,nhw->n", frames.structure[start], frames.structure[end]),
            (unmixed[0] + unmixed[2]).clip(max=2) / 2,
            unmixed[1].clip(max=1),
            _unexplained(moved[1], one_share, change, total).clip(max=1),
            ((contrast[first] + contrast[middle] + contrast[third]) / 3 / ends).clip(max=2),
            np.maximum(before, after),
            np.log1p(np.sqrt(total / colours[0].size)),
            steps.max(0),
            colour_correlation(frames, start, end),
        ]
    )


def _unexplained(moved: Array, share: Array, change: Array, total: Array) -> Array:
    return ((moved - share[..., None] * change) ** 2).sum((1, 2)) / total


def could_blend(features: Array) -> Array:
    """Return which intervals (m,) look like a gradual mix of their ends, by `blend_features` (m, 12)."""
    is_mix = (features[:, 4] < _MOST_UNEXPLAINED) & (features[:, 5] < _MOST_UNEXPLAINED_MIDDLE)
    return is_mix & (features[:, 10] < _MOST_IN_A_QUARTER)


def expanded(features: Array) -> Array:
    """Return the terms of `blend_scores`: `blend_features` (m, 12), squares, some products, some logarithms."""
    features = features.copy()
    features[:, 1] = features[:, 1].clip(max=0.6)  # larger distances are not stronger evidence
    products = [features[:, i] * features[:, j] for i, j in ((0, 5), (0, 7), (0, 2), (8, 5))]
    return np.column_stack([features, features**2, *products, np.log(features[:, 4:7] + 0.02)])


def blend_scores(frames: Described, times: Array) -> tuple[Array, Array]:
    """Return the probability (m,) of a gradual change around each time, and half its length in seconds (m,)."""
    scores, widths = np.zeros((2, len(times)))
    for width in WIDTHS:
        inside = np.flatnonzero((times >= frames.elapsed[0] + width) & (times <= frames.elapsed[-1] - width))
        if len(inside):
            features = blend_features(frames, times[inside], width)
            odds = np.exp(-(expanded(features) @ _COEFFICIENTS + _INTERCEPT))
            probabilities = could_blend(features) / (1 + odds)
            better = probabilities > scores[inside]
            scores[inside[better]], widths[inside[better]] = probabilities[better], width
    return scores, widths


# Fitted by benchmarks/bench_shots.py (--part tuning --fit), with pans over still pictures as one more source.
_COEFFICIENTS = np.array(
    [
        *(-2.01, 8.4, -1.18, 4.41, -5.25, -15, -1.7, -3.05, 8.18, 3.26, 22.1, -1.48),
        *(-0.445, 3.2, 1.14, -3.05, 5.51, -6.53, 11.5, -1.82, -10.1, -0.237, -31.9, -3.93),
        *(8.44, 7.73, -7.67, -0.0415, -1.46, -0.575, 0.693),
    ]
)
_INTERCEPT = -18.9
