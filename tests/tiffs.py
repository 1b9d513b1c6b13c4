"""TIFF files of every arrangement, made by their definition: Pillow writes few of them."""

import struct
import zlib

import numpy as np

ROWS = 16  # of a strip, and of a tile
SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}


def tiff_of(
    values, order="<", planar=False, tiled=False, deflate=False, predictor=1, photometric=None, extra=2, compression=8
):
    """Return a TIFF of an array (height, width, samples); samples beyond grey or RGB are opacity of type `extra`."""
    height, width, n_samples = values.shape
    planes = np.split(values, n_samples, axis=2) if planar else [values]
    blocks = [
        block(plane[y : y + ROWS, x : x + (ROWS if tiled else width)], order, tiled, predictor)
        for plane in planes
        for y in range(0, height, ROWS)
        for x in range(0, width, ROWS if tiled else width)
    ]
    if deflate:
        blocks = [zlib.compress(one) for one in blocks]
    colours = 3 if n_samples > 2 else 1
    tags = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [values.dtype.itemsize * 8] * n_samples),
        259: ("H", [compression if deflate else 1]),
        262: ("H", [(2 if colours == 3 else 1) if photometric is None else photometric]),
        277: ("H", [n_samples]),
        284: ("H", [2 if planar else 1]),
        317: ("H", [predictor]),
        339: ("H", [SAMPLE_FORMAT[values.dtype.kind]] * n_samples),
        **({322: ("I", [ROWS]), 323: ("I", [ROWS])} if tiled else {278: ("I", [ROWS])}),
        **({338: ("H", [extra])} if n_samples > colours and photometric != 5 else {}),
    }
    places, lengths = (324, 325) if tiled else (273, 279)
    tags[lengths] = ("I", list(map(len, blocks)))
    tags[places] = ("I", [0] * len(blocks))
    after = 8 + 2 + 12 * len(tags) + 4
    start = after + sum(len(packed(order, *tag)) for tag in tags.values() if len(packed(order, *tag)) > 4)
    tags[places] = ("I", (start + np.cumsum([0, *tags[lengths][1][:-1]])).tolist())
    entries, values_after = b"", b""
    for number, (kind, numbers) in sorted(tags.items()):
        data = packed(order, kind, numbers)
        if len(data) > 4:
            data, values_after = struct.pack(f"{order}I", after + len(values_after)), values_after + data
        entries += struct.pack(f"{order}HHI", number, {"H": 3, "I": 4}[kind], len(numbers)) + data.ljust(4, b"\0")
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    return header + entries + bytes(4) + values_after + b"".join(blocks)


def packed(order, kind, numbers):
    data = struct.pack(f"{order}{len(numbers)}{kind}", *numbers)
    return data + bytes(len(data) % 4) if len(data) > 4 else data


def block(values, order, tiled, predictor):
    """Return the bytes of a strip or a tile before compression."""
    if tiled:
        values = np.pad(values, [(0, ROWS - side) for side in values.shape[:2]] + [(0, 0)])
    if predictor == 2:
        values = np.concatenate([values[:, :1], values[:, 1:] - values[:, :-1]], axis=1)
    if predictor == 3:  # bytes of a row by their place in the number, each less the one a sample before
        rows = values.astype(values.dtype.newbyteorder(">"))
        taken = rows.view(np.uint8).reshape(len(values), -1, values.dtype.itemsize).swapaxes(1, 2)
        taken = taken.reshape(len(values), -1)
        step = values.shape[2]
        return np.concatenate([taken[:, :step], taken[:, step:] - taken[:, :-step]], axis=1).tobytes()
    return values.astype(values.dtype.newbyteorder(order)).tobytes()
