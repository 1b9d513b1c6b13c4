"""Layers equivalent to the operations of a Keras graph, which may branch."""

import math
from collections.abc import Mapping

from framecnn.errors import FormatError
from framecnn.interop.keras_graph import SOURCE, KerasGraph, Operation
from framecnn.interop.keras_import_layers import read_operation
from framecnn.interop.network_parts import Parts
from framecnn.interop.series_parallel import Chain, Merge, NotSeriesParallelError, decompose
from framecnn.typing import Shape

__all__ = ["parts_of"]

MERGES: Mapping[str, str] = {
    f"{prefix}{kind}": kind.lower() for kind in ("Add", "Concatenate", "Multiply") for prefix in ("", "ops.")
}
"""Keras's layers and functions of several values, and what they are called in a ParallelLayer."""


def parts_of(graph: KerasGraph, input_shape: Shape) -> Parts:
    """Return the layers of a graph, with their weights.

    Raises
    ------
    FormatError
        If an operation has no equivalent, or branches do not end at one merge.
    """
    inputs = {name: operation.inputs for name, operation in graph.operations.items()}
    joined = [name for name, operation in graph.operations.items() if MERGES.get(operation.kind) == "concatenate"]
    try:
        chain = decompose(inputs, SOURCE, graph.target, joined)
    except NotSeriesParallelError as error:
        raise FormatError(f"from_keras: {error}; convert part of the model") from error
    return _parts(graph, chain, Parts(input_shape))


def _parts(graph: KerasGraph, chain: Chain, parts: Parts) -> Parts:
    """Append the layers of a chain."""
    for step in chain:
        if isinstance(step, Merge):
            branches = tuple(_parts(graph, branch, Parts(parts.shape)) for branch in step.branches)
            merge = _merge_of(graph.operations[str(step.node)], [branch.shape for branch in branches])
            parts.append_merge(merge, branches)
        else:
            read_operation(graph.operations[str(step)], parts)
    return parts


def _merge_of(operation: Operation, shapes: list[Shape]) -> str:
    """Return how values of some shapes are merged; raise FormatError if a ParallelLayer cannot do that."""
    merge = MERGES.get(operation.kind)
    if merge is None:
        raise operation.unsupported("of operations on several values framecnn has sums, products and concatenations")
    if merge == "concatenate":
        axis = operation.config["axis"]
        if axis not in (-1, len(operation.output_shape)):
            raise operation.unsupported(f"expected values that are joined along the channels, got axis={axis}")
        return merge
    largest = max(shapes, key=math.prod)
    per_channel = (*(1 for _ in largest[:-1]), largest[-1])
    allowed = {largest, per_channel} if merge == "multiply" else {largest}
    if not allowed.issuperset(shapes):
        raise operation.unsupported(
            "expected values of one shape, or in a product one value per channel beside maps, "
            f"got {', '.join(map(str, shapes))}"
        )
    return merge
