"""The boundaries between shots in a sequence of frames, and how certain they are.

The search has this order. A dip of the contrast to nothing (a fade, a flash to white or black, black between
shots) is a boundary if the frames after it differ from those before: much, or less if the contrast falls and rises
gradually, since people make fades between shots. Cuts are peaks of `cut_scores` outside of dips and
flashes. Between those, gradual changes (dissolves, wipes) are peaks of `blend_scores`.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from framecnn.data.transitions import (
    CUT_WINDOW,
    Described,
    blend_scores,
    colour_correlation,
    cut_scores,
    difference,
    shifted_correlation,
)
from framecnn.typing import Array

__all__ = ["Boundary", "find_boundaries"]

_SAME_COLOURS = 0.85  # correlation of colours above which two frames belong to one shot, whatever their difference

# Dips: a fall of the contrast to nothing
_LONGEST_FLANK = 1.2  # seconds in which a shot fades out, or in
_LONGEST_FAINT = 0.5  # seconds of low contrast, though not blank, that count as the middle of a fade
_FAINT = 0.3  # share of the contrast around it below which a frame can be the middle of a fade
_FLATTEST = 0.1  # units of luma: frames whose contrast is this near to the lowest are the flattest part
_STEP = 0.1  # seconds: shorter breaks between low frames, and shorter steps on a flank, do not count
_GROWTH, _NOISE = 1.08, 2.0  # factor by which contrast or distance rise on a flank, and units of luma to be added
_LARGEST_STEP = 0.6  # share of the change of contrast on a flank that one step from frame to frame can be
_FADE, _SURE_FADE = 0.3, 0.6  # least change across a dip with two flanks that a shot boundary has
_BREAK, _SURE_BREAK = 0.6, 0.75  # the same if the contrast falls or rises at once, as in a flash
_CLEAR = 3.0  # contrast in units of luma of frames whose change is certain

# Cuts
_CUT, _SURE_CUT = 0.35, 0.45  # least score at 24 frames per second and more
_PER_SECOND = 2.0  # added to both per second by which frames are further apart, up to `_LONGEST_INTERVAL`
_INTERVAL, _LONGEST_INTERVAL = 1 / 24, 0.1  # seconds
_CALM = 0.5  # share of the upper quartile of the scores around a cut by which its score must be higher
_GREY = 0.12  # by which a score may be lower in movies without colours
_LEAST_SCORE = 0.2  # lower ones are not looked at
_ROUNDING = 0.01  # seconds

# Flashes: brighter or darker for a while
_LONGEST_FLASH = 0.7  # seconds
_FLASH, _LIGHTNING = 25, 20  # units of luma by which it differs from the frames at both ends; from most around it
_SHIFTED = (0.4, 0.6)  # least correlation of shifted structures within a shot: if other frames have no more; always
_SUDDEN = 0.75  # share of the change of luma near the beginning or end of a flash that is one step

# Gradual changes: dissolves and wipes
_GRID = 1 / 12  # seconds between the times at which they are looked for
_MARGIN = 0.25  # seconds next to other boundaries, and around a gradual change, in which there is no other
_FEWEST_FRAMES = 5
_BLEND, _SURE_BLEND = 0.5, 0.8  # least probability
_LOW = 0.25  # probability at which a gradual change ends


class Boundary(NamedTuple):
    """The index of the first frame of a shot, and whether the boundary is certain."""

    first: int
    is_sure: bool


class Dip(NamedTuple):
    """A fall of the contrast to nothing: the indices of five frames around it.

    They are the last frame before the contrast falls, the last before it is low, the first after its flattest part, the
    first after it is low, and the first after it has risen.
    """

    before: int
    start: int
    turn: int
    stop: int
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
    scores = cut_scores(elapsed, differences)
    found = []
    hidden = _flashes(frames, _cuts(frames, scores, np.zeros(n, bool)), _SUDDEN)
    scores[hidden | np.roll(hidden, 1)] = 0
    shown = np.flatnonzero(~hidden)
    without_flashes, ends = frames.take(shown) if hidden.any() else frames, np.r_[-1, shown, n]
    for dip in _dips(without_flashes):
        if dip.before >= 0 and dip.after < len(shown):
            flanks, luma = _are_gradual(without_flashes, dip), without_flashes.luma
            around, ends_of_low = [dip.before, dip.after], [dip.start - 1, dip.stop]
            if not any(flanks) and _is_flash(luma[dip.turn - 1], luma[ends_of_low]):
                around = ends_of_low
            change = _change(without_flashes, *around)
            is_clear = bool(without_flashes.contrast[around].min() > _CLEAR)
            least, sure = (_FADE, _SURE_FADE) if all(flanks) and is_clear else (_BREAK, _SURE_BREAK)
            if change > least:
                found.append(Boundary(int(shown[dip.turn]), is_clear and change > sure))
        hidden[ends[dip.before + 1] + 1 : ends[dip.after + 1] + 1] = True
    cuts = _cuts(frames, scores, hidden)
    soft = _flashes(frames, cuts, 0.0)
    hidden |= soft
    found = sorted(found + [cut for cut in cuts if not soft[[cut.first - 1, cut.first]].any()])
    hidden |= _lightning(frames)
    stops = [0, *(first for first, _ in found), n]
    for start, stop in pairwise(stops):
        shown = np.arange(start, stop)[~hidden[start:stop]]
        is_near_start = elapsed[shown] < elapsed[start] + _MARGIN * (start > 0)
        is_near_end = elapsed[shown] > elapsed[stop - 1] - _MARGIN * (stop < n)
        shown = shown[~(is_near_start | is_near_end)]
        if len(shown) >= _FEWEST_FRAMES:
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
    return float((difference(frames, ones, others) * (correlation < _SAME_COLOURS)).min())


def _dips(frames: Described) -> list[Dip]:
    """Return the falls of the contrast to nothing; `before` is -1, or `after` is n, if it lies outside the sequence."""
    elapsed, contrast, n = frames.elapsed, frames.contrast, len(frames.elapsed)
    window = 2 * _LONGEST_FLANK
    first, last = np.searchsorted(elapsed, elapsed - window), np.searchsorted(elapsed, elapsed + window)
    ahead = np.array([contrast[i : last[i]].max() for i in range(n)])
    behind = np.array([contrast[first[i] : i + 1].max() for i in range(n)])
    is_low = frames.is_blank | (contrast < _FAINT * np.minimum(ahead, behind))
    edges = np.flatnonzero(np.diff(is_low, prepend=False, append=False)).reshape(-1, 2).tolist()
    runs: list[list[int]] = []
    for start, stop in edges:
        if runs and elapsed[start] - elapsed[runs[-1][1] - 1] < _STEP:
            runs[-1][1] = stop
        else:
            runs.append([start, stop])
    dips: list[Dip] = []
    for start, stop in runs:
        if frames.is_blank[start:stop].any() or elapsed[stop - 1] - elapsed[start] < _LONGEST_FAINT:
            level = np.where(frames.is_blank[start:stop], 0, contrast[start:stop])
            turn = start + int(np.flatnonzero(level <= level.min() + _FLATTEST)[-1]) + 1
            flat = frames.luma[turn - 1]
            before, after = _climb(frames, start - 1, -1, flat), _climb(frames, stop, 1, flat)
            if dips and before < dips[-1].after:
                other = dips.pop()
                turn = turn if contrast[turn - 1] < contrast[other.turn - 1] else other.turn
                before, after = min(before, other.before), max(after, other.after)
                start, stop = other.start, max(stop, other.stop)
            dips.append(Dip(before, start, turn, stop, after))
    return dips


def _climb(frames: Described, index: int, step: int, flat: float) -> int:
    """Walk from `index` by `step` while contrast, or the distance of the luma from `flat`, rises; return the end."""
    elapsed, n, start = frames.elapsed, len(frames.elapsed), index
    contrast, distance = frames.contrast, np.abs(frames.luma - flat)
    while 0 <= index < n:
        there = index + step
        while 0 <= there < n and abs(elapsed[there] - elapsed[index]) < _STEP:
            there += step
        if not 0 <= there < n or abs(elapsed[there] - elapsed[start]) > _LONGEST_FLANK:
            break
        if contrast[there] < _GROWTH * contrast[index] and distance[there] < _GROWTH * distance[index] + _NOISE:
            break
        index = there
    return index


def _are_gradual(frames: Described, dip: Dip) -> list[bool]:
    """Return whether the contrast falls, and whether it rises, gradually: no step is most of the change."""
    level = np.where(frames.is_blank, 0, frames.contrast)
    flanks = level[dip.before : dip.turn], level[dip.turn - 1 : dip.after + 1]
    return [bool(np.abs(np.diff(flank)).max() < _LARGEST_STEP * np.ptp(flank)) for flank in flanks]


def _cuts(frames: Described, scores: Array, hidden: Array) -> list[Boundary]:
    """Return the local maxima of the scores that stand out from the half second around them."""
    elapsed = frames.elapsed
    scores = np.where(hidden, 0, scores)
    margin, found = CUT_WINDOW - _ROUNDING, []
    for i in np.flatnonzero(scores > _LEAST_SCORE):
        near = slice(*np.searchsorted(elapsed, (elapsed[i] - margin, elapsed[i] + margin)))
        if i - near.start > 0 and scores[near.start : i].max() >= scores[i]:
            continue
        if scores[near].max() > scores[i]:
            continue
        left, right = np.searchsorted(elapsed, (elapsed[i] - 3 * CUT_WINDOW, elapsed[i] + 3 * CUT_WINDOW))
        around = np.r_[left : max(i - 1, left), i + 2 : max(right, i + 2)]
        around = scores[around[~hidden[around]]]
        if colour_correlation(frames, np.array([i - 1]), np.array([i]))[0] > _SAME_COLOURS:
            continue
        more = _CALM * float(np.quantile(around, 0.75)) if len(around) else 0.0
        more += _PER_SECOND * float(np.clip(elapsed[i] - elapsed[i - 1], _INTERVAL, _LONGEST_INTERVAL) - _INTERVAL)
        more -= _GREY if frames.is_grey[i] and frames.is_grey[i - 1] else 0.0
        if scores[i] > _CUT + more:
            found.append(Boundary(int(i), bool(scores[i] > _SURE_CUT + more)))
    return found


def _flashes(frames: Described, cuts: list[Boundary], steepness: float) -> Array:
    """Return whether (n,) each frame is in a flash: brighter or darker than the shot at both ends.

    A step to the next frame is at least the share `steepness` of the change of luma there. If that is 0, the flash
    begins or ends at a cut. Short flashes come first, since a frame of one is no end of another.
    """
    elapsed, luma = frames.elapsed, frames.luma
    steps = np.abs(np.diff(luma, prepend=luma[:1]))
    firsts = np.array([cut.first for cut in cuts], int)
    edges = np.union1d(firsts, np.flatnonzero(steps > _FLASH))
    ends = np.searchsorted(elapsed[edges], elapsed[edges] + _LONGEST_FLASH)
    stretches = [(i, j) for k, i in enumerate(edges) for j in edges[k + 1 : ends[k]]]
    found = np.zeros(len(luma), bool)
    for start, stop in sorted(stretches, key=lambda ends: elapsed[ends[1]] - elapsed[ends[0]]):
        is_flash = _is_flash(luma[start:stop].mean(), luma[[start - 1, stop]])
        for edge, near in ((start, luma[max(start - 3, 0) : stop]), (stop, luma[start : stop + 3])):
            is_flash &= steps[edge] >= steepness * np.ptp(near)
        is_flash &= steepness > 0 or start in firsts or stop in firsts
        if is_flash and not found[[start - 1, stop]].any() and _is_same_shot(frames, edges, start - 1, stop):
            found[start:stop] = True
    return found


def _is_flash(inside: float, outside: Array) -> bool:
    """Return whether the luma of a flash is higher, or lower, than the luma (2,) at its ends."""
    return bool(inside > outside.max() + _FLASH or inside < outside.min() - _FLASH)


def _is_same_shot(frames: Described, edges: Array, before: int, after: int) -> bool:
    """Return whether the frames at both ends of a flash are alike, or as alike as others of both shots as far apart.

    In the first case the light is the same. Otherwise motion during the flash explains the difference if frames of both
    shots differ as much in that time; changes of the light do not count if the structure is the same, but shifted.
    """
    elapsed, luma = frames.elapsed, frames.luma
    if abs(luma[before] - luma[after]) < _FLASH and _change(frames, before, after) < _BREAK:
        return True
    length = elapsed[after] - elapsed[before] + _ROUNDING
    earlier, later = np.searchsorted(elapsed, (elapsed[before] - length, elapsed[after] + length))
    pairs = np.array([(before, after), (earlier, before), (after, min(later, len(elapsed) - 1))])
    if any(i == j or ((i < edges) & (edges <= j)).any() for i, j in pairs[1:]):
        return False
    differences, similarities = difference(frames, *pairs.T), shifted_correlation(frames, *pairs.T)
    return bool(
        differences[0] <= differences[1:].min() or similarities[0] >= np.clip(similarities[1:].max(), *_SHIFTED)
    )


def _lightning(frames: Described) -> Array:
    """Return whether (n,) each frame is much brighter or darker than most frames around it."""
    elapsed, luma = frames.elapsed, frames.luma
    first, last = np.searchsorted(elapsed, elapsed - _LONGEST_FLASH), np.searchsorted(elapsed, elapsed + _LONGEST_FLASH)
    usual = np.array([np.median(luma[i:j]) for i, j in zip(first, last, strict=True)])
    return np.abs(luma - usual) > _LIGHTNING


def _blends(frames: Described) -> Iterator[tuple[int, bool]]:
    """Yield the middle of each gradual change, a stretch of high scores, and whether it is certain."""
    elapsed = frames.elapsed
    times = np.arange(np.ceil(elapsed[0] / _GRID), np.floor(elapsed[-1] / _GRID) + 1) * _GRID
    scores, widths = blend_scores(frames, times)
    while len(times) and scores.max() > _BLEND:
        best = int(scores.argmax())
        is_sure = bool(scores[best] > _SURE_BLEND)
        low = np.flatnonzero(scores < _LOW)
        start, stop = low[low < best].max(initial=-1) + 1, low[low > best].min(initial=len(times))
        middle = np.average(times[start:stop], weights=scores[start:stop])
        yield min(int(np.searchsorted(elapsed, middle)), len(elapsed) - 1), is_sure
        near = np.abs(times - times[best]) < widths[best] + _MARGIN
        near[start:stop] = True
        scores[near] = 0
