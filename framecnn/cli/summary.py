"""``framecnn summary``: print the contents of a model file."""

from collections.abc import Iterator
from typing import Any

from framecnn.cli import console
from framecnn.cli.loading import load_model
from framecnn.cli.options import Model
from framecnn.cli.training_outputs import describe_choice
from framecnn.text import listed

__all__ = ["summary"]


def summary(model: Model) -> None:
    """Print the layers, classes and clusters of a model."""
    from framecnn import Sequential

    loaded = load_model(model)
    networks = [loaded]
    if not isinstance(loaded, Sequential):
        console.table(list(_facts(loaded)))
        networks = loaded.features_.networks_
    for network in networks:
        if network is not loaded:
            height, width, _ = network.input_shape
            console.say()
            console.say(f"network for frames of {height}x{width} pixels")
        for line in str(network.summary()).splitlines():
            console.say(line)


def _facts(classifier: Any) -> Iterator[tuple[str, str]]:
    features, head = classifier.features_, classifier.head_
    n_clusters, n_dimensions = head.cluster_centers_.shape
    shape = features.frame_shape_
    yield "classes", f"{len(classifier.classes_)}: {listed(classifier.classes_)}"
    if shape is not None:
        flipped = ", each also flipped left to right" if features.averages_flips_ else ""
        yield "frames", f"{shape[0]}x{shape[1]} pixels, {shape[2]} channels{flipped}"
    yield "features", f"{head.n_features_in_:,}"
    yield "head", f"{n_clusters:,} clusters in {n_dimensions:,} dimensions"
    yield from describe_choice(classifier).items()
