"""Accuracy with few training frames: learned features, pretrained ones, and both.

    python -m benchmarks.few_frames FOLDER [--groups CSV] [--counts 5,10,20] [--seeds 3] [--size 240x360] [--json FILE]

For each seed, a quarter of the frames is held out by group, and so many frames of each class are drawn from the others.
All kinds are fitted on the same frames and tested on all frames that were held out. The result is a table in Markdown:
the mean accuracy over the seeds, and its standard deviation.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.kinds import KINDS, accuracy_by_kind
from framecnn import FrameFolder


def drawn(targets, count, rng):
    """Return the rows of `count` random frames of each class (n_classes * count,); of all frames of a rarer class."""
    rows = [rng.permutation(np.flatnonzero(targets == target))[:count] for target in np.unique(targets)]
    return np.sort(np.concatenate(rows))


def accuracies(train, test, count, seed):
    """Return the accuracy of each kind on a fold."""
    rows = drawn(train.targets, count, np.random.default_rng([seed, count]))
    y, groups = train.targets[rows], train.groups[rows]
    return accuracy_by_kind(train.frames[rows], y, groups, test.frames, test.targets, seed)[0]


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
