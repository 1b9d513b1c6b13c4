"""Accuracy with few training frames: learned features, pretrained ones, and both.

    python benchmarks/few_frames.py FOLDER [--groups CSV] [--counts 5,10,20] [--seeds 3] [--size 240x360] [--json FILE]

For each seed, a quarter of the frames is held out by group, and so many frames of each class are drawn from the others.
All kinds are fitted on the same frames and tested on all frames that were held out. The result is a table in Markdown:
the mean accuracy over the seeds, and its standard deviation.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from framecnn import FrameClassifier, FrameFolder, KMeansClassifier

KINDS = ("learned", "pretrained", "both")


def drawn(targets, count, rng):
    """Return the rows of `count` random frames of each class (n_classes * count,); of all frames of a rarer class."""
    rows = [rng.permutation(np.flatnonzero(targets == target))[:count] for target in np.unique(targets)]
    return np.sort(np.concatenate(rows))


def accuracies(train, test, count, seed):
    """Return the accuracy of each kind on a fold, from one pass over the frames for all kinds."""
    rows = drawn(train.targets, count, np.random.default_rng([seed, count]))
    y, groups = train.targets[rows], train.groups[rows]
    frames = train.frames[rows]
    both = FrameClassifier(features="both", random_state=seed).fit(frames, y, groups).features_
    parts = {"learned": both.learned_, "pretrained": both.pretrained_, "both": both}
    raw = [both.compute(frames), both.compute(test.frames)]
    n_learned = sum(network.output_shape[0] for network in both.learned_.networks_)
    columns = {"learned": slice(n_learned), "pretrained": slice(n_learned, None), "both": slice(None)}
    found = {}
    for kind, part in parts.items():
        own, held_out = (values[:, columns[kind]] for values in raw)
        head = KMeansClassifier(random_state=seed).fit(part.standardise(own), y, groups)
        found[kind] = head.score((held_out - part.mean_) / part.scale_, test.targets)
    return found


def measured(folder, counts, seeds):
    """Yield the number of frames a class, the seed, and the accuracy of each kind."""
    for seed in range(seeds):
        train, test = folder.folds(4, seed=seed)[0]
        for count in counts:
            yield {"frames_per_class": count, "seed": seed, **accuracies(train, test, count, seed)}


def table(name, rows):
    """Return the lines of a table in Markdown."""
    yield f"| {name}, frames a class | learned | pretrained | both |"
    yield "| --- | --- | --- | --- |"
    for count in sorted({row["frames_per_class"] for row in rows}):
        own = [row for row in rows if row["frames_per_class"] == count]
        cells = (
            f"{100 * np.mean(v):.1f} ± {100 * np.std(v):.1f}" for v in ([row[kind] for row in own] for kind in KINDS)
        )
        yield f"| {count} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--groups")
    parser.add_argument("--counts", default="5,10,20", help="numbers of training frames of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", default="240x360", help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = tuple(int(n) for n in arguments.size.split("x"))
    folder = FrameFolder(arguments.folder, groups=arguments.groups, size=size)
    rows = []
    for row in measured(folder, [int(n) for n in arguments.counts.split(",")], arguments.seeds):
        rows.append(row)
        print(json.dumps(row), flush=True)
    print("\n".join(table(folder.root.name, rows)))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"source": folder.root.name, "results": rows}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
