"""Models as data: what a file describes is built from classes of the registry, and code from a file never runs.

:mod:`framecnn.storage.container` reads and checks the file; here the description builds a model, whose tensors must
have exactly the shapes that it expects.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framecnn.errors import FormatError, ShapeError
from framecnn.layers import Layer
from framecnn.networks.sequential import Sequential
from framecnn.storage import container as model_file
from framecnn.training import checkpoint
from framecnn.typing import Array, Shape

if TYPE_CHECKING:
    from framecnn.estimators import FrameClassifier, KMeansClassifier
    from framecnn.estimators.transformer import FrameTransformer

__all__ = ["check_map", "load", "save"]

FLOATS: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float64": np.dtype(np.float64)}
LARGEST_MAP = 2**28  # values a layer gives for one frame: 1 GiB of float32
LARGEST_LABELS = 2**26  # bytes of all class names
LABEL_DTYPES = re.compile(r"\|b1|[<>|][iuf][1248]|[<>]U\d{1,7}|\|O")  # what JSON can give back

FEATURE_ARRAYS = ("mean_", "scale_")
HEAD_ARRAYS = ("cluster_centers_", "cluster_labels_", "prototypes_", "radius_")
PROJECTION_ARRAYS = ("mean_", "weights_", "offset_")

Description = Mapping[str, Any]


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a built Sequential or a fitted FrameClassifier; the file is whole or not there.

    The same model gives the same bytes: no clock, path, host or number of threads is stored.

    Parameters
    ----------
    model : Sequential or FrameClassifier
    path : path
        Usually ``model.safetensors``; an older file is replaced.

    Raises
    ------
    TypeError
        If `model` is neither, or its labels are no numbers, bools or strings.
    ValueError
        If it is not built or fitted, holds NaN or infinity, or is too large for :func:`load`.

    Examples
    --------
    >>> import tempfile
    >>> from framecnn import DenseLayer, InputLayer
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save(Sequential([InputLayer((2,)), DenseLayer(1)]).build(), path)
    >>> load(path).output_shape
    (1,)
    """
    from framecnn import __version__

    description, tensors = _describe(model)
    _build(description, tensors)  # what could not be loaded is not saved
    versions = {"framecnn": __version__} | {name: version(name) for name in ("numpy", "numba", "scikit-learn")}
    model_file.write(path, description | {"versions": versions}, tensors)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what :func:`save` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    Sequential or FrameClassifier
        A classifier predicts as before, to the bit; what only describes its training samples (``head_.labels_``) and a
        `random_state` that is no number are not kept.

    Raises
    ------
    FormatError
        If the file is anything but a whole, consistent model of this format.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        description, tensors = model_file.read(path)
        if description.get("kind") == checkpoint.KIND:
            raise FormatError("expected a model, got a checkpoint; go on from it with resume=True, then save the model")
        del description["versions"]
        return _build(description, tensors)
    except FormatError as error:
        raise FormatError(f"{path.name}: {_shortened(error)}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = _shortened(f"{type(error).__name__}: {error}")
        raise FormatError(f"{path.name}: expected a framecnn model, got one that cannot be built ({reason})") from error


def check_map(layer: Layer, shape: Shape) -> Shape:
    """Refuse a layer so wide that a frame would not fit into memory: a few bytes of settings can ask for any border.

    Parameters
    ----------
    layer : Layer
    shape : tuple of int
        Shape of its input.

    Returns
    -------
    tuple of int
        Shape of its output.

    Raises
    ------
    ShapeError
        If input, border or output have more than 2**28 values a frame, or the layer does not fit the input.

    Examples
    --------
    >>> from framecnn import PoolingLayer
    >>> check_map(PoolingLayer(2), (240, 360, 3))
    (120, 180, 3)
    """
    padding = getattr(layer, "padding", None)
    sides = padding if isinstance(padding, tuple) else ()
    bordered = [length + before + after for length, (before, after) in zip(shape, sides, strict=False)]
    output = layer.infer_shape(shape)
    if math.prod(output) > LARGEST_MAP:
        raise ShapeError(f"{type(layer).__name__}: expected at most {LARGEST_MAP:,} values a frame, got {output}")
    if sides and math.prod(bordered) * shape[-1] > LARGEST_MAP:
        raise ShapeError(f"{type(layer).__name__}: expected at most {LARGEST_MAP:,} values a frame, got {bordered}")
    return output


def _shortened(message: object) -> str:
    text = str(message)
    return text if len(text) <= 400 else f"{text[:397]}..."


def _describe(model: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    kind = "Sequential" if isinstance(model, Sequential) else "FrameClassifier"
    description, tensors = _describe_network(model) if kind == "Sequential" else _describe_classifier(model)
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    return {"kind": kind, **_plain(description)}, contiguous


def _build(description: Description, tensors: Mapping[str, Array]) -> Any:
    kind = description["kind"]
    if kind not in _BUILDERS:
        raise FormatError(f"expected a model of {' or '.join(_BUILDERS)}, got {kind!r}; save it again")
    model = _BUILDERS[kind](description, tensors)
    said = model_file.canonical(_describe(model)[0]) == model_file.canonical(description)
    _expect(said, "a description of every setting and of nothing else")
    return model


def _describe_network(network: Sequential) -> tuple[dict[str, Any], dict[str, Array]]:
    tensors = network.state_dict()
    return {"layers": [layer.config for layer in network.layers], "dtype": network.layers[0].dtype.name}, tensors


def _build_network(description: Description, tensors: Mapping[str, Array]) -> Sequential:
    network = Sequential([Layer.from_config(config) for config in description["layers"]])
    shape = network.input_shape
    for layer in network.layers:
        shape = check_map(layer, shape)
    dtype = FLOATS[description["dtype"]]
    least, largest = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    sizes = [abs(number) for number in _numbers(description["layers"]) if number]
    _expect(all(least <= size <= largest for size in sizes), f"settings in the range of {dtype}")
    _expect(all(tensor.dtype == dtype for tensor in tensors.values()), f"tensors of {dtype}")
    return network.load_state_dict(tensors, dtype)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def _describe_classifier(classifier: "FrameClassifier") -> tuple[dict[str, Any], dict[str, Array]]:
    from sklearn.utils.validation import check_is_fitted

    from framecnn.estimators import FrameClassifier

    if not isinstance(classifier, FrameClassifier):
        raise TypeError(f"save: expected a Sequential or a FrameClassifier, got {type(classifier).__name__}")
    check_is_fitted(classifier, "head_")
    features, head = classifier.features_, classifier.head_
    parameters = _plain(classifier.get_params())
    if not isinstance(parameters["random_state"], int):
        parameters["random_state"] = None
    tensors = _described_arrays(features, "features", FEATURE_ARRAYS) | _described_arrays(head, "head", _kept(head))
    scales = []
    for number, body in enumerate(features.backbones_, start=1):
        scale, state = _describe_network(body)
        scales.append(scale)
        tensors |= {f"features/scale_{number}/{name}": value for name, value in state.items()}
    shape = features.frame_shape_
    frames = None if shape is None else {"shape": shape, "resize": "stretched", "values": features.dtype_kind_}
    description = {
        "parameters": parameters,
        "classes": _describe_classes(classifier.classes_),
        "frames": frames,
        "features": {
            "grid": features.grid,
            "mirrored": features.mirrored_,
            "n_features_in": features.n_features_in_,
            "scales": scales,
        },
        "head": {"temperature": head.temperature_, "alpha": getattr(head, "alpha_", None)},
        "accuracies": list(classifier.chosen_["accuracies"].items()),
    }
    return description, tensors


def _described_arrays(estimator: Any, prefix: str, names: tuple[str, ...]) -> dict[str, Array]:
    return {f"{prefix}/{name.rstrip('_')}": getattr(estimator, name) for name in names}


def _kept(head: "KMeansClassifier") -> tuple[str, ...]:
    return HEAD_ARRAYS + PROJECTION_ARRAYS if head.projection else HEAD_ARRAYS


def _describe_classes(classes: Array) -> dict[str, Any]:
    values, dtype = classes.tolist(), classes.dtype.str
    if all(isinstance(value, str | int | float) for value in values):
        return {"dtype": dtype if LABEL_DTYPES.fullmatch(dtype) else "|O", "values": values}
    raise TypeError(f"save: expected labels that are numbers, bools or strings, got dtype {classes.dtype}; convert y")


def _plain(value: Any) -> Any:
    """Return JSON's own types."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _build_classifier(description: Description, tensors: Mapping[str, Array]) -> "FrameClassifier":
    from framecnn.estimators import FrameClassifier

    left = dict(tensors)
    parameters = {name: _tupled(value) for name, value in description["parameters"].items()}
    classifier = FrameClassifier(**parameters)
    features = classifier.features_ = _build_features(parameters, description, left)
    head = classifier.head_ = _build_head(parameters, description["head"], left)
    _expect(not left, "no further tensors")
    _expect(features.grid is None or parameters["grid"] in ("auto", features.grid), "one pooling grid")
    seed = parameters["random_state"]
    _expect(seed is None or (type(seed) is int and seed >= 0), "a seed as random_state")
    classifier.classes_ = head.classes_ = _build_classes(description["classes"])
    head.n_features_in_ = len(features.mean_)
    _check_head(head)
    floats = [features.mean_, features.scale_, head.cluster_centers_]
    floats += [getattr(head, name) for name in PROJECTION_ARRAYS if head.projection]
    _expect(len({array.dtype for array in floats}) == 1 and floats[0].dtype.kind == "f", "floats of one dtype")
    classifier.n_features_in_ = features.n_features_in_
    accuracies = {}
    for (rows, columns), accuracy in description["accuracies"]:
        _expect(type(rows) is type(columns) is int, "accuracies by grid")
        accuracies[rows, columns] = _number(accuracy)
    alpha = getattr(head, "alpha_", None)
    classifier.chosen_ = {"grid": features.grid, "alpha": alpha, "accuracies": accuracies}
    return classifier


def _build_features(parameters: Description, description: Description, tensors: dict[str, Array]) -> "FrameTransformer":
    facts, frames = description["features"], description["frames"]
    features = _blank_features(parameters, facts)
    features._check_parameters()
    features.backbones_ = []
    for number, scale in enumerate(facts["scales"], start=1):
        prefix = f"features/scale_{number}/"
        state = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        features.backbones_.append(_build_network(scale, state))
    _take_arrays(features, "features", FEATURE_ARRAYS, tensors)
    features.n_features_in_ = facts["n_features_in"]
    features._n_features_out = len(features.mean_)
    features.frame_shape_ = features.backbones_[0].input_shape if features.backbones_ else None
    _expect((frames is None) == (features.frame_shape_ is None), "scales for frames, none for vectors")
    if frames is not None:
        _expect(frames["shape"] == list(features.frame_shape_), "one shape of frames")
        known = frames["resize"] == "stretched" and frames["values"] in ("whole", "float")
        _expect(known, "stretched frames of whole or float numbers")
        features.dtype_kind_ = frames["values"]
    _check_features(features)
    return features


def _blank_features(parameters: Description, facts: Description) -> "FrameTransformer":
    from framecnn.estimators import FrameFeatures, TrainedFeatures

    if parameters["features"] == "trained":
        return TrainedFeatures(parameters["frame_shape"], random_state=parameters["random_state"])
    own = {name: parameters[name] for name in ("frame_shape", "filters", "n_filters", "depth", "random_state")}
    features = FrameFeatures(grid=_tupled(facts["grid"]), **own)
    features.mirrored_ = facts["mirrored"]
    return features


def _check_features(features: "FrameTransformer") -> None:
    from framecnn.estimators.features import FINE_GRID

    shape, backbones, rank = features.frame_shape_, features.backbones_, 3 if features.grid else 1
    _expect(features.frame_shape in (None, shape), "one shape of frames")
    _expect(bool(features.grid) or len(backbones) < 2, "one network")
    for body in backbones:
        _expect(body.input_shape == shape and len(body.output_shape) == rank, "networks of the frames")
        cells = body.output_shape[:-1] or FINE_GRID
        _expect(cells == FINE_GRID, f"every scale to make {FINE_GRID[0]} x {FINE_GRID[1]} cells of the frames")
    _expect(type(features.mirrored_) is bool and type(features.n_features_in_) is int, "a number of features")
    _expect(shape is None or features.n_features_in_ == math.prod(shape), "a number of features")
    n_features = (
        sum(network.output_shape[0] for network in features.networks_) if backbones else features.n_features_in_
    )
    _expect(features.mean_.shape == features.scale_.shape == (n_features,), "a mean and a scale for every feature")
    _expect(bool((features.scale_ > 0).all()), "positive scales")


def _build_classes(described: Description) -> Array:
    values = described["values"]
    _expect(bool(LABEL_DTYPES.fullmatch(described["dtype"])), "labels that are numbers, bools or strings")
    dtype = np.dtype(described["dtype"])
    _expect(dtype.itemsize * len(values) <= LARGEST_LABELS, f"labels of at most {LARGEST_LABELS} bytes")
    classes = np.array(values, dtype)
    exact = model_file.canonical({"": classes.tolist()}) == model_file.canonical({"": values})
    _expect(classes.ndim == 1 and exact, f"labels of dtype {dtype}")
    _expect(len(classes) > 1 and bool((classes[1:] > classes[:-1]).all()), "two labels or more, each once, in order")
    return classes


def _build_head(parameters: Description, described: Description, tensors: dict[str, Array]) -> "KMeansClassifier":
    from framecnn.estimators import KMeansClassifier

    own = {name: parameters[name] for name in ("clusters_per_class", "projection", "alpha", "random_state")}
    head = KMeansClassifier(**own)
    head._check_parameters()
    _take_arrays(head, "head", _kept(head), tensors)
    head._n_features_out = len(head.cluster_centers_)
    head.temperature_ = _number(described["temperature"])
    _expect(head.temperature_ > 0, "a positive temperature")
    if head.projection:
        head.alpha_ = _number(described["alpha"])
        _expect(head.alpha_ > 0, "a positive alpha")
    return head


def _check_head(head: "KMeansClassifier") -> None:
    n_clusters, n_classes, n_features = len(head.cluster_centers_), len(head.classes_), head.n_features_in_
    shapes: dict[str, Shape] = {"cluster_centers_": (n_clusters, n_classes if head.projection else n_features)}
    shapes |= dict.fromkeys(HEAD_ARRAYS[1:], (n_clusters,))
    if head.projection:
        shapes |= {"mean_": (n_features,), "weights_": (n_features, n_classes), "offset_": (n_classes,)}
    for name, shape in shapes.items():
        _expect(getattr(head, name).shape == shape, f"head/{name.rstrip('_')} of shape {shape}")
    labels, prototypes = head.cluster_labels_, head.prototypes_
    _expect(labels.dtype == prototypes.dtype == np.int64, "whole numbers as labels and prototypes of clusters")
    _expect(min(labels.min(), prototypes.min()) >= 0 and labels.max() < n_classes, "clusters with a label each")
    _expect(head.radius_.dtype.kind == "f" and head.radius_.min() >= 0, "clusters with a radius each")


def _take_arrays(estimator: Any, prefix: str, names: tuple[str, ...], tensors: dict[str, Array]) -> None:
    for name in names:
        setattr(estimator, name, tensors.pop(f"{prefix}/{name.rstrip('_')}"))


def _number(value: Any) -> float:
    _expect(type(value) in (int, float), "a number")
    return float(value)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise FormatError(f"expected {what}, got a model whose parts do not fit together; save it again")


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


_BUILDERS: dict[str, Callable[[Description, Mapping[str, Array]], Any]] = {
    "Sequential": _build_network,
    "FrameClassifier": _build_classifier,
}
