"""Which features a classifier computes: learned, trained, pretrained, those of a network, or the best on held-out data.

What is computed for one kind of features is used for the others too: learned and pretrained features side by side are
both kinds, and need no further pass over the frames.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import clone

from framecnn.errors import SettingError
from framecnn.estimators.class_weights import balanced_weights
from framecnn.estimators.features import GRIDS, FrameFeatures
from framecnn.estimators.joined_features import JoinedFeatures
from framecnn.estimators.network_features import FeaturesBeside, NetworkFeatures
from framecnn.estimators.pretrained_features import PretrainedFeatures
from framecnn.estimators.selection import Grid, choose_candidate, selection_rows
from framecnn.estimators.trained_features import TrainedFeatures
from framecnn.estimators.transformer import Beside, FrameTransformer
from framecnn.networks.efficientnet import has_pretrained_weights
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array

__all__ = ["CLASSES", "FeatureChoice", "choose_features", "kind_of", "kinds_of", "new_features"]

CLASSES: dict[str, type[FrameTransformer]] = {
    "learned": FrameFeatures,
    "trained": TrainedFeatures,
    "pretrained": PretrainedFeatures,
    "both": JoinedFeatures,
    "network": NetworkFeatures,
}
"""The class of each kind of features."""

CANDIDATES = ("learned", "pretrained", "both")
"""The kinds among which ``features="auto"`` chooses, the cheapest first."""

GREY_OR_COLOUR = (1, 3)  # channels of the frames of which pretrained features can be computed

LEARNED_SHARES = (0.5, 0.25, 0.75, 0.875)
"""The shares of learned features in the variance of both, among which is chosen."""


@dataclass
class FeatureChoice:
    """Fitted features of one kind, those of the training frames (n, d), and what was tried.

    Accuracies are over held-out groups: of learned features by grid, and by kind if there was a choice; then seconds
    are those of learning and computing, by kind.
    """

    kind: str
    features: Any
    found: Array
    grids: dict[Grid, float] = field(default_factory=dict)
    accuracies: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def kinds_of(setting: Any) -> tuple[str, ...]:
    """Return the kinds that the setting `features` of a classifier allows; raise SettingError for another setting.

    None stands for a network that was not stored with the parameters of a classifier from a file.
    """
    if setting is None or isinstance(setting, Sequential | NetworkFeatures):
        return ("network",)
    names = (*(kind for kind in CLASSES if kind != "network"), "auto")
    if isinstance(setting, str) and setting in names:
        return CANDIDATES if setting == "auto" else (setting,)
    raise SettingError(
        f"FrameClassifier: expected features as one of {', '.join(names)}, a Sequential or NetworkFeatures, "
        f"got {setting!r}"
    )


def kind_of(features: FrameTransformer) -> str:
    """Return the kind of some features, which may be of a subclass."""
    return next(kind for kind, own_class in CLASSES.items() if isinstance(features, own_class))


def new_features(classifier: Any, kind: str, seed: int) -> Any:
    """Return unfitted features of a kind by the parameters of a classifier."""
    shape, setting = classifier.frame_shape, classifier.features
    match kind:
        case "trained":
            return TrainedFeatures(shape, random_state=seed)
        case "pretrained":
            return PretrainedFeatures(shape)
        case "network" if isinstance(setting, NetworkFeatures):
            return clone(setting).set_params(frame_shape=shape if shape is not None else setting.frame_shape)
        case "network":
            return NetworkFeatures(setting, frame_shape=shape)
    is_auto = isinstance(classifier.grid, str) and classifier.grid == "auto"
    return CLASSES[kind](
        shape,
        grid=GRIDS[0] if is_auto else classifier.grid,
        filters=classifier.filters,
        n_filters=classifier.n_filters,
        depth=classifier.depth,
        random_state=seed,
    )


def choose_features(
    classifier: Any, frames: Any, features: FrameTransformer, codes: Array, groups: Array | None, seed: int
) -> FeatureChoice:
    """Return fitted features: those of the kind that the classifier names, or that it chooses on held-out groups.

    `features` are those of the first kind, whose ``validate`` returned the frames. Each frame is read once to compute
    all kinds of features.
    """
    kinds = kinds_of(classifier.features)
    if features.frame_shape_ is None or not _can_choose(features.frame_shape_):
        kinds = kinds[:1]
    start = time.perf_counter()
    rows = selection_rows(len(frames), groups, classifier.max_selection_frames, seed)
    weights = None if classifier.class_weight is None else balanced_weights(codes[rows])
    if kinds[-1] != "both" or features.frame_shape_ is None:
        (kind,) = kinds
        features.learn(frames, codes, groups)
        raw, grids = _compute(classifier, features, frames, rows, codes, groups, seed, weights)
        return FeatureChoice(kind, features, features.standardise(raw), grids)
    learned, pretrained = new_features(classifier, "learned", seed), new_features(classifier, "pretrained", seed)
    for part in (learned, pretrained):
        part.validate(frames)
    learned.learn(frames, codes, groups)
    pretrained.build(learned.input_scale_)
    beside = FeaturesBeside(pretrained, len(frames))
    raw, grids = _compute(classifier, learned, frames, rows, codes, groups, seed, weights, beside)
    blocks = {"learned": [raw], "pretrained": [beside.found], "both": [raw, beside.found]}
    joined = [new_features(classifier, "both", seed).set_params(learned_share=share) for share in LEARNED_SHARES]
    candidates = [part for part in (learned, pretrained, *joined) if kind_of(part) in kinds]
    for part in joined:
        part.join(learned, pretrained)
    taken = time.perf_counter() - start
    seconds = {"learned": taken - beside.seconds, "pretrained": beside.seconds, "both": taken}

    def standardised(part: FrameTransformer, chosen: Any = slice(None)) -> Array:
        return part.standardise(np.hstack([block[chosen] for block in blocks[kind_of(part)]]))

    own_groups = None if groups is None else groups[rows]
    best, tried = choose_candidate(
        candidates, lambda part: standardised(part, rows), codes[rows], own_groups, seed, weights
    )
    accuracies: dict[str, float] = {}
    for part, choice in zip(candidates, tried, strict=bool(tried)):
        accuracies[kind_of(part)] = max(choice.accuracy, accuracies.get(kind_of(part), 0.0))
    kind = kind_of(best)
    own_seconds = {name: seconds[name] for name in kinds}
    return FeatureChoice(kind, best, standardised(best), grids if kind != "pretrained" else {}, accuracies, own_seconds)


def _can_choose(shape: Any) -> bool:
    """Return whether pretrained features can be computed of frames of a shape (h, w, c)."""
    return has_pretrained_weights() and shape[2] in GREY_OR_COLOUR


def _compute(
    classifier: Any,
    features: Any,
    frames: Any,
    rows: Array,
    codes: Array,
    groups: Array | None,
    seed: int,
    weights: Array | None,
    beside: Beside | None = None,
) -> tuple[Array, dict[Grid, float]]:
    """Return features of all frames, before standardisation, and the accuracy of each grid if one is chosen."""
    is_auto = isinstance(classifier.grid, str) and classifier.grid == "auto" and classifier.projection is not None
    if not isinstance(features, FrameFeatures) or features.frame_shape_ is None:
        return features.compute(frames), {}
    if not is_auto:
        return features.compute(frames, beside), {}
    raw, tried = features.choose_grid(frames, rows, codes, groups, seed, weights, beside)
    return raw, {grid: choice.accuracy for grid, choice in tried.items()}
