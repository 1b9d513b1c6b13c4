"""Reading of weights that PyTorch saved, without PyTorch and without running code of the file.

The file is a state dict in PyTorch's format before 1.6: five pickles (a number that marks the format, its version, the
byte order, the state dict, the keys of the storages), then the storages. A tensor is a view into a storage.
"""

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.errors import FormatError
from framecnn.storage.data_pickle import Name, read_pickle
from framecnn.text import shortened
from framecnn.typing import Array, Shape

__all__ = ["read_torch_weights"]

LARGEST_FILE = 2**31  # bytes
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SAVE = "write it by torch.save(state_dict, path, _use_new_zipfile_serialization=False)"
MOST_DIMENSIONS, LONGEST_KEY = 8, 64
DTYPES: dict[str, np.dtype[Any]] = {
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.CharStorage": np.dtype("<i1"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.ByteStorage": np.dtype("<u1"),
}


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    size: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: Shape
    strides: Shape


def read_torch_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the tensors of a state dict that ``torch.save`` wrote in the format before PyTorch 1.6.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to array
        Read-only views into the bytes of the file, of its shapes and dtypes.

    Raises
    ------
    FormatError
        If the file is of another format, damaged, larger than 2 GiB, or holds anything but a flat dict of tensors of
        integers and floats.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    status = path.stat()
    try:
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would block
            raise FormatError("expected a file of weights, got a folder or a device; name the file")
        if status.st_size > LARGEST_FILE:
            raise FormatError(f"expected at most {LARGEST_FILE:,} bytes, got {status.st_size:,}; save weights only")
        content = path.read_bytes()
        if content.startswith(b"PK"):
            raise FormatError(f"expected a file in PyTorch's format before 1.6, got a zip archive; {SAVE}")
        return _tensors(memoryview(content))
    except FormatError as error:
        raise FormatError(f"{path.name}: {shortened(error)}") from error


def _tensors(content: memoryview) -> dict[str, Array]:
    found, end = _state_dict(content)
    keys, end = read_pickle(content, end, {}, _no_reference)
    declared = {tensor.storage.key: tensor.storage for tensor in found.values()}
    if any(declared[tensor.storage.key] != tensor.storage for tensor in found.values()):
        raise FormatError("expected one dtype and size for a storage, got several; copy or save the file again")
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(declared):
        raise FormatError("expected the keys of all storages once, got others; copy or save the file again")
    buffers = {}
    for key in keys:
        storage = declared[key]
        start = end + 8
        size = int.from_bytes(content[end:start], "little")
        end = start + storage.size * storage.dtype.itemsize
        if size != storage.size or end > len(content):
            raise FormatError(f"expected a storage of {storage.size} values, got a damaged one; copy the file again")
        buffers[key] = content[start:end]
    if end != len(content):
        raise FormatError(f"expected a file that ends with its storages, got {len(content) - end} more bytes")
    views = {name: _view(tensor, buffers[tensor.storage.key]) for name, tensor in found.items()}
    for name, values in views.items():
        if not np.isfinite(values).all():
            raise FormatError(f"expected finite numbers in tensor {name!a}, got NaN or infinity; train it again")
    return views


def _state_dict(content: memoryview) -> tuple[dict[str, _Tensor], int]:
    """Return the tensors by name, and the byte behind their pickle."""
    end = 0
    for what, expected in (("mark", MAGIC), ("version", VERSION)):
        value, end = read_pickle(content, end, {}, _no_reference)
        if type(value) is not int or value != expected:
            raise FormatError(f"expected the {what} of a file that torch.save wrote, got another one; {SAVE}")
    system, end = read_pickle(content, end, {}, _no_reference)
    if type(system) is not dict or system.get("little_endian") is not True:
        raise FormatError("expected numbers in little-endian order, got another one; save the file on another machine")
    names = {**dict.fromkeys(DTYPES), "collections.OrderedDict": _dict, "torch._utils._rebuild_tensor_v2": _tensor}
    found, end = read_pickle(content, end, names, _storage)
    if type(found) is not dict or not all(type(value) is _Tensor for value in found.values()):
        raise FormatError("expected a flat dict of tensors, got other objects; save model.state_dict()")
    return found, end


def _no_reference(key: Any) -> Any:
    raise FormatError("expected no references outside the state dict, got one; copy or save the file again")


def _dict(*arguments: Any) -> dict[str, Any]:
    if arguments:
        raise FormatError("expected an OrderedDict without arguments, got some; save model.state_dict()")
    return {}


def _storage(key: Any) -> _Storage:
    """Return the storage of a persistent id."""
    match key:
        case ("storage", Name(text), str(number), str(), int(size), None) if len(number) <= LONGEST_KEY:
            dtype = DTYPES.get(text)
            if dtype is not None and _is_size(size):
                return _Storage(number, dtype, size)
    raise FormatError(f"expected storages of {', '.join(DTYPES)}, got another reference; convert the weights")


def _tensor(*arguments: Any) -> _Tensor:
    """Return the tensor that `_rebuild_tensor_v2` would; it must lie within its storage."""
    match arguments:
        case (_Storage() as storage, offset, tuple(shape), tuple(strides), bool(), dict(hooks)) if not hooks:
            fits = len(shape) == len(strides) <= MOST_DIMENSIONS
            if fits and all(map(_is_size, (offset, *shape, *strides))):
                size = math.prod(shape)
                last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if size else 0
                if size <= storage.size and (not size or last < storage.size):
                    return _Tensor(storage, offset if size else 0, shape, strides)
    raise FormatError("expected tensors that lie within their storage, got another one; copy or save the file again")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_FILE


def _view(tensor: _Tensor, buffer: memoryview) -> Array:
    dtype = tensor.storage.dtype
    strides = tuple(step * dtype.itemsize for step in tensor.strides)
    return np.ndarray(tensor.shape, dtype, buffer, tensor.offset * dtype.itemsize, strides)
