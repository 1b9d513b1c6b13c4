"""``framecnn summary``: what is inside a model file."""

from pathlib import Path
from typing import Annotated

import typer

from framecnn.cli import console

__all__ = ["summary"]


def summary(model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model that framecnn wrote.")]) -> None:
    """Show a model's layers, classes and clusters."""
    from framecnn import Sequential, load

    loaded = load(model)
    networks = [loaded] if isinstance(loaded, Sequential) else loaded.features_.networks_
    if not isinstance(loaded, Sequential):
        from framecnn.cli.workflow import describe_choice

        features, head = loaded.features_, loaded.head_
        shape = "feature vectors" if features.frame_shape_ is None else " x ".join(map(str, features.frame_shape_))
        console.table(
            [
                ("classes", ", ".join(map(str, loaded.classes_))),
                ("frames", shape + (", with mirrored copies" if features.mirrored_ else "")),
                ("features", f"{head.n_features_in_:,}"),
                ("head", f"{len(head.cluster_centers_)} clusters in {head.cluster_centers_.shape[1]} dimensions"),
                *describe_choice(loaded).items(),
            ]
        )
    for network in networks:
        console.say()
        for line in str(network.summary()).splitlines():
            console.say(line)
