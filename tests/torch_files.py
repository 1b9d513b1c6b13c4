"""Files of weights as PyTorch before 1.6 wrote them, made without PyTorch, and damaged or malicious ones."""

import pickle
import struct

import numpy as np

from framecnn.storage.torch_weights import DTYPES, MAGIC, VERSION

STORAGES = {dtype: name.replace(".", " ", 1).replace(" ", "\n") for name, dtype in DTYPES.items()}
FLOAT = np.dtype("<f4")
ORDERED_DICT, REBUILD = b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value):
    """Return the opcodes of a str."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    """Return the opcodes of an integer."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def integers(values):
    """Return the opcodes of a tuple of integers."""
    return b"(" + b"".join(map(integer, values)) + b"t"


def reference(key, size, dtype=FLOAT, storage=None, view=b"N", location="cpu"):
    """Return the opcodes of a storage."""
    kind = b"c" + (storage or STORAGES[dtype]).encode() + b"\n"
    return b"(" + text("storage") + kind + text(key) + text(location) + integer(size) + view + b"tQ"


def tensor(storage, shape, strides, offset=0, hooks=ORDERED_DICT + b")R"):
    """Return the opcodes of a tensor."""
    return REBUILD + b"(" + storage + integer(offset) + integers(shape) + integers(strides) + b"\x89" + hooks + b"tR"


def state_dict(entries):
    """Return the pickle of a state dict from opcodes by name, with version numbers as PyTorch attaches them."""
    items = b"".join(text(name) + opcodes for name, opcodes in entries.items())
    metadata = b"}" + text("_metadata") + ORDERED_DICT + b")Rsb"
    return b"\x80\x02" + ORDERED_DICT + b")R(" + items + b"u" + metadata + b"."


def torch_file(state, storages, magic=MAGIC, version=VERSION, little_endian=True, keys=None, rest=b""):
    """Return the bytes of a file: `state` is a pickle, `storages` are arrays by key."""
    system = {"protocol_version": VERSION, "little_endian": little_endian, "type_sizes": {"short": 2}}
    head = b"".join(pickle.dumps(value, 2) for value in (magic, version, system))
    ends = pickle.dumps(list(storages) if keys is None else keys, 2)
    data = b"".join(struct.pack("<q", values.size) + values.tobytes() for values in storages.values())
    return head + state + ends + data + rest
