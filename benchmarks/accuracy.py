"""Accuracy of the default classifier, and of the plain k-means head, on held-out frames.

    python benchmarks/accuracy.py FOLDER [--groups CSV] [--folds 4] [--seed 0] [--size 240x360] [--features KIND]
    python benchmarks/accuracy.py --npz FILE [--seed 0] [--features KIND]

A folder is divided into folds by group (StratifiedGroupKFold, shuffled with the seed); filters, grid, ridge penalty
and head are fitted on the training folds only. An .npz file holds x_train, y_train, x_test and y_test. With --json FILE
the figures are written to a file.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from framecnn import FrameClassifier, FrameFolder, KMeansClassifier


def measure(x_train, y_train, groups, x_test, y_test, seed, features="learned"):
    """Return accuracies in percent, and seconds, of the default classifier and the plain head on the same features."""
    start = time.perf_counter()
    classifier = FrameClassifier(features=features, random_state=seed).fit(x_train, y_train, groups)
    seconds = time.perf_counter() - start
    accuracy = 100 * classifier.score(x_test, y_test)
    fitted, chosen = classifier.features_, classifier.chosen_
    plain = KMeansClassifier(projection=None, random_state=seed).fit(fitted.transform(x_train), y_train)
    return {
        "accuracy": round(accuracy, 2),
        "plain_head": round(100 * plain.score(fitted.transform(x_test), y_test), 2),
        "fit_seconds": round(seconds, 1),
        "features": chosen["features"],
        "features_accuracies": {kind: round(100 * a, 2) for kind, a in chosen["features_accuracies"].items()},
        "features_seconds": {kind: round(seconds, 1) for kind, seconds in chosen["features_seconds"].items()},
        "grid": "x".join(map(str, chosen["grid"] or ())),
        "alpha": chosen["alpha"],
        "inner_accuracies": {"x".join(map(str, g)): round(100 * a, 2) for g, a in chosen["accuracies"].items()},
        "n_test": len(y_test),
    }


def parts_of(arguments):
    """Yield training frames, labels and groups, and test frames and labels, of every fold."""
    if arguments.npz:
        data = np.load(arguments.npz)
        yield data["x_train"], data["y_train"].ravel(), None, data["x_test"], data["y_test"].ravel()
        return
    size = tuple(int(n) for n in arguments.size.split("x"))
    folder = FrameFolder(arguments.folder, groups=arguments.groups, size=size)
    for train, test in folder.folds(arguments.folds, seed=arguments.seed):
        yield train.frames, train.targets, train.groups, test.frames, test.targets


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--groups")
    parser.add_argument("--npz")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", default="240x360", help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--features", default="learned", help="learned, trained, pretrained, both or auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.folder and not arguments.npz:
        parser.error("expected a FOLDER or --npz FILE")
    rows = []
    for x_train, y_train, groups, x_test, y_test in parts_of(arguments):
        rows.append(measure(x_train, y_train, groups, x_test, y_test, arguments.seed, arguments.features))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "source": Path(arguments.npz or arguments.folder).name,
        "seed": arguments.seed,
        "features": arguments.features,
        "mean_accuracy": round(float(np.mean([row["accuracy"] for row in rows])), 2),
        "mean_plain_head": round(float(np.mean([row["plain_head"] for row in rows])), 2),
        "folds": rows,
    }
    print(f"mean accuracy {result['mean_accuracy']} %, plain k-means head {result['mean_plain_head']} %")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
