"""A framecnn network in the two files of ncnn: a text file with the layers, and a binary file with their weights.

ncnn takes one frame at a time. A ReLU is part of the layer before it, as after ncnn's own optimiser.
"""

import struct
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks import channels_first as cf
from framecnn import get_num_threads

__all__ = ["start_ncnn"]

FLOAT32 = struct.pack("<I", 0)  # precedes weights that are stored as float32


def ncnn_files(model):
    """Return the text and the bytes of a built Sequential, from blob "x" to blob "y"."""
    chain = [*cf.steps(model), None]
    layers, weights = [], []
    for step, following in pairwise(chain):
        kind, settings, stored = _layer(step, isinstance(following, cf.Relu))
        if kind:
            layers.append((kind, " ".join(f"{key}={value}" for key, value in settings.items())))
            weights.append(stored)
    blobs = ["x", *(f"v{number}" for number in range(1, len(layers))), "y"]
    lines = ["7767517", f"{len(layers) + 1} {len(blobs)}", "Input x 0 1 x"]
    for number, ((kind, settings), (source, target)) in enumerate(zip(layers, pairwise(blobs), strict=True)):
        lines.append(f"{kind} layer{number} 1 1 {source} {target} {settings}")
    return "\n".join(lines) + "\n", b"".join(weights)


def _layer(step, with_relu):
    """Return kind, numbered settings and stored weights of a step; the numbers are ncnn's."""
    match step:
        case cf.Conv():
            filters, _, kernel_height, kernel_width = step.weight.shape
            (top, bottom), (left, right) = step.border
            settings = {
                0: filters,
                **{1: kernel_width, 11: kernel_height, 2: step.dilation[1], 12: step.dilation[0]},
                **{3: step.strides[1], 13: step.strides[0], 4: left, 15: right, 14: top, 16: bottom},
                **{5: 1, 6: step.weight.size, 9: int(with_relu)},
            }
            return "Convolution", settings, FLOAT32 + step.weight.tobytes() + step.bias.tobytes()
        case cf.Dense():
            settings = {0: len(step.bias), 1: 1, 2: step.weight.size, 9: int(with_relu)}
            return "InnerProduct", settings, FLOAT32 + step.weight.tobytes() + step.bias.tobytes()
        case cf.MaxPool():
            full_windows = 1
            size = {1: step.size[1], 11: step.size[0], 2: step.strides[1], 12: step.strides[0]}
            return "Pooling", {0: 0, **size, 5: full_windows}, b""
        case cf.Flatten():
            return "Flatten", {}, b""
        case cf.Relu():
            return None, {}, b""
    raise cf.Unsupported(f"no equivalent of {type(step).__name__}")


def start_ncnn(model, x):
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = get_num_threads()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    with tempfile.TemporaryDirectory() as folder:
        text, weights = Path(folder, "network.param"), Path(folder, "network.bin")
        text.write_text(ncnn_files(model)[0], encoding="utf-8")
        weights.write_bytes(ncnn_files(model)[1])
        if net.load_param(str(text)) or net.load_model(str(weights)):
            raise cf.Unsupported("ncnn cannot load these files")
    pixels = np.ascontiguousarray(x.transpose(0, 3, 1, 2))  # a Mat refers to its array without keeping it alive
    frames = [ncnn.Mat(frame).clone() for frame in pixels]

    def run_one(frame):
        extractor = net.create_extractor()
        extractor.input("x", frame)
        _, y = extractor.extract("y")
        return np.array(y)

    def run():
        y = np.stack([run_one(frame) for frame in frames])
        return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y

    return run
