"""What a report says of a classifier's features: their kind, what was tried, and their networks in a line each."""

from collections.abc import Iterator, Mapping
from typing import Any

from framecnn.estimators.feature_choice import kind_of
from framecnn.estimators.network_features import NetworkFeatures
from framecnn.layers import InputLayer, ParallelLayer, ResizingLayer
from framecnn.networks.sequential import Sequential
from framecnn.text import counted, percent

__all__ = ["contributions_by_kind", "describe_features", "describe_networks", "networks_with_filters", "scale_name"]


def describe_features(classifier: Any) -> str:
    r"""Return which kind of features a classifier of frames has; if it was chosen, why, and at what cost.

    Parameters
    ----------
    classifier : FrameClassifier

    Returns
    -------
    str
        Accuracies are over held-out groups; seconds, which a file does not hold, those of learning and computing.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> tried = {"learned": 0.963, "pretrained": 0.936, "both": 0.965}
    >>> seconds = {"learned": 9.0, "pretrained": 30.0, "both": 39.0}
    >>> chosen = {"features": "both", "learned_share": 0.75, "features_accuracies": tried, "features_seconds": seconds}
    >>> print(describe_features(SimpleNamespace(chosen_=chosen)).replace("; ", "\n"))
    both learned (75 % of the variance) and pretrained (held-out accuracy 96.5 %, 39.0 s
    learned 96.3 %, 9.0 s
    pretrained 93.6 %, 30.0 s)
    """
    chosen = classifier.chosen_
    kind, seconds = chosen["features"], chosen["features_seconds"]
    tried = {
        name: percent(accuracy) + (f", {seconds[name]:.1f} s" if name in seconds else "")
        for name, accuracy in chosen["features_accuracies"].items()
    }
    said = kind
    if kind == "both":
        said = f"both learned ({100 * chosen['learned_share']:g} % of the variance) and pretrained"
    if kind not in tried:
        return said
    others = (f"; {name} {figures}" for name, figures in tried.items() if name != kind)
    return f"{said} (held-out accuracy {tried[kind]}{''.join(others)})"


def describe_networks(classifier: Any) -> dict[str, str]:
    """Return the size of each network that computes features, as text by the kind of features and the scale.

    Examples
    --------
    >>> import numpy as np
    >>> from framecnn import FrameClassifier
    >>> X = np.random.default_rng(0).integers(0, 256, (8, 24, 32, 3), np.uint8)
    >>> describe_networks(FrameClassifier(n_filters=4, grid=(1, 1), random_state=0).fit(X, ["a", "b"] * 4))
    {'learned, 24x32': '6 layers, 436 parameters, 221,616 multiply-adds for a frame, as many for its flipped copy'}
    """
    found = {}
    for part in classifier.features_.parts_:
        also = ", as many for its flipped copy" if part.averages_flips_ else ""
        for network in part.networks_:
            summary = network.summary()
            leaves = sum(row.layer not in ("", ParallelLayer.__name__) for row in summary.rows)
            found[f"{kind_of(part)}, {scale_name(network)}"] = (
                f"{counted(leaves, 'layer')}, {summary.n_params:,} parameters, "
                f"{summary.multiply_adds:,} multiply-adds for a frame{also}"
            )
    return found


def networks_with_filters(classifier: Any) -> Iterator[Sequential]:
    """Yield the networks to maps or features whose filters were learned from the training frames."""
    for part in classifier.features_.parts_:
        if not isinstance(part, NetworkFeatures):
            yield from part.backbones_


def scale_name(network: Sequential) -> str:
    """Return the size of the frames that the first filters of a network read, or its first layer if none reads any."""
    readers = [
        layer
        for layer in network.layers
        if len(layer.input_shape) == 3 and not isinstance(layer, InputLayer | ResizingLayer)
    ]
    first = next((layer for layer in readers if "kernel" in layer.params), readers[0])
    return "{}x{}".format(*first.input_shape)


def contributions_by_kind(by_kind: Mapping[str, float]) -> str:
    """Return the sums of the contributions of several kinds of features as text; "" for those of a single kind.

    Examples
    --------
    >>> contributions_by_kind({"learned": 1.234, "pretrained": -0.5}), contributions_by_kind({"learned": 1.234})
    ('learned features +1.23, pretrained features -0.50', '')
    """
    if len(by_kind) < 2:
        return ""
    return ", ".join(f"{kind} features {value:+.2f}" for kind, value in by_kind.items())
