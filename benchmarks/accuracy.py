"""Accuracy of the default classifier, and of the plain k-means head, on held-out frames.

    python -m benchmarks.accuracy FOLDER [--groups CSV] [--folds 4] [--size 240x360] [OPTIONS]
    python -m benchmarks.accuracy --npz FILE [OPTIONS]

OPTIONS are [--seed 0] [--features KIND | --by-kind] [--json FILE]. A folder is divided into folds by group
(StratifiedGroupKFold, shuffled with the seed); filters, grid, ridge penalty and head are fitted on the training folds
only. With --by-kind, learned, pretrained and both features are compared, and "auto", the kind that is chosen on the
training folds. An .npz file holds x_train, y_train, x_test and y_test.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks.kinds import accuracy_by_kind
from framecnn import FrameClassifier, FrameFolder, KMeansClassifier


def measure(x_train, y_train, groups, x_test, y_test, seed, features="auto"):
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


def measure_kinds(x_train, y_train, groups, x_test, y_test, seed):
    """Return the accuracy of each kind of features in percent, and which kind "auto" chose."""
    accuracies, chosen = accuracy_by_kind(x_train, y_train, groups, x_test, y_test, seed)
    percent = {kind: round(100 * accuracy, 2) for kind, accuracy in accuracies.items()}
    return {"accuracy_by_kind": percent, "chosen": chosen, "n_test": len(y_test)}


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
    parser.add_argument("--features", default="auto", help="auto (default), learned, trained, pretrained or both")
    parser.add_argument("--by-kind", action="store_true", help="compare the kinds of features")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not arguments.folder and not arguments.npz:
        parser.error("expected a FOLDER or --npz FILE")
    rows = []
    for parts in parts_of(arguments):
        if arguments.by_kind:
            rows.append(measure_kinds(*parts, arguments.seed))
        else:
            rows.append(measure(*parts, arguments.seed, arguments.features))
        print(json.dumps(rows[-1]), flush=True)
    result = {"source": Path(arguments.npz or arguments.folder).name, "seed": arguments.seed}
    if arguments.by_kind:
        kinds = {kind: mean(row["accuracy_by_kind"][kind] for row in rows) for kind in rows[0]["accuracy_by_kind"]}
        result |= {"mean_accuracy_by_kind": kinds, "folds": rows}
        print(f"mean accuracy {', '.join(f'{kind} {accuracy} %' for kind, accuracy in kinds.items())}")
    else:
        result |= {
            "features": arguments.features,
            "mean_accuracy": mean(row["accuracy"] for row in rows),
            "mean_plain_head": mean(row["plain_head"] for row in rows),
            "folds": rows,
        }
        print(f"mean accuracy {result['mean_accuracy']} %, plain k-means head {result['mean_plain_head']} %")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def mean(accuracies):
    """Return the mean of accuracies in percent."""
    return round(float(np.mean(list(accuracies))), 2)


if __name__ == "__main__":
    main()
