"""A framecnn network in the two files of ncnn: a text file with the layers, and a binary file with their weights.

ncnn takes one frame at a time. An activation is part of the layer before it, as after ncnn's own optimiser.
"""

import struct
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import channels_first as cf
from framecnn import get_num_threads

__all__ = ["start_ncnn"]

FLOAT32 = struct.pack("<I", 0)  # precedes weights that are stored as float32


def ncnn_files(model):
    """Return the text and the bytes of a built Sequential, from blob "x" to blob "y"."""
    graph = Graph()
    last = graph.add_chain(list(cf.steps(model)), "x")
    graph.add("Noop", [last], ["y"])
    lines = ["7767517", f"{len(graph.lines) + 1} {len(graph.blobs) + 1}", "Input x 0 1 x", *graph.lines]
    return "\n".join(lines) + "\n", b"".join(graph.weights)


class Graph:
    """The lines and the weights of layers; a blob is read by one layer, so a Split makes one for each reader."""

    def __init__(self):
        self.lines, self.weights, self.blobs = [], [], []

    def add(self, kind, sources, targets, settings=(), weights=b""):
        """Add a layer that reads and writes blobs, with its numbered settings."""
        text = " ".join(f"{key}={value}" for key, value in dict(settings).items())
        self.lines.append(
            f"{kind} layer{len(self.lines)} {len(sources)} {len(targets)} {' '.join([*sources, *targets])} {text}"
        )
        self.weights.append(weights)
        self.blobs += targets

    def new(self):
        return f"v{len(self.blobs)}"

    def add_chain(self, chain, blob):
        """Add steps that follow each other from a blob on, and return the last blob."""
        chain = _folded(chain)
        for number, step in enumerate(chain):
            following = chain[number + 1] if number + 1 < len(chain) else None
            before = chain[number - 1] if number else None
            if isinstance(step, cf.Sum):
                copies = [f"{self.new()}_{index}" for index in range(len(step.branches))]
                self.add("Split", [blob], copies)
                ends = [self.add_chain(list(branch), copy) for branch, copy in zip(step.branches, copies, strict=True)]
                blob = self.new()
                self.add("BinaryOp", ends, [blob], {0: 0})
            elif not (isinstance(step, cf.Relu | cf.Relu6) and isinstance(before, cf.Conv | cf.Dense)):
                kind, settings, stored = _layer(step, following)
                target = self.new()
                self.add(kind, [blob], [target], settings, stored)
                blob = target
        return blob


def _folded(chain):
    """Return the steps with scalings folded into the convolutions before them, as ncnn's own optimiser does."""
    folded = []
    for step in chain:
        if isinstance(step, cf.Scaling) and folded and isinstance(folded[-1], cf.Conv):
            conv = folded.pop()
            weight = np.ascontiguousarray(conv.weight * step.scale[:, None, None, None])
            step = replace(conv, weight=weight, bias=conv.bias * step.scale + step.shift)
        folded.append(step)
    return folded


def _activation(step):
    """Return the settings of an activation that is part of the layer before it."""
    if isinstance(step, cf.Relu6):
        return {9: 3, -23310: "2,0.0,6.0"}
    return {9: int(isinstance(step, cf.Relu))}


def _layer(step, following):
    """Return kind, numbered settings and stored weights of a step; the numbers are ncnn's."""
    match step:
        case cf.Conv():
            filters, _, kernel_height, kernel_width = step.weight.shape
            (top, bottom), (left, right) = step.border
            settings = {
                0: filters,
                **{1: kernel_width, 11: kernel_height, 2: step.dilation[1], 12: step.dilation[0]},
                **{3: step.strides[1], 13: step.strides[0], 4: left, 15: right, 14: top, 16: bottom},
                **{5: 1, 6: step.weight.size, **_activation(following)},
                **({7: step.groups} if step.groups > 1 else {}),
            }
            kind = "ConvolutionDepthWise" if step.groups > 1 else "Convolution"
            return kind, settings, FLOAT32 + step.weight.tobytes() + step.bias.tobytes()
        case cf.Dense():
            settings = {0: len(step.bias), 1: 1, 2: step.weight.size, **_activation(following)}
            return "InnerProduct", settings, FLOAT32 + step.weight.tobytes() + step.bias.tobytes()
        case cf.MaxPool(border=((top, bottom), (left, right))):
            full_windows = 1
            size = {1: step.size[1], 11: step.size[0], 2: step.strides[1], 12: step.strides[0]}
            return "Pooling", {0: 0, **size, 3: left, 14: right, 13: top, 15: bottom, 5: full_windows}, b""
        case cf.AdaptiveAverage(grid=(1, 1)):
            return "Pooling", {0: 1, 4: 1}, b""
        case cf.Flatten():
            return "Flatten", {}, b""
        case cf.Relu():
            return "ReLU", {}, b""
        case cf.Relu6():
            return "Clip", {0: 0.0, 1: 6.0}, b""
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
