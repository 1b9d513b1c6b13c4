"""The accuracy of each kind of features on the same held-out frames, from one pass over the frames for all kinds."""

import numpy as np

from framecnn import FrameClassifier, KMeansClassifier
from framecnn.estimators.checks import encode_groups, encode_labels
from framecnn.estimators.selection import choose_kind, selection_rows

__all__ = ["KINDS", "accuracy_by_kind"]

KINDS = ("learned", "pretrained", "both")


def accuracy_by_kind(x_train, y_train, groups, x_test, y_test, seed):
    """Return the accuracy of each kind and of "auto", the kind that is chosen on the training frames; then that kind.

    Filters, grid, ridge penalty and head are fitted on the training frames, as ``FrameClassifier(features=kind)`` does.
    """
    classifier = FrameClassifier(features="both", random_state=seed).fit(x_train, y_train, groups)
    both, head = classifier.features_, classifier.head_
    parts = {"learned": both.learned_, "pretrained": both.pretrained_, "both": both}
    n_learned = sum(network.output_shape[0] for network in both.learned_.networks_)
    columns = {"learned": slice(n_learned), "pretrained": slice(n_learned, None), "both": slice(None)}
    raw, held_out = both.compute(x_train), both.compute(x_test)
    rows = selection_rows(
        len(raw), encode_groups("", groups, len(raw)), classifier.max_selection_frames, head.random_state
    )
    own_groups = encode_groups("", None if groups is None else np.asarray(groups)[rows], len(rows))
    candidates = {kind: parts[kind].standardise(raw[rows][:, columns[kind]]) for kind in KINDS}
    codes = encode_labels("", y_train, len(raw))[1][rows]
    chosen, _ = choose_kind(candidates, codes, own_groups, head.random_state)
    accuracies = {}
    for kind, part in parts.items():
        own = part.standardise(raw[:, columns[kind]])
        fitted = KMeansClassifier(random_state=head.random_state).fit(own, y_train, groups)
        accuracies[kind] = fitted.score((held_out[:, columns[kind]] - part.mean_) / part.scale_, y_test)
    return {**accuracies, "auto": accuracies[chosen]}, chosen
