"""What an explanation must add up to, from the head and the features that predictions use."""

import numpy as np

from framecnn.estimators import explain

UNIT = 2.0**-24  # of rounding to float32


def feature_weights(classifier, found):
    """Return the weight of every standardised feature in the evidence, for the nearest clusters of both classes."""
    head, classes = classifier.head_, classifier.classes_.tolist()
    distances = found["distances"]
    a, b = (
        min((k for k in range(len(distances)) if head.cluster_labels_[k] == classes.index(name)), key=distances.item)
        for name in (found["explanation"].label, found["explanation"].against)
    )
    towards = 2 * (head.cluster_centers_[a].astype(float) - head.cluster_centers_[b]) / head.temperature_
    return towards if head.projection is None else head.weights_.astype(float) @ towards


def explained(classifier, frame, **settings):
    distances = classifier.transform(frame[None])[0]
    return {"explanation": explain(classifier, frame, **settings), "distances": distances}


def rounding(classifier, frame, found):
    """Return a bound of the rounding of predictions in float32, to which contributions in float64 are compared.

    A feature is the root of a mean of at most `n` positive numbers, a score a sum over `d` features, a square a sum
    over `c` scores: every addition and multiplication rounds once.
    """
    features, head = classifier.features_, classifier.head_
    x = np.abs(features.transform(frame[None])[0].astype(float))
    raw = (x + np.abs(features.mean_ / features.scale_)) * (frame.size + 8) * UNIT
    weights = np.abs(feature_weights(classifier, found))
    squares = (found["distances"] ** 2).max() / head.temperature_
    if head.projection is None:
        return (raw * weights).sum() + 2 * squares * (len(x) + 4) * UNIT
    towards = 4 * np.abs(head.cluster_centers_).max() / head.temperature_
    scores = (x @ np.abs(head.weights_) + np.abs(head.offset_)).sum() * (len(x) + 4) * UNIT
    return (raw * weights).sum() + towards * scores + 2 * squares * (len(head.classes_) + 4) * UNIT
