"""Damaged and forged model files; run as a script, it loads thousands of them under an audit hook.

``python mutations.py FIRST N MODEL...`` prints JSON: how many of the N files from number FIRST were loaded and
refused, and what else happened.
"""

import json
import os
import random
import resource
import struct
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numpy as np

from framecnn import FormatError, FrameClassifier, Sequential, load
from framecnn.storage import container

VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31, 2**62, 2**63, 2**64, 10**30, 0.5, -0.5, 1e-320, 1e300),
    *("", "x", "auto", "relu", "same", "ConvLayer", "float64", "|O", "<U9999999", ">i8", "<f2", "O", "i4,i4"),
    *([], [0], [1, 1], [2, 3], [3, 4], [1, 2, 3], [10**9, 10**9], [[1, 1], [1, 1]], [[10**8, 0], [0, 10**8]]),
    *({}, {"layer": "Layer"}, {"layer": "FlatteningLayer"}),
]
FORBIDDEN = (
    *("exec", "compile", "import", "code.", "marshal.", "pickle.", "ctypes.", "subprocess.", "socket.", "shutil."),
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile", "tempfile.", "urllib."),
    *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"),
    *("os.chown", "os.utime", "os.setxattr", "os.removexattr"),
)
MEMORY = 256 * 2**20  # bytes that loading may allocate


def unpack(data):
    """Return the header, as JSON's types, and the bytes of the tensors."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def pack(header, body=b""):
    """Return the bytes of a file with any header: JSON's types, or text."""
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text.encode())) + text.encode() + body


def damaged(data, draw):
    """Return bytes that are changed as by a bad disk or an incomplete copy."""
    data = bytearray(data)
    at = draw.randrange(len(data))
    match draw.randrange(6):
        case 0:
            for _ in range(draw.randint(1, 4)):
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        case 1:
            del data[at:]
        case 2:
            data += draw.randbytes(draw.randint(1, 100))
        case 3:
            del data[at : at + draw.randint(1, 100)]
        case 4:
            data[at:at] = draw.randbytes(draw.randint(1, 100))
        case 5:
            data[:8] = struct.pack("<Q", draw.choice([0, 1, 7, 8, 2**31, 2**63, 2**64 - 1, len(data)]))
    return bytes(data)


def changed(tree, draw):
    """Return a copy of JSON's types in which one item has another type or value, is doubled, moved or missing."""
    tree = json.loads(json.dumps(tree))
    parent, key = draw.choice(list(_places(tree)))
    old = parent[key]
    match draw.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.insert(key, old)
        case 1:
            parent["further"] = old
        case 2 if isinstance(parent, list):
            parent.reverse()
        case 3 if isinstance(old, int | float):
            parent[key] = draw.choice([old + 1, -old, old * 1000, float(old), str(old), [old], bool(old)])
        case _:
            parent[key] = draw.choice(VALUES)
    return tree


def _places(tree):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def exchanged(tensors, draw):
    """Return tensors of which one has the values of another, another shape, dtype or name, or is missing."""
    tensors, name = dict(tensors), draw.choice(sorted(tensors))
    other = draw.choice(sorted(tensors))
    match draw.randrange(7):
        case 0:
            tensors[name], tensors[other] = tensors[other], tensors[name]
        case 1:
            del tensors[name]
        case 2:
            tensors[f"{name}x"] = tensors[name]
        case 3:
            tensors[name] = np.ascontiguousarray(tensors[name].T)
        case 4:
            tensors[name] = tensors[name].astype(draw.choice(["f4", "f8", "i8"]))
        case 5:
            tensors[name] = tensors[name].ravel()
        case 6:
            tensors[name] = tensors[name] * np.array(draw.choice([0, -1, 2, 10**6]), tensors[name].dtype)
    return tensors


@cache
def original(path):
    """Return the bytes of a model file, and what they hold: header and body, description and tensors."""
    data = path.read_bytes()
    return data, unpack(data), container.read(path)


def mutant(path, draw):
    """Write a damaged or forged version of a model file beside it; return its path."""
    data, (header, body), (description, tensors) = original(path)
    other = path.with_name("mutant.safetensors")
    match draw.randrange(4):
        case 0:
            other.write_bytes(damaged(data, draw))
        case 1:
            other.write_bytes(pack(changed(header, draw), body))
        case 2:
            container.write(other, changed(description, draw), tensors)
        case 3:
            container.write(other, description, exchanged(tensors, draw))
    return other


def widest(model):
    """Return the largest number of values that a layer of a model computes for a frame."""
    networks = [model] if isinstance(model, Sequential) else model.features_.backbones_
    rows = [row for network in networks for row in network.summary().rows]
    return max([int(np.prod(row.output_shape)) for row in rows], default=0)


def use(model):
    """Predict with a model, and check the predictions against its description."""
    if isinstance(model, Sequential):
        answer = model.predict(np.ones((2, *model.input_shape), np.uint8))
        assert answer.shape == (2, *model.output_shape)
        return
    assert isinstance(model, FrameClassifier)
    shape = model.features_.frame_shape_
    kind = np.uint8 if shape and model.features_.dtype_kind_ == "integer" else np.float32
    frames = np.ones((2, *(shape or (model.n_features_in_,))), kind)
    assert set(model.predict(frames).tolist()) <= set(model.classes_.tolist())
    assert model.reject(frames).shape == (2,)


def main(numbers, paths):
    """Load mutants under an audit hook that notices code and writes, within a memory limit."""
    armed, broken = False, []

    def audit(event, arguments):
        if armed and (event.startswith(FORBIDDEN) or (event == "open" and _writes(*arguments))):
            broken.append(f"{event} {arguments}"[:200])

    for path in paths:
        use(load(path))
    os.fsync = lambda file: None  # speed: mutants need not survive a power failure
    sys.addaudithook(audit)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("error")
    counts = {"loaded": 0, "refused": 0}
    others = []
    for number in numbers:
        draw = random.Random(number)
        path = mutant(draw.choice(paths or [None]), draw)
        try:
            armed = True
            model = load(path)
            armed = False
            counts["loaded"] += 1
            if widest(model) < 2**20:
                with np.errstate(all="ignore"):
                    use(model)
        except FormatError as error:
            counts["refused"] += 1
            if "\n" in str(error) or len(str(error)) > 450 or not str(error).startswith("mutant.safetensors: "):
                others.append(f"{number}: {error}")
        except BaseException as error:
            others.append(f"{number}: {error!r}"[:300])
        finally:
            armed = False
    print(json.dumps(counts | {"others": others, "broken": broken}))


def _writes(path, mode, flags):
    return bool(flags & (1 | 2 | 0o100 | 0o1000 | 0o2000))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        copies = []
        for name in sys.argv[3:]:
            copies.append(Path(folder, Path(name).name))
            copies[-1].write_bytes(Path(name).read_bytes())
        first, n = map(int, sys.argv[1:3])
        main(range(first, first + n), copies)
