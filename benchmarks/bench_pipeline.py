"""JPEG files to predictions, in frames per second: framecnn, tf.data with Keras, PIL and DataLoader with PyTorch.

Every library reads the same files in its usual way and runs the same network. Decoders and filters for shrinking
differ, so the predictions differ a little; the differences are reported.
"""

import math
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import as_keras, as_pytorch, tables
from benchmarks.cases import Case, reference_layers
from benchmarks.peers import Peer
from benchmarks.timing import compare
from framecnn import BatchLoader, FrameFolder, get_num_threads
from framecnn.interop.keras import to_keras

__all__ = ["markdown", "measure"]

BATCH = 16
SIZE = (240, 360)
FILES = {(640, 360): 64, (1920, 1080): 32}  # (width, height) in pixels: number of files


def measure(rounds, files=FILES, size=SIZE, peers=None):
    """Return the comparisons for every size of file as JSON, with frames per second."""
    model = Case("", BATCH, (*size, 3), reference_layers).model(scale=1 / 255)
    compared = []
    for (width, height), n in files.items():
        with tempfile.TemporaryDirectory() as folder:
            write_pictures(Path(folder), width, height, n)
            name = f"{n} files of {width}x{height}"
            all_peers = peers or (FROM_FILES, *PEERS)
            result = compare(name, all_peers, model, folder, rounds, tolerance=math.inf).as_json()
        for timing in result["peers"].values():
            timing["frames_per_second"] = 1e3 * n / timing["median_ms"]
        compared.append(result)
    return compared


def write_pictures(folder, width, height, n, seed=0):
    """Write n JPEG files into two class folders: soft shapes with some grain, as compressible as a movie's frames."""
    rng = np.random.default_rng(seed)
    for number in range(n):
        soft = Image.fromarray(rng.integers(0, 256, (9, 16, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        grain = rng.normal(0, 6, (height, width, 1))
        pixels = (np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)
        path = folder / "ab"[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)


def paths_of(folder):
    """Return the files in the order of FrameFolder."""
    return sorted(map(str, Path(folder).rglob("*.jpg")))


def start_framecnn(model, folder):
    frames = FrameFolder(folder, size=model.input_shape[:2]).frames
    return lambda: predictions(model, frames)


def start_framecnn_with_scan(model, folder):
    """Return a function that also scans: every file is decoded once to find out whether it can be used."""
    return lambda: predictions(model, FrameFolder(folder, size=model.input_shape[:2]).frames)


def predictions(model, frames):
    loader = BatchLoader(frames, np.zeros(len(frames)), BATCH)
    return np.concatenate([model.predict(batch) for batch, _ in loader])


def start_keras(model, folder):
    tf, net = as_keras.tensorflow(), to_keras(model)
    size = model.input_shape[:2]

    def pixels(path):
        return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), size)

    files = tf.data.Dataset.from_tensor_slices(paths_of(folder))
    batches = files.map(pixels, num_parallel_calls=get_num_threads()).batch(BATCH, drop_remainder=True).prefetch(1)
    predict = tf.function(lambda frames: net(frames, training=False))
    return lambda: np.concatenate([predict(frames).numpy() for frames in batches])


class Pictures:
    """A PyTorch dataset of pictures, uint8 (height, width, 3), read as torchvision's ImageFolder reads them."""

    def __init__(self, paths, size):
        self.paths, self.size = paths, size

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        with Image.open(self.paths[number]) as picture:
            return np.array(picture.convert("RGB").resize(self.size[::-1], Image.Resampling.BILINEAR))


def start_pytorch(model, folder):
    return _start_pytorch(model, folder, as_pytorch.network(model).to(memory_format=_torch().channels_last))


def start_pytorch_compiled(model, folder):
    return _start_pytorch(model, folder, as_pytorch.compiled(model))


def _start_pytorch(model, folder, net):
    torch = _torch()
    loader = torch.utils.data.DataLoader(
        Pictures(paths_of(folder), model.input_shape[:2]),
        BATCH,
        num_workers=get_num_threads(),
        persistent_workers=True,
        multiprocessing_context="forkserver",
    )

    def run():
        with torch.no_grad():
            return np.concatenate([net(frames.permute(0, 3, 1, 2)).numpy() for frames in loader])

    return run


def _torch():
    import torch

    return torch


FROM_FILES = Peer("framecnn", start_framecnn, kind="own")
PEERS = (
    Peer("framecnn with the scan of FrameFolder", start_framecnn_with_scan, kind="own"),
    Peer("tf.data + Keras", start_keras, ("keras", "tensorflow")),
    Peer("PIL, DataLoader + PyTorch channels-last", start_pytorch, ("torch",)),
    Peer("PIL, DataLoader + PyTorch compiled", start_pytorch_compiled, ("torch",)),
)


def markdown(comparisons):
    parts = []
    for comparison in comparisons:
        rows = [
            (name, f"{timing['frames_per_second']:.0f}", f"{timing['ratio']:.2f}", f"{timing['difference']:.1e}")
            for name, timing in sorted(comparison["peers"].items(), key=lambda item: item[1]["median_ms"])
        ]
        head = (comparison["case"], "frames/s", "times framecnn's time", "difference")
        parts += [tables.table(head, rows), tables.missing([comparison])]
    return "\n\n".join(part for part in parts if part)
