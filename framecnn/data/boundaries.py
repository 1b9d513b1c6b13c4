"""The boundaries between shots in a sequence of frames, and how certain they are.

The search has this order. A dip of the contrast to nothing (a fade, a flash to white or black, black between
shots) is a boundary if the frames after it differ from those before. Cuts are peaks of `cut_scores` outside of dips and
flashes. Between those, gradual changes (dissolves, wipes) are peaks of `blend_scores`.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from framecnn.data.transitions import CUT_WINDOW, Described, blend_scores, colour_correlation, cut_scores, difference
from framecnn.typing import Array

__all__ = ["Boundary", "find_boundaries"]

_LONGEST_FLANK = 1.2  # seconds in which a shot fades out, or in
_LONGEST_FAINT = 0.5  # seconds of low contrast, though not blank, that count as the middle of a fade
_LONGEST_FLASH = 0.7  # seconds
_GRID = 1 / 12  # seconds between the times at which gradual changes are looked for
_CUT, _SURE_CUT = 0.35, 0.45
_DIP, _SURE_DIP = 0.45, 0.6
_BLEND, _SURE_BLEND = 0.5, 0.8


class Boundary(NamedTuple):
    """The index of the first frame of a shot, and whether the boundary is certain."""

    first: int
    is_sure: bool


class Dip(NamedTuple):
    """A fall of the contrast to nothing: the indices of three frames around it.

    They are the last frame before it, the first after its flattest part, and the first after it.
    """

    before: int
    turn: int
    after: int


def find_boundaries(frames: Described, differences: Array) -> list[Boundary]:
    """Return the boundaries in order, without the first frame.

    Parameters
    ----------
    frames : Described
        At least one frame.
    differences : array (n, 19)
        See `neighbour_differences`.

    Returns
    -------
    list of Boundary
    """
    elapsed, n = frames.elapsed, len(frames.elapsed)
    found = []
    hidden = np.zeros(n, bool)
    for before, turn, after in _dips(frames):
        hidden[before + 1 : after + 1] = True
        if before >= 0 and after < n:
            change = _change(frames, before, after)
            if change > _DIP:
                is_clear = frames.contrast[[before, after]].min() > 3
                found.append(Boundary(turn, bool(change > _SURE_DIP and is_clear)))
    cuts = _cuts(frames, cut_scores(elapsed, differences), hidden)
    for start, end in _flashes(frames, [first for first, _ in cuts]):
        hidden[start:end] = True
        cuts = [cut for cut in cuts if not start <= cut.first <= end]
    found = sorted(found + cuts)
    hidden |= _lightning(frames)
    stops = [0, *(first for first, _ in found), n]
    for start, stop in pairwise(stops):
        shown = np.arange(start, stop)[~hidden[start:stop]]
        is_near_start = elapsed[shown] < elapsed[start] + 0.25 * (start > 0)
        is_near_end = elapsed[shown] > elapsed[stop - 1] - 0.25 * (stop < n)
        shown = shown[~(is_near_start | is_near_end)]
        if len(shown) > 4:
            found += [Boundary(int(shown[i]), sure) for i, sure in _blends(frames.take(shown))]
    return sorted(found)


def _change(frames: Described, before: int, after: int) -> float:
    """Return the least difference between a frame in the window ending at `before` and one in that from `after` on."""
    elapsed = frames.elapsed
    first = min(int(np.searchsorted(elapsed, elapsed[before] - CUT_WINDOW)), max(before - 1, 0))
    last = min(max(int(np.searchsorted(elapsed, elapsed[after] + CUT_WINDOW)), after + 1), len(elapsed) - 1)
    ones = np.linspace(first, before, 3).round().astype(int)
    others = np.linspace(after, last, 3).round().astype(int)
    ones, others = (grid.ravel() for grid in np.meshgrid(ones, others))
    correlation = colour_correlation(frames, ones, others)
    return float((difference(frames, ones, others) * (correlation < 0.85)).min())


def _dips(frames: Described) -> list[Dip]:
    """Return the falls of the contrast to nothing; `before` is -1, or `after` is n, if it lies outside the sequence."""
    elapsed, contrast, n = frames.elapsed, frames.contrast, len(frames.elapsed)
    window = 2 * _LONGEST_FLANK
    first, last = np.searchsorted(elapsed, elapsed - window), np.searchsorted(elapsed, elapsed + window)
    ahead = np.array([contrast[i : last[i]].max() for i in range(n)])
    behind = np.array([contrast[first[i] : i + 1].max() for i in range(n)])
    is_low = frames.is_blank | (contrast < 0.3 * np.minimum(ahead, behind))
    edges = np.flatnonzero(np.diff(is_low, prepend=False, append=False)).reshape(-1, 2).tolist()
    runs: list[list[int]] = []
    for start, stop in edges:
        if runs and elapsed[start] - elapsed[runs[-1][1] - 1] < 0.1:
            runs[-1][1] = stop
        else:
            runs.append([start, stop])
    dips: list[Dip] = []
    for start, stop in runs:
        if frames.is_blank[start:stop].any() or elapsed[stop - 1] - elapsed[start] < _LONGEST_FAINT:
            level = np.where(frames.is_blank[start:stop], 0, contrast[start:stop])
            turn = start + int(np.flatnonzero(level <= level.min() + 0.1)[-1]) + 1
            flat = frames.luma[turn - 1]
            before, after = _climb(frames, start - 1, -1, flat), _climb(frames, stop, 1, flat)
            if dips and before < dips[-1].after:
                other = dips.pop()
                turn = turn if contrast[turn - 1] < contrast[other.turn - 1] else other.turn
                before, after = min(before, other.before), max(after, other.after)
            dips.append(Dip(before, turn, after))
    return dips


def _climb(frames: Described, index: int, step: int, flat: float) -> int:
    """Walk from `index` by `step` while contrast, or the distance of the luma from `flat`, rises; return the end."""
    elapsed, n, start = frames.elapsed, len(frames.elapsed), index
    contrast, distance = frames.contrast, np.abs(frames.luma - flat)
    while 0 <= index < n:
        there = index + step
        while 0 <= there < n and abs(elapsed[there] - elapsed[index]) < 0.1:
            there += step
        if not 0 <= there < n or abs(elapsed[there] - elapsed[start]) > _LONGEST_FLANK:
            break
        if contrast[there] < 1.08 * contrast[index] and distance[there] < 1.08 * distance[index] + 2:
            break
        index = there
    return index


def _cuts(frames: Described, scores: Array, hidden: Array) -> list[Boundary]:
    """Return the local maxima of the scores that stand out from the half second around them."""
    elapsed = frames.elapsed
    scores = np.where(hidden, 0, scores)
    found = []
    for i in np.flatnonzero(scores > 0.2):
        near = slice(*np.searchsorted(elapsed, (elapsed[i] - CUT_WINDOW + 0.01, elapsed[i] + CUT_WINDOW - 0.01)))
        if i - near.start > 0 and scores[near.start : i].max() >= scores[i]:
            continue
        if scores[near].max() > scores[i]:
            continue
        left, right = np.searchsorted(elapsed, (elapsed[i] - 3 * CUT_WINDOW, elapsed[i] + 3 * CUT_WINDOW))
        around = np.r_[left : max(i - 1, left), i + 2 : max(right, i + 2)]
        around = scores[around[~hidden[around]]]
        calm = 0.5 * float(np.quantile(around, 0.75)) if len(around) else 0.0
        if colour_correlation(frames, np.array([i - 1]), np.array([i]))[0] > 0.85:
            continue
        grey = -0.12 if frames.is_grey[i] and frames.is_grey[i - 1] else 0.0
        if scores[i] > _CUT + grey + calm:
            found.append(Boundary(int(i), bool(scores[i] > _SURE_CUT + grey + calm)))
    return found


def _flashes(frames: Described, cuts: list[int]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each flash: two cuts with the same picture around them, and brighter or darker between."""
    elapsed, luma = frames.elapsed, frames.luma
    for i, start in enumerate(cuts):
        for stop in cuts[i + 1 :]:
            if elapsed[stop] - elapsed[start] > _LONGEST_FLASH:
                break
            inside, outside = luma[start:stop].mean(), (luma[start - 1], luma[stop])
            is_flash = inside > max(outside) + 25 or inside < min(outside) - 25
            if is_flash and _change(frames, start - 1, stop) < _DIP:
                yield start, stop


def _lightning(frames: Described) -> Array:
    """Return whether (n,) each frame is much brighter or darker than most frames around it."""
    elapsed, luma = frames.elapsed, frames.luma
    first, last = np.searchsorted(elapsed, elapsed - _LONGEST_FLASH), np.searchsorted(elapsed, elapsed + _LONGEST_FLASH)
    usual = np.array([np.median(luma[i:j]) for i, j in zip(first, last, strict=True)])
    return np.abs(luma - usual) > 20


def _blends(frames: Described) -> Iterator[tuple[int, bool]]:
    """Yield the middle of each gradual change, a stretch of high scores, and whether it is certain."""
    elapsed = frames.elapsed
    times = np.arange(np.ceil(elapsed[0] / _GRID), np.floor(elapsed[-1] / _GRID) + 1) * _GRID
    scores, widths = blend_scores(frames, times)
    while len(times) and scores.max() > _BLEND:
        best = int(scores.argmax())
        is_sure = bool(scores[best] > _SURE_BLEND)
        low = np.flatnonzero(scores < 0.5 * _BLEND)
        start, stop = low[low < best].max(initial=-1) + 1, low[low > best].min(initial=len(times))
        middle = np.average(times[start:stop], weights=scores[start:stop])
        yield min(int(np.searchsorted(elapsed, middle)), len(elapsed) - 1), is_sure
        near = np.abs(times - times[best]) < widths[best] + 0.25
        near[start:stop] = True
        scores[near] = 0
