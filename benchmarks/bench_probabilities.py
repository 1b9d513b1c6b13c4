"""Calibration of probabilities, and detection of frames of a class that was not trained.

    python -m benchmarks.bench_probabilities FOLDER... [--folds 4] [--seeds 0 1 2] [--size 240x360] [--unknown]
                                             [--features KIND] [--json FILE]

For each folder, predictions of all folds by group are taken together: accuracy, the expected calibration error in 15
bins of equal count, the Brier score (summed over classes), the negative log-likelihood, and the share of test frames
that `reject` marks. With ``--unknown`` each class is left out in turn: a quarter of the groups of the other classes is
held out, the rest is trained, and outlier scores of the held-out frames are compared with those of the class that was
left out, and of white, black and noise pictures.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.tables import table
from framecnn import FrameClassifier, FrameFolder

N_BINS = 15
FALSE_ALARMS = 0.1


def calibration_error(probabilities, codes):
    """Return the expected calibration error (Guo et al. 2017) in bins of equal count.

    Shapes: probabilities (n, n_classes), codes (n,) true class numbers.
    """
    confidences, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == codes
    bins = np.array_split(np.argsort(confidences, kind="stable"), N_BINS)
    return sum(len(rows) * abs(confidences[rows].mean() - right[rows].mean()) for rows in bins if len(rows)) / len(
        codes
    )


def calibration(folder, n_folds, seed, features):
    """Return the measurements of one split of a folder into folds."""
    parts, rejected = [], []
    for train, test in folder.folds(n_folds, seed=seed):
        classifier = FrameClassifier(features=features, random_state=seed).fit(
            train.frames, train.targets, train.groups
        )
        details = classifier.predict_details(test.frames)
        parts.append((details.probabilities, np.searchsorted(classifier.classes_, test.targets)))
        rejected.append(details.out_of_distribution)
    probabilities, codes = (np.concatenate(values) for values in zip(*parts, strict=True))
    likelihood = probabilities[np.arange(len(codes)), codes]
    one_hot = np.eye(probabilities.shape[1])[codes]
    return {
        "folder": Path(folder.root).name,
        "seed": seed,
        "accuracy": float((probabilities.argmax(axis=1) == codes).mean()),
        "calibration_error": float(calibration_error(probabilities, codes)),
        "brier": float(np.square(probabilities - one_hot).sum(axis=1).mean()),
        "negative_log_likelihood": float(-np.log(np.maximum(likelihood, 1e-12)).mean()),
        "rejected": float(np.concatenate(rejected).mean()),
    }


def unknown_class(folder, code, n_folds, seed, features):
    """Return how well frames of one class are detected by a classifier of the other classes."""
    known = folder.targets != code
    train, held_out = next(iter(folder.folds(n_folds, seed=seed)))
    rows, others = (np.flatnonzero(part.targets != code) for part in (train, held_out))
    classifier = FrameClassifier(features=features, random_state=seed)
    classifier.fit(train.frames[rows], train.targets[rows], train.groups[rows])
    shape = classifier.features_.frame_shape_
    noise = np.random.default_rng(seed).integers(0, 256, (3, *shape), dtype=np.uint8)
    special = np.concatenate([noise, np.full((1, *shape), 255, np.uint8), np.zeros((1, *shape), np.uint8)])
    frames = {"known": held_out.frames[others], "unknown": folder.frames[np.flatnonzero(~known)], "special": special}
    scores = {name: classifier.outlier_scores(part) for name, part in frames.items()}
    labels = np.repeat([0, 1], [len(scores["known"]), len(scores["unknown"])])
    limit = np.quantile(scores["known"], 1 - FALSE_ALARMS)
    threshold = classifier.outlier_threshold_
    return {
        "folder": Path(folder.root).name,
        "unknown": str(folder.classes[code]),
        "auroc": float(roc_auc_score(labels, np.concatenate([scores["known"], scores["unknown"]]))),
        "recall_at_10_percent": float((scores["unknown"] > limit).mean()),
        "false_alarms": float((scores["known"] > threshold).mean()),
        "rejected": float((scores["unknown"] > threshold).mean()),
        "special_rejected": float((scores["special"] > threshold).mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", default="240x360", help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--unknown", action="store_true", help="leave each class out in turn instead")
    parser.add_argument("--features", default="learned", help="learned, trained, pretrained, both or auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    size = tuple(int(n) for n in arguments.size.split("x"))
    rows = []
    for path in arguments.folders:
        folder = FrameFolder(path, size=size)
        if arguments.unknown:
            codes, seed = range(len(folder.classes)), arguments.seeds[0]
            rows += [unknown_class(folder, code, arguments.folds, seed, arguments.features) for code in codes]
        else:
            rows += [calibration(folder, arguments.folds, seed, arguments.features) for seed in arguments.seeds]
    columns = list(rows[0])
    cells = [[value if isinstance(value, str | int) else f"{value:.4f}" for value in row.values()] for row in rows]
    means = [f"{np.mean([row[name] for row in rows]):.4f}" if name not in columns[:2] else "" for name in columns]
    print(table(columns, [*cells, ["mean", *means[1:]]]))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
