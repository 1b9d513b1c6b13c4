"""The container of models and checkpoints: a .safetensors file with a JSON description and tensors.

Reading checks, for every kind of file, first the header (sizes, order, overlap, duplicate keys), then that every number
is finite, then a digest of description and tensors.
"""

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors.numpy import save

from framecnn.errors import FormatError
from framecnn.storage.atomic import atomic_write, sweep
from framecnn.typing import Array, Shape

__all__ = ["CHECKPOINT", "FORMAT", "canonical", "read", "write"]

CHECKPOINT = "training"
"""The kind of a checkpoint. The kind of a model is the name of its class."""

FORMAT = 4
"""The version of the format."""

KEY = "framecnn"
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8"), "I64": np.dtype("<i8")}
LARGEST_HEADER = 16 * 2**20  # bytes
PICKLE = "a pickle, as joblib and older PyTorch write them"
FOREIGN = {
    rb"PK\x03\x04": "a zip archive, as Keras (.keras), PyTorch (.pt) and NumPy (.npz) write them",
    rb"\x89HDF": "an HDF5 file, as older Keras (.h5) writes them",
    rb"\x80[\x02-\x05]": PICKLE,
    rb"c[\w.]+\n\w+\n(p0\n|q\0)|\([dl]p0\n|[\]}]q\0": PICKLE,  # of protocol 0 or 1: an object, or a dict or list
    rb"\x1f\x8b": "a gzip archive, as joblib writes them",
    rb"x[\x01\x5e\x9c\xda]": "zlib data, as joblib writes them",
    rb"BZh[1-9]": "a bzip2 archive, as joblib writes them",
    rb"\xfd7zXZ\0|\]\0\0": "an xz archive, as joblib writes them",
    rb"\x93NUMPY": "a NumPy array (.npy)",
}
"""First bytes of the files of other programs."""


def write(path: str | os.PathLike[str], description: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    """Write a file atomically; equal content gives equal bytes.

    Parameters
    ----------
    path : path
    description : mapping
        Values of JSON's or NumPy's types.
    tensors : mapping of str to array
        C-contiguous, non-empty arrays of float32, float64 or int64.

    Raises
    ------
    ValueError
        If a tensor holds NaN or infinity.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> write(path, {"kind": "example"}, {"kernel": np.ones((2, 3))})
    >>> read(path)
    ({'kind': 'example'}, {'kernel': array([[1., 1., 1.],
           [1., 1., 1.]])})
    """
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"save: expected finite numbers, got NaN or infinity in {name}; train the model again")
    sealed = {"format": FORMAT, "sha256": _digest(description, tensors), **description}
    content = save(dict(tensors), metadata={KEY: canonical(sealed)})
    sweep(Path(path))
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)  # save_file would make a file that only its owner may read


def read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return description and tensors of a file that :func:`write` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    description : dict
    tensors : dict of str to array

    Raises
    ------
    FormatError
        If the file is of another format, damaged or incomplete.
    OSError
        If it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would block
        raise FormatError("expected a model file, got a folder or a device; name the file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = _read_header(file, size)
        description = _description(header)
        tensors = _read_tensors(file, size, header)
    if description.pop("sha256", None) != _digest(description, tensors):
        raise FormatError("expected an unchanged file, got one that was damaged or edited; copy or save it again")
    return description, tensors


def canonical(description: Mapping[str, Any]) -> str:
    """Return a description as JSON text: equal descriptions give equal texts.

    Parameters
    ----------
    description : mapping

    Returns
    -------
    str
        ASCII, with sorted keys.

    Raises
    ------
    ValueError
        If it holds NaN or infinity, which JSON cannot represent.

    Examples
    --------
    >>> canonical({"b": (1, 2), "a": "é"})
    '{"a": "\\\\u00e9", "b": [1, 2]}'
    """
    return json.dumps(description, sort_keys=True, allow_nan=False, default=_python_value)


def _python_value(value: Any) -> Any:
    """Return a number or an array of NumPy as JSON's types."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"expected a value of JSON's types, got {type(value).__name__}")


def _digest(description: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """Return the SHA-256 of description and tensors, whatever their order."""
    total = hashlib.sha256(canonical(description).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name!a} {tensor.dtype.str} {tensor.shape}".encode())
        total.update(tensor)  # type: ignore[arg-type]
    return total.hexdigest()


def _read_header(file: BinaryIO, size: int) -> dict[str, Any]:
    start = file.read(100)
    if not start.startswith(b"{", 8):  # the length of a header may equal the first bytes of another format
        for magic, name in FOREIGN.items():
            if re.match(magic, start):
                raise FormatError(f"expected a framecnn model (.safetensors), got {name}; make one: framecnn train")
    length = int.from_bytes(start[:8], "little")
    if size < 8 or length > min(LARGEST_HEADER, size - 8):
        raise FormatError(
            f"expected a framecnn model (.safetensors), got {size} bytes without a complete header: "
            "another kind of file, or one that was cut off"
        )
    file.seek(8)
    return _parsed(str(file.read(length), "utf-8", "replace"))


def _description(header: Mapping[str, Any]) -> dict[str, Any]:
    metadata = header.get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise FormatError(
            "expected a model that framecnn saved, got a .safetensors file of another program; make one: framecnn train"
        )
    description = _parsed(text)
    number = description.pop("format", None)
    if type(number) is int and number > FORMAT:
        raise FormatError(f"expected format {FORMAT}, got format {number} of a newer framecnn; pip install -U framecnn")
    if type(number) is int and 0 < number < FORMAT:
        raise FormatError(f"expected format {FORMAT}, got format {number} of an older framecnn; train the model again")
    if type(number) is not int or number != FORMAT:
        raise FormatError(f"expected format {FORMAT}, got {number!r}; save the model again")
    return description


def _parsed(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"expected a header in JSON, got a damaged one ({error}); copy it again") from error
    if not isinstance(parsed, dict):
        raise FormatError(f"expected a JSON object as header, got {type(parsed).__name__}; copy it again")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("duplicate key")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise FormatError(f"{text} is not a finite number")
    return number


def _read_tensors(file: BinaryIO, size: int, header: Mapping[str, Any]) -> dict[str, Array]:
    """Return the tensors; raise FormatError unless they fill the rest of the file without gaps or overlaps."""
    plan = sorted((*_extent(name, entry), name) for name, entry in header.items() if name != "__metadata__")
    edges = [0, *(stop for _, stop, *_ in plan)]
    if [start for start, *_ in plan] != edges[:-1] or edges[-1] != size - file.tell():
        raise FormatError(
            "expected tensors that fill the file, got gaps, overlaps or a wrong length; copy or save it again"
        )
    tensors = {}
    for start, stop, code, shape, name in plan:
        tensor = np.empty(shape, DTYPES[code])
        if file.readinto(tensor.reshape(-1).view(np.uint8)) != stop - start:  # type: ignore[attr-defined]
            raise FormatError(f"expected {stop - start} bytes of tensor {name!r}, got a file that became shorter")
        if not np.isfinite(tensor).all():
            raise FormatError(f"expected finite numbers in tensor {name!r}, got NaN or infinity; train the model again")
        tensors[name] = tensor
    return tensors


def _extent(name: str, entry: Any) -> tuple[int, int, str, Shape]:
    """Return first byte, byte after the last, dtype and shape of a tensor; raise FormatError unless they agree."""
    match entry:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [start, stop]} if code in DTYPES:
            integers = all(type(n) is int and n > 0 for n in [*shape, stop]) and type(start) is int and start >= 0
            if integers and len(shape) <= 8 and stop - start == math.prod(shape) * DTYPES[code].itemsize:
                return start, stop, code, tuple(shape)
    raise FormatError(f"expected tensor {name!r} of {', '.join(DTYPES)}, with the bytes of its shape, got {entry}")
