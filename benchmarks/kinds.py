"""The accuracy of each kind of features on the same held-out frames, from one pass over the frames for all kinds."""

from framecnn import FrameClassifier, KMeansClassifier
from framecnn.estimators.checks import encode_groups, encode_labels
from framecnn.estimators.selection import choose_candidate, selection_rows

__all__ = ["KINDS", "accuracy_by_kind"]

KINDS = ("learned", "pretrained", "both")


def accuracy_by_kind(x_train, y_train, groups, x_test, y_test, seed):
    """Return the accuracy of each kind and of "auto", the kind that is chosen on the training frames; then that kind.

    Filters, grid, ridge penalty and head are fitted on the training frames, as ``FrameClassifier(features=kind)`` does.
    """
    classifier = FrameClassifier(features="both", random_state=seed).fit(x_train, y_train, groups)
    both, seed = classifier.features_, classifier.head_.random_state
    parts = {"learned": both.learned_, "pretrained": both.pretrained_, "both": both}
    n_learned = sum(network.output_shape[0] for network in both.learned_.networks_)
    columns = {"learned": slice(n_learned), "pretrained": slice(n_learned, None), "both": slice(None)}
    raw, held_out = both.compute(x_train), both.compute(x_test)
    codes, groups = encode_labels("", y_train, len(raw))[1], encode_groups("", groups, len(raw))
    rows = selection_rows(len(raw), groups, classifier.max_selection_frames, seed)
    own_groups = None if groups is None else groups[rows]
    chosen, _ = choose_candidate(
        KINDS, lambda kind: parts[kind].standardise(raw[rows][:, columns[kind]]), codes[rows], own_groups, seed
    )
    accuracies = {}
    for kind, part in parts.items():
        fitted = KMeansClassifier(random_state=seed).fit(part.standardise(raw[:, columns[kind]]), y_train, groups)
        accuracies[kind] = fitted.score((held_out[:, columns[kind]] - part.mean_) / part.scale_, y_test)
    return {**accuracies, "auto": accuracies[chosen]}, chosen
