"""Models as one .safetensors file: tensors and a JSON description. Data only: loading never runs code from the file.

The header is checked before any tensor is read: sizes, order, overlap, duplicate keys. Then the description builds
classes of the registry, tensors must have exactly the shapes that these expect, and every number must be finite.
"""

import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from framecnn.atomic import atomic_write
from framecnn.errors import FormatError
from framecnn.layers import Layer
from framecnn.model import Sequential
from framecnn.typing import Array

__all__ = ["FORMAT", "load", "save"]

FORMAT = 1
KEY = "framecnn"
DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8")}
MAX_HEADER = 16 * 2**20
FOREIGN = {
    b"PK\x03\x04": "a zip archive, as Keras (.keras) and PyTorch (.pt) write them",
    b"\x89HDF": "an HDF5 file, as older Keras writes them",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x93NUMPY": "a NumPy array",
}

FEATURE_ARRAYS = ("mean_", "scale_")
FEATURE_FACTS = ("mirrored_", "dtype_kind_", "n_features_in_")
HEAD_ARRAYS = ("cluster_centers_", "cluster_labels_", "prototypes_", "radius_")
PROJECTION_ARRAYS = ("mean_", "weights_", "offset_")


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
        If `model` is neither.
    ValueError
        If a classifier is not fitted.

    Examples
    --------
    >>> import tempfile
    >>> from framecnn import DenseLayer, InputLayer
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save(Sequential([InputLayer((2,)), DenseLayer(1)]).build(), path)
    >>> load(path).output_shape
    (1,)
    """
    if isinstance(model, Sequential):
        kind, description, tensors = "Sequential", _describe_network(model), model.state_dict()
    elif type(model).__name__ == "FrameClassifier":
        kind, (description, tensors) = "FrameClassifier", _describe_classifier(model)
    else:
        raise TypeError(f"save: expected a Sequential or a FrameClassifier, got {type(model).__name__}")
    versions = {name: version(name) for name in ("framecnn", "numpy", "numba", "scikit-learn")}
    text = json.dumps({"format": FORMAT, "kind": kind, "versions": versions, **description}, sort_keys=True)
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    with atomic_write(path) as temporary:
        save_file(contiguous, temporary, metadata={KEY: text})


def load(path: str | os.PathLike[str]) -> Any:
    """Read what :func:`save` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    Sequential or FrameClassifier
        A classifier predicts as before; what only described its training samples (``head_.labels_``) is not kept.

    Raises
    ------
    FormatError
        If the file is anything but a whole, consistent model of this or an older format.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    try:
        header, body = _read_header(path)
        description = _description(header)
        tensors = _read_tensors(path, header, body)
        build = _BUILDERS[description["kind"]]
        return build(description, tensors)
    except FormatError as error:
        raise FormatError(f"{path.name}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise FormatError(
            f"{path.name}: expected a framecnn model, got a description that fits none ({error!r})"
        ) from error


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Give the checked header, and where the tensors begin."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(8)
        for magic, name in FOREIGN.items():
            if start.startswith(magic):
                raise FormatError(
                    f"expected a framecnn model (.safetensors), got {name}; train or export one with framecnn"
                )
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(MAX_HEADER, size - 8):
            raise FormatError(
                f"expected a .safetensors file, got {size} bytes without a whole header; save the model again"
            )
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"expected a JSON header, got one that is damaged ({error})") from error
    if not isinstance(header, dict):
        raise FormatError(f"expected a JSON object as header, got {type(header).__name__}")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("expected every key once in the header, got one twice")
    return found


def _no_constant(name: str) -> None:
    raise FormatError(f"expected finite numbers in the header, got {name}")


def _description(header: dict[str, Any]) -> dict[str, Any]:
    text = (header.get("__metadata__") or {}).get(KEY)
    if not isinstance(text, str):
        raise FormatError("expected a model written by framecnn, got a .safetensors file without its description")
    description = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    number = description["format"]
    if isinstance(number, int) and number > FORMAT:
        raise FormatError(f"expected format {FORMAT}, got format {number} of a newer framecnn; pip install -U framecnn")
    if number != FORMAT or description["kind"] not in _BUILDERS:
        raise FormatError(
            f"expected format {FORMAT} of {', '.join(_BUILDERS)}, got {number!r} of {description['kind']!r}"
        )
    return description


def _read_tensors(path: Path, header: Mapping[str, Any], body: int) -> dict[str, Array]:
    """Check that the tensors fill the file without gap or overlap, then read them."""
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    plan = []
    for name, entry in entries.items():
        dtype, shape, (start, stop) = DTYPES.get(entry["dtype"]), entry["shape"], entry["data_offsets"]
        whole = all(type(n) is int and n >= 0 for n in [*shape, start, stop])
        if dtype is None or not whole or len(shape) > 8 or stop - start != _count(shape) * dtype.itemsize:
            raise FormatError(f"expected tensor {name!r} of {', '.join(DTYPES)} to fill its place, got {entry}")
        plan.append((start, stop, name, dtype, shape))
    plan.sort(key=lambda item: item[:2])
    edges = [0, *(stop for _, stop, *_ in plan)]
    if [start for start, *_ in plan] != edges[:-1] or edges[-1] != path.stat().st_size - body:
        raise FormatError("expected the tensors to fill the file exactly, got gaps, overlaps or a wrong length")
    tensors = {}
    with open(path, "rb") as file:
        file.seek(body)
        for start, stop, name, dtype, shape in plan:
            data = file.read(stop - start)
            if len(data) != stop - start:
                raise FormatError(f"expected {stop - start} bytes of tensor {name!r}, got {len(data)}")
            tensors[name] = np.frombuffer(bytearray(data), dtype).reshape(shape)
            if not np.isfinite(tensors[name]).all():
                raise FormatError(f"expected finite numbers in tensor {name!r}, got NaN or infinity")
    return tensors


def _count(shape: list[int]) -> int:
    product = 1
    for n in shape:
        product *= n
    return product


def _describe_network(network: Sequential) -> dict[str, Any]:
    return {"layers": [layer.config for layer in network.layers], "dtype": network.layers[0].dtype.name}


def _build_network(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> Sequential:
    network = Sequential([Layer.from_config(config) for config in description["layers"]])
    dtype = {"float32": np.float32, "float64": np.float64}[description["dtype"]]
    if any(tensor.dtype != dtype for tensor in tensors.values()):
        raise FormatError(f"expected tensors of {description['dtype']}, got others")
    return network.load_state_dict(tensors, dtype)


def _describe_classifier(classifier: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    from sklearn.utils.validation import check_is_fitted

    check_is_fitted(classifier, "head_")
    features, head = classifier.features_, classifier.head_
    parameters = classifier.get_params()
    seeded = parameters["random_state"] is None or isinstance(parameters["random_state"], int | np.integer)
    parameters["random_state"] = _plain(parameters["random_state"]) if seeded else None
    kept = [*HEAD_ARRAYS, *(PROJECTION_ARRAYS if head.projection else ())]
    tensors = {f"head/{name.rstrip('_')}": np.asarray(getattr(head, name)) for name in kept}
    tensors |= {f"features/{name.rstrip('_')}": getattr(features, name) for name in FEATURE_ARRAYS}
    for number, body in enumerate(features.bodies_, start=1):
        tensors |= {f"features/scale_{number}/{name}": value for name, value in body.state_dict().items()}
    shape = features.frame_shape_
    description = {
        "parameters": {name: _plain(value) for name, value in parameters.items()},
        "classes": {"dtype": classifier.classes_.dtype.str, "values": classifier.classes_.tolist()},
        "preprocessing": None
        if shape is None
        else {
            "size": _plain(shape[:2]),
            "channels": int(shape[2]),
            "resize": "stretched",
            "values": features.dtype_kind_,
        },
        "chosen": {
            "grid": _plain(classifier.chosen_["grid"]),
            "shrinkage": _plain(classifier.chosen_["shrinkage"]),
            "accuracies": [[_plain(grid), accuracy] for grid, accuracy in classifier.chosen_["accuracies"].items()],
        },
        "features": {
            "grid": _plain(features.grid),
            "scales": [_describe_network(body) for body in features.bodies_],
            **{name: _plain(getattr(features, name)) for name in FEATURE_FACTS if hasattr(features, name)},
        },
        "head": {"temperature": head.temperature_, "shrinkage": getattr(head, "shrinkage_", None)},
    }
    return description, tensors


def _plain(value: Any) -> Any:
    """Give JSON's own types."""
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _build_classifier(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> Any:
    from framecnn.estimators import FrameClassifier, FrameFeatures, KMeansClassifier

    parameters = {name: _tupled(value) for name, value in description["parameters"].items()}
    classifier = FrameClassifier(**parameters)
    tensors = dict(tensors)
    facts, preprocessing = description["features"], description["preprocessing"]
    features = FrameFeatures(
        parameters["frame_shape"],
        grid=_tupled(facts["grid"]),
        filters=parameters["filters"],
        n_filters=parameters["n_filters"],
        depth=parameters["depth"],
        random_state=parameters["random_state"],
    )
    features._check_parameters()
    features.frame_shape_ = None if preprocessing is None else (*preprocessing["size"], preprocessing["channels"])
    features.mirrored_, features.n_features_in_ = bool(facts["mirrored_"]), int(facts["n_features_in_"])
    features.bodies_ = []
    if features.frame_shape_ is not None:
        features.dtype_kind_ = facts["dtype_kind_"]
    for number, scale in enumerate(facts["scales"], start=1):
        prefix = f"features/scale_{number}/"
        own = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
        features.bodies_.append(_build_network(scale, own))
        _expect(features.bodies_[-1].input_shape == features.frame_shape_, "every scale to take the frames")
    for name in FEATURE_ARRAYS:
        setattr(features, name, tensors.pop(f"features/{name.rstrip('_')}"))
    n_features = sum(network.output_shape[0] for network in features.networks_) or features.n_features_in_
    _expect(
        all(getattr(features, name).shape == (n_features,) for name in FEATURE_ARRAYS), "a mean and scale a feature"
    )
    features._n_features_out = n_features

    classes = np.array(description["classes"]["values"], dtype=np.dtype(description["classes"]["dtype"]))
    _expect(classes.ndim == 1 and len(classes) > 1 and classes.dtype.kind in "iufbU", "two classes or more")
    head = KMeansClassifier(
        parameters["clusters_per_class"], projection=parameters["projection"], shrinkage=parameters["shrinkage"]
    )
    head._check_parameters()
    for name in [*HEAD_ARRAYS, *(PROJECTION_ARRAYS if head.projection else ())]:
        setattr(head, name, tensors.pop(f"head/{name.rstrip('_')}"))
    _expect(not tensors, "no other tensors")
    _check_head(head, n_features, len(classes))
    head.classes_ = classifier.classes_ = classes
    head.temperature_ = float(description["head"]["temperature"])
    _expect(0 < head.temperature_ < np.inf, "a positive temperature")
    if head.projection:
        head.shrinkage_ = float(description["head"]["shrinkage"])
    head.n_features_in_, head._n_features_out = n_features, len(head.cluster_centers_)
    classifier.features_, classifier.head_ = features, head
    classifier.n_features_in_ = features.n_features_in_
    chosen = description["chosen"]
    accuracies = {_tupled(grid): float(accuracy) for grid, accuracy in chosen["accuracies"]}
    classifier.chosen_ = {"grid": _tupled(chosen["grid"]), "shrinkage": chosen["shrinkage"], "accuracies": accuracies}
    return classifier


def _check_head(head: Any, n_features: int, n_classes: int) -> None:
    n_clusters = len(head.cluster_centers_)
    width = n_classes if head.projection else n_features
    shapes = {"cluster_centers_": (n_clusters, width)} | dict.fromkeys(HEAD_ARRAYS[1:], (n_clusters,))
    if head.projection:
        shapes |= {"mean_": (n_features,), "weights_": (n_features, n_classes), "offset_": (n_classes,)}
    for name, shape in shapes.items():
        _expect(getattr(head, name).shape == shape, f"head {name.rstrip('_')} of shape {shape}")
    labels = head.cluster_labels_
    whole = all(getattr(head, name).dtype == np.int64 for name in ("cluster_labels_", "prototypes_"))
    _expect(n_clusters > 0 and whole and labels.min() >= 0 and labels.max() < n_classes, "clusters with a class each")


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise FormatError(f"expected {what}, got a model whose parts do not fit together")


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list) else value


_BUILDERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, Array]], Any]] = {
    "Sequential": _build_network,
    "FrameClassifier": _build_classifier,
}
