"""Export of models as ONNX files."""

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from framecnn.data.decode import BACKGROUND
from framecnn.errors import FormatError, SettingError
from framecnn.interop.onnx_export_graph import Graph
from framecnn.interop.onnx_export_layers import add_network
from framecnn.interop.onnx_layout import onnx_shape
from framecnn.interop.onnx_library import DOUBLE, FLOAT, INT64, load_onnx
from framecnn.networks.sequential import Sequential
from framecnn.storage.atomic import atomic_write
from framecnn.typing import Shape
from framecnn.version import __version__

if TYPE_CHECKING:
    from framecnn.estimators import FrameClassifier, KMeansClassifier
    from framecnn.estimators.transformer import FrameTransformer

__all__ = ["OPSET", "to_onnx"]

OPSET = 17
OLDEST_OPSET = 13  # the first whose softmax works along one axis

PICTURES = {
    "channels": "RGB",
    "orientation": "upright by EXIF",
    "transparent": list(BACKGROUND),
    "filter": "bilinear",
    "antialiased": True,
    "reducing_gap": 2.0,
    "draft": "a JPEG is decoded at the smallest of 1, 1/2, 1/4 and 1/8 that is not below the size",
}
"""How :func:`framecnn.data.decode.decode` reads picture files, in Pillow's terms."""

Port = tuple[str, int, Shape]
"""An input or output: its name, ONNX's number of its dtype, and its shape without the batch."""


def to_onnx(model: Any, path: str | os.PathLike[str] | None = None, opset: int = OPSET) -> Any:
    """Return a model as a checked ONNX model, and write it to a file if `path` is given.

    A network maps ``x`` to ``y``. A classifier maps ``x`` to ``label`` (n,), the index of the class,
    ``probabilities`` (n, n_classes) and ``distances`` (n, n_clusters). The names of the classes and the requirements
    on frames are in the file's metadata, as JSON. Frames and maps are (n, c, h, w) float32, for any n.

    Parameters
    ----------
    model : Sequential or FrameClassifier
        Built, or fitted.
    path : path, optional
        The file to write.
    opset : int, default 17
        The version of ONNX's operators, at least 13.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    TypeError
        If `model` is neither.
    ShapeError
        If a network is not built.
    ValueError
        If a classifier is not fitted.
    SettingError
        If `opset` is not from 13 to the newest that onnx has.
    FormatError
        If a layer or setting has no equivalent in ONNX or in this opset; layers of your own need an entry in
        :data:`framecnn.interop.onnx_export_layers.ONNX_CONVERTERS`.
    MissingExtraError
        If onnx is not installed.

    Notes
    -----
    Exported networks compute in float32, whatever their dtype; classifiers of feature vectors keep theirs. Window
    variances and distances are computed in float64, as in framecnn. Dropout is dropped. Average pooling with dilation
    needs opset 19; ONNX Runtime refuses pooling whose padding is as wide as the window, which dilation allows.

    Examples
    --------
    >>> from framecnn import DenseLayer, InputLayer
    >>> file = to_onnx(Sequential([InputLayer((2,), scale=0.5), DenseLayer(1)]).build())
    >>> [node.op_type for node in file.graph.node]
    ['Mul', 'Gemm']
    """
    onnx = load_onnx("to_onnx")
    newest = onnx.defs.onnx_opset_version()
    if isinstance(opset, bool) or not isinstance(opset, int) or not OLDEST_OPSET <= opset <= newest:
        raise SettingError(f"to_onnx: expected opset from {OLDEST_OPSET} to {newest}, got {opset!r}")
    graph = Graph(opset)
    if isinstance(model, Sequential):
        inputs, outputs, about = _add_sequential(graph, model)
    else:
        inputs, outputs, about = _add_classifier(graph, model)
    file = _assembled(onnx, graph, inputs, outputs, about)
    try:
        onnx.checker.check_model(file, full_check=True)
    except onnx.checker.ValidationError as error:
        reason = str(error).splitlines()[0]
        raise FormatError(
            f"to_onnx: expected layers that opset {opset} has, got: {reason}; use a newer opset"
        ) from error
    if path is not None:
        with atomic_write(path) as temporary:
            temporary.write_bytes(file.SerializeToString())
    return file


def _add_sequential(graph: Graph, model: Sequential) -> tuple[list[Port], list[Port], dict[str, Any]]:
    if add_network(graph, model, "x") == "x":
        graph.add("Identity", "x")
    graph.name_last("y")
    return [("x", FLOAT, onnx_shape(model.input_shape))], [("y", FLOAT, onnx_shape(model.output_shape))], {}


def _add_classifier(graph: Graph, classifier: "FrameClassifier") -> tuple[list[Port], list[Port], dict[str, Any]]:
    from framecnn.estimators import FrameClassifier

    if not isinstance(classifier, FrameClassifier):
        raise TypeError(f"to_onnx: expected a Sequential or a FrameClassifier, got {type(classifier).__name__}")
    if not hasattr(classifier, "head_"):
        raise ValueError("to_onnx: expected a fitted FrameClassifier, got an unfitted one; call fit(X, y) first")
    features, head = classifier.features_, classifier.head_
    number = FLOAT if features.mean_.dtype == np.float32 else DOUBLE
    row = _add_features(graph, features)
    graph.scope = "head"
    squares = _add_squared_distances(graph, head, row)
    probabilities = _add_probabilities(graph, head, squares)
    graph.add("ArgMax", probabilities, axis=1, keepdims=0)
    graph.name_last("label")
    graph.add("Cast", probabilities, to=number)
    graph.name_last("probabilities")
    graph.add("Cast", graph.add("Sqrt", squares), to=number)
    graph.name_last("distances")
    frame, n_classes = features.frame_shape_, len(classifier.classes_)
    about: dict[str, Any] = {"classes": classifier.classes_.tolist()}
    if frame is not None:
        sizes = dict(zip(("height", "width", "channels"), frame, strict=True))
        about["frames"] = sizes | {"layout": "NCHW", "resize": "stretched", "values": features.dtype_kind_}
        if (frame[2], features.dtype_kind_) == (3, "integer"):
            about["pictures"] = PICTURES
    outputs = [
        ("label", INT64, ()),
        ("probabilities", number, (n_classes,)),
        ("distances", number, (len(head.cluster_centers_),)),
    ]
    return [("x", number, (features.n_features_in_,) if frame is None else onnx_shape(frame))], outputs, about


def _add_features(graph: Graph, features: "FrameTransformer") -> str:
    """Add the nodes from frames or vectors to standardised features (n, d); return the name of the features."""
    rows = [_add_raw_features(graph, part) for part in features.parts_ if part.backbones_]
    row = graph.add("Concat", *rows, axis=1) if len(rows) > 1 else rows[0] if rows else "x"
    graph.scope = "standardise"
    centred = graph.add("Sub", row, graph.constant(features.mean_))
    return graph.add("Div", centred, graph.constant(features.scale_))


def _add_raw_features(graph: Graph, features: "FrameTransformer") -> str:
    copies = ["x"]
    if features.averages_flips_:
        graph.scope = "mirror"
        start, end, axis, step = (graph.constant([n]) for n in (-1, -features.frame_shape_[1] - 1, 3, -1))
        copies.append(graph.add("Slice", "x", start, end, axis, step))
    rows = []
    for copy in copies:
        scales = [
            add_network(graph, network, copy, f"scale_{number}/")
            for number, network in enumerate(features.networks_, start=1)
        ]
        rows.append(graph.add("Concat", *scales, axis=1))
    if not features.averages_flips_:
        return rows[0]
    return graph.add("Mul", graph.add("Add", *rows), graph.constant(np.float32(0.5)))


def _add_squared_distances(graph: Graph, head: "KMeansClassifier", row: str) -> str:
    """Add the nodes from features to squared distances (n, n_clusters) in float64; return the name of the distances."""
    if head.projection is not None:
        centred = graph.add("Sub", row, graph.constant(head.mean_))
        row = graph.add("Gemm", centred, graph.constant(head.weights_), graph.constant(head.offset_))
    points = graph.add("Unsqueeze", graph.add("Cast", row, to=DOUBLE), graph.constant([1]))
    differences = graph.add("Sub", points, graph.constant(head.cluster_centers_.astype(np.float64)))
    return graph.reduce("ReduceSum", graph.add("Mul", differences, differences), 2)


def _add_probabilities(graph: Graph, head: "KMeansClassifier", squares: str) -> str:
    """Add the nodes from squared distances to probabilities; return the name of the probabilities."""
    # clusters of other classes are infinitely far
    of_class = head.cluster_labels_ == np.arange(len(head.classes_))[:, None]
    by_cluster = graph.add("Unsqueeze", squares, graph.constant([1]))
    by_class = graph.add("Add", by_cluster, graph.constant(np.where(of_class, 0, np.inf)))
    nearest = graph.reduce("ReduceMin", by_class, 2)
    return graph.add("Softmax", graph.add("Div", nearest, graph.constant(np.float64(-head.temperature_))), axis=1)


def _assembled(onnx: Any, graph: Graph, inputs: list[Port], outputs: list[Port], about: dict[str, Any]) -> Any:
    ends = [
        [onnx.helper.make_tensor_value_info(name, number, ["n", *shape]) for name, number, shape in ports]
        for ports in (inputs, outputs)
    ]
    nodes = [
        onnx.helper.make_node(node.operator, node.inputs, [node.output], node.output, **node.attributes)
        for node in graph.nodes
    ]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in graph.weights.items()]
    opsets = [onnx.helper.make_opsetid("", graph.opset)]
    file = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "framecnn", *ends, weights),
        opset_imports=opsets,
        ir_version=onnx.helper.find_min_ir_version_for(opsets),
        producer_name="framecnn",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(file, {name: json.dumps(value) for name, value in about.items()})
    return file
