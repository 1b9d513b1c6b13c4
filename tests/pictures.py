"""Small pictures for the tests of framecnn.data."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def scene(seed: int, height: int = 48, width: int = 64) -> Image.Image:
    """Return a picture with large soft shapes, which look different for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def film_folder(root: Path, frames: dict[str, int], first_seed: int = 0) -> Path:
    """Write and return a folder with class folders of these numbers of frames, which all look different."""
    seed = first_seed
    for name, n_frames in frames.items():
        (root / name).mkdir(parents=True)
        for i in range(n_frames):
            scene(seed).save(root / name / f"{i:03d}.png")
            seed += 1
    return root


def flat_folder(root: Path) -> Path:
    """Return a folder of 12 pictures of two classes and three films without class folders."""
    root.mkdir()
    for i in range(12):
        scene(i).save(root / f"{['cat', 'dog'][i % 2]}_film{i % 3}_{i:03d}.png")
    return root


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Return the bytes of a picture file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims a size."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def jpeg_claiming(width: int, height: int) -> bytes:
    """Return a JPEG of a few bytes whose header claims a size."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_claiming(width: int, height: int) -> bytes:
    """Return a BMP of a few bytes whose header claims a size."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif_claiming(width: int, height: int) -> bytes:
    """Return a GIF of a few bytes whose header claims a size."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    """Return a WebP of a few bytes whose header claims a size."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "WEBP"))
    data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


def tiff(
    width: int,
    height: int,
    data: bytes,
    bits: int = 8,
    photometric: int = 1,
    sample_format: int = 1,
    n_bytes: int | None = None,
) -> bytes:
    """Return an uncompressed grey little-endian TIFF of any depth, with `n_bytes` of pixels if more than given."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, n_bytes or len(data)), (339, 3, sample_format)]
    offset = 8 + 2 + 12 * (len(tags) + 1) + 4
    entries = sorted([*tags, (273, 4, offset)])
    header = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return (
        header + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4) + data
    )


def lossless_jpeg(grey: np.ndarray) -> bytes:
    """Return a lossless JPEG (SOF3): each pixel less its left neighbour, the first of a row less the one above."""
    before = np.concatenate([np.r_[128, grey[:-1, 0].astype(int)][:, None], grey[:, :-1]], axis=1)
    bits = []
    for step in (grey.astype(int) - before).ravel().tolist():
        n = abs(step).bit_length()
        bits.append(f"{n:04b}" + (f"{step if step > 0 else step + 2**n - 1:0{n}b}" if n else ""))
    text = "".join(bits)
    text += "1" * (-len(text) % 8)
    data = int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0")
    height, width = grey.shape
    header = b"\xff\xd8" + struct.pack(">2sHBHHBBBB", b"\xff\xc3", 11, 8, height, width, 1, 1, 0x11, 0)
    header += struct.pack(">2sHB", b"\xff\xc4", 28, 0) + bytes([0, 0, 0, 9, *[0] * 12]) + bytes(range(9))
    return header + struct.pack(">2sHBBBBBB", b"\xff\xda", 8, 1, 1, 0, 1, 0, 0) + data + b"\xff\xd9"
