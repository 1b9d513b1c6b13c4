"""Recall and precision of the shot detector on transitions whose times are known.

    python -m benchmarks.bench_shots [--clips FOLDER] [--part held-out] [--movies 1] [--seed 0] [--json FILE]
    python -m benchmarks.bench_shots --part tuning --clips FOLDER --fit

Movies with one kind of transition each, at 10 to 60 frames per second, are made from shots of films and from rendered
scenes (`transition_clips.py`). The constants of the detector were chosen, and its coefficients fitted (``--fit`` prints
them), on the part "tuning"; the part "held-out" has other films and scenes. FOLDER holds ``cosmos_laundromat.mp4``
(tuning) and ``tears_of_steel.webm`` (held out); the other films are the clips of the demo.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks import machine, tables
from benchmarks.transition_clips import KINDS, compose, filmed_shots, visible_shot
from framecnn.data import transitions as evidence
from framecnn.data.demo_clips import demo_clips
from framecnn.data.movie import Movie
from framecnn.data.shots import ShotDetector

__all__ = ["blend_examples", "main", "measure", "movies", "score"]

RATES = (10, 12, 24, 25, 30, 50, 60)
CUTS = {
    "cosmos_laundromat": (20, 143, 208, 259, 318, 644, 761, 913, 1188),
    "tears_of_steel": (
        *(52, 122, 158, 221, 309, 715, 788, 872, 901, 987, 1127, 1157, 1203, 1234, 1246, 1284, 1345, 1378, 1430, 1472),
        *(1525, 1571, 1618, 1650, 1689),
    ),
    "bikes": (30, 76, 137, 187, 242),
    "bigbuckbunny": (),
    "carphone_pristine": (),
}
PARTS = {"tuning": ("cosmos_laundromat", "bikes", "carphone_pristine"), "held-out": ("tears_of_steel", "bigbuckbunny")}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of cosmos_laundromat.mp4 and tears_of_steel.webm")
    parser.add_argument("--part", choices=PARTS, default="held-out")
    parser.add_argument("--movies", type=int, default=1, help="movies per kind, rate and source (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", action="store_true", help="print coefficients fitted on these movies instead")
    parser.add_argument("--json", type=Path, help="the file for the figures")
    options = parser.parse_args(arguments)
    paths = [*demo_clips(), *(sorted(options.clips.iterdir()) if options.clips else ())]
    films = [path for path in paths if path.stem in PARTS[options.part]]
    made = movies(films, options.part, options.movies, options.seed)
    if options.fit:
        print(fit(made))
        return
    result = {"part": options.part, "films": [path.name for path in films], "seed": options.seed}
    result |= {"machine": machine.describe(), **measure(made), "seconds": [speed(path) for path in films]}
    print(markdown(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def movies(films, part, n, seed, kinds=KINDS, rates=RATES):
    """Yield (source, kind, movie): per kind and rate n movies of 8 shots of the films, and n of 6 rendered scenes."""
    shots = [shot for path in films for shot in filmed_shots(path, CUTS[path.stem])]
    first = list(PARTS).index(part) * 10_000
    for number, kind in enumerate(kinds):
        for rate in rates:
            for i in range(n):
                rng = np.random.default_rng([first, seed, number, rate, i])
                if shots:
                    drawn = [shots[j] for j in rng.permutation(len(shots))[:8]]
                    yield "films", kind, compose(kind, drawn, rate, rng)
                scenes = [visible_shot(first + int(j), 4.5) for j in rng.integers(0, 1000, 6)]
                yield "rendered", kind, compose(kind, scenes, rate, rng)


def measure(made):
    """Return the counts of each kind and source, and of each rate, and the detector's milliseconds per frame."""
    counts, seconds, n_frames, length = defaultdict(lambda: np.zeros(7, int)), 0.0, 0, 0.0
    for source, kind, movie in made:
        start = time.process_time()
        detector = ShotDetector()
        for when, picture in zip(movie.times, movie.pictures, strict=True):
            detector.push(float(when), picture)
        detector.finish()
        seconds += time.process_time() - start
        n_frames += len(movie.times)
        length += len(movie.times) / movie.rate
        found = (*score(movie, detector.starts[1:]), *score(movie, detector.group_starts[1:])[:3])
        for key in ((kind, source), (kind, "all"), ("all", f"{movie.rate} fps"), ("all", "all")):
            counts[key] += found
    return {
        "rows": [{"kind": kind, "of": of, **figures(*map(int, n))} for (kind, of), n in sorted(counts.items())],
        "hours": round(length / 3600, 3),
        "detector_ms_per_frame": round(1000 * seconds / n_frames, 3),
    }


def score(movie, found):
    """Return the numbers of boundaries that are right, missed and false, and of false ones at a flash.

    A boundary is right within two frames of a cut, or of any frame of a gradual transition (at least 0.2 s).
    """
    wrong, right = list(found), 0
    for kind, start, end in ((t.kind, t.start, t.end) for t in movie.transitions):
        slack = 2.001 / movie.rate if kind == "cut" else max(0.2, 2.001 / movie.rate)
        near = [place for place in wrong if start - slack <= place <= end + slack]
        if near:
            wrong.remove(min(near, key=lambda place: abs(place - (start + end) / 2)))
            right += 1
    at_flash = sum(any(a - 0.1 <= place <= b + 0.1 for a, b in movie.flashes) for place in wrong)
    return right, len(movie.transitions) - right, len(wrong), at_flash


def figures(right, missed, false, at_flash, sure, unsure, leaks):
    """Return recall and precision of shots and of groups."""
    return {
        "transitions": right + missed,
        "recall": round(right / max(right + missed, 1), 3),
        "precision": round(right / max(right + false, 1), 3),
        "false": false,
        "false_at_flashes": at_flash,
        "groups_recall": round(sure / max(sure + unsure, 1), 3),
        "groups_precision": round(sure / max(sure + leaks, 1), 3),
        "groups_false": leaks,
    }


def speed(path):
    """Return the wall-clock seconds of decoding and shrinking a movie, and of detecting its shots."""
    start = time.perf_counter()
    with Movie(path) as movie:
        frames = [(when, movie.small(frame)) for when, frame in movie.frames()]
    decoded, detector = time.perf_counter(), ShotDetector()
    for when, picture in frames:
        detector.push(when, picture)
    detector.finish()
    return {
        "film": path.name,
        "frames": len(frames),
        "decoding": round(decoded - start, 3),
        "detector": round(time.perf_counter() - decoded, 3),
    }


def markdown(result):
    """Return the figures as tables."""
    head = ("transitions", "of", "n", "recall", "precision", "false", "at flashes")
    head += ("recall of groups", "precision of groups")
    names = ("kind", "of", "transitions", "recall", "precision", "false", "false_at_flashes")
    names += ("groups_recall", "groups_precision")
    rows = [[row[name] for name in names] for row in result["rows"]]
    timing = [list(row.values()) for row in result["seconds"]]
    return "\n\n".join(
        (
            f"**Shots, {result['part']}**: {', '.join(result['films'])} and rendered scenes, {result['hours']} hours",
            tables.table(head, rows),
            tables.table(("film", "frames", "decoding and shrinking, s", "detector, s"), timing),
        )
    )


def fit(made):
    """Return the coefficients and the intercept of `evidence.blend_scores`, as text."""
    examples = (np.concatenate(part) for part in zip(*(blend_examples(movie) for _, _, movie in made), strict=True))
    x, y, widths = examples
    weights = np.ones(len(y))
    for width in evidence.WIDTHS:
        weights[(widths == width) & (y == 1)] = 0.035 / y[widths == width].mean()
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(max_iter=3000).fit(scaler.transform(x), y, sample_weight=weights)
    coefficients = model.coef_[0] / scaler.scale_
    intercept = float(model.intercept_[0] - coefficients @ scaler.mean_)
    return f"{', '.join(f'{c:.3g}' for c in coefficients)}; {intercept:.3g}"


def blend_examples(movie):
    """Return the features of all intervals that could hold a gradual transition, whether they hold one, and widths.

    An interval holds one if the middles of both are at most 15 % of the transition's length apart, and the interval is
    0.7 to 1.9 times as long. Other intervals near a transition are skipped, as are flashes and frames of fades.
    """
    step = np.clip(np.diff(movie.times, prepend=movie.times[0]), 1 / 60, 0.2)
    step[0] = 0
    described = evidence.describe(np.cumsum(step), movie.pictures)
    elapsed, is_clear = described.elapsed, np.ones(len(step), bool)
    for start, end in movie.flashes:
        is_clear &= (elapsed < start - 1e-6) | (elapsed >= end - 1e-6)
    blends, stops = [], [0.0]
    for kind, start, end in ((t.kind, t.start, t.end) for t in movie.transitions):
        if kind in ("dissolve", "wipe"):
            blends.append((start, end))
        else:
            is_clear &= (elapsed < start - 1e-6) | (elapsed >= end - 1e-6)
            stops.append(end)
    features, labels, widths = [], [], []
    for first, last in zip(stops, [*stops[1:], np.inf], strict=True):
        part = described.take(is_clear & (elapsed >= first - 1e-6) & (elapsed < last - 1e-6))
        for width in evidence.WIDTHS if len(part.elapsed) > 4 else ():
            times = np.arange(part.elapsed[0] + width, part.elapsed[-1] - width, 1 / 12)
            label = np.zeros(len(times))
            for start, end in blends:
                length, off = end - start, np.abs(times - (start + end) / 2)
                label[off < 0.5 * length + 0.3 * width] = np.nan
                label[(off < 0.15 * length + 0.02) & (0.7 * length < 2 * width < 1.9 * length)] = 1
            x = evidence.blend_features(part, times, width)
            counted = ~np.isnan(label) & evidence.could_blend(x)
            features.append(evidence.expanded(x[counted]))
            labels.append(label[counted])
            widths.append(np.full(counted.sum(), width))
    return np.concatenate(features), np.concatenate(labels), np.concatenate(widths)


if __name__ == "__main__":
    main()
