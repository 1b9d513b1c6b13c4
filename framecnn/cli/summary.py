"""``framecnn summary``: print the contents of a model file."""

from collections.abc import Iterator
from typing import Any

from framecnn.cli import console
from framecnn.cli.loading import load_model
from framecnn.cli.options import Figures, Model
from framecnn.cli.outputs import check_outputs, check_replaced, json_mark, write_json
from framecnn.estimators.feature_choice import kind_of
from framecnn.networks import Sequential
from framecnn.networks.summary import Summary
from framecnn.report.contents import describe_choice
from framecnn.text import listed

__all__ = ["summary"]


def summary(model: Model, json: Figures = None) -> None:
    """Print the layers, classes and clusters of a model."""
    (json,) = check_outputs([json], [model])
    check_replaced({json: json_mark("summary")})
    loaded = load_model(model)
    facts = dict(_facts(loaded))
    console.table(list(facts.items()))
    networks = _networks(loaded)
    kinds = _kinds(loaded)
    for number, network in enumerate(networks, start=1):
        if facts:
            height, width, _ = network.input_shape
            kind = f", {kinds[number - 1]} features" if len(set(kinds)) > 1 else ""
            console.say()
            console.say(f"network {number} of {len(networks)}, for frames of {height}x{width} pixels{kind}")
        for line in str(network.summary()).splitlines():
            console.say(line)
    found = {
        "model": type(loaded).__name__,
        "classes": [str(label) for label in getattr(loaded, "classes_", ())],
        "facts": facts,
        "networks": [_as_json(network.summary()) for network in networks],
    }
    write_json(json, "summary", found)


def _networks(model: Any) -> list[Sequential]:
    """Return the networks of a model of any kind."""
    if isinstance(model, Sequential):
        return [model]
    return getattr(getattr(model, "features_", model), "networks_", [])


def _kinds(model: Any) -> list[str]:
    """Return the kind of the features that each network of a model computes."""
    parts = getattr(getattr(model, "features_", model), "parts_", [])
    return [kind_of(part) for part in parts for _ in part.networks_]


def _as_json(summary: Summary) -> dict[str, Any]:
    """Return the table of a network."""
    layers = [
        {"name": row.name, "layer": row.layer, "depth": row.depth, "output": list(row.output_shape)}
        | {"parameters": row.n_params, "multiply_adds": row.multiply_adds}
        for row in summary.rows
    ]
    return {"layers": layers, "parameters": summary.n_params, "multiply_adds": summary.multiply_adds}


def _facts(model: Any) -> Iterator[tuple[str, str]]:
    """Yield what a model of any kind but a network says beside its networks."""
    features, head = getattr(model, "features_", model), getattr(model, "head_", model)
    shape = getattr(features, "frame_shape_", None)
    if hasattr(model, "classes_"):
        yield "classes", f"{len(model.classes_)}: {listed(model.classes_)}"
    if shape is not None:
        flipped = [part for part in features.parts_ if part.averages_flips_]
        also = f" for {kind_of(flipped[0])} features" if 0 < len(flipped) < len(features.parts_) else ""
        copies = f", each also flipped left to right{also}" if flipped else ""
        yield "frames", f"{shape[0]}x{shape[1]} pixels, {shape[2]} channels{copies}"
    if hasattr(head, "cluster_centers_"):
        n_clusters, n_dimensions = head.cluster_centers_.shape
        yield "features", f"{head.n_features_in_:,}"
        yield "head", f"{n_clusters:,} clusters in {n_dimensions:,} dimensions"
    elif hasattr(features, "scale_"):
        yield "features", f"{len(features.scale_):,}"
    if hasattr(model, "chosen_"):
        yield from describe_choice(model).items()
