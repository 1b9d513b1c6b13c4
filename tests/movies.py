"""Small movies for the tests of framecnn.data.movie, shots and cutting."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray
from pictures import scene

RATE = 24
Picture = NDArray[np.uint8]


def still(seed: int, height: int = 48, width: int = 64) -> Picture:
    """Return a picture with large soft shapes, which look different for each seed."""
    return np.asarray(scene(seed, height, width))


def moving(seed: int, n_frames: int, height: int = 48, width: int = 64) -> list[Picture]:
    """Return the frames of a shot: the camera glides over a wide picture, one pixel per frame."""
    wide = np.asarray(scene(seed, height, width + n_frames))
    return [wide[:, i : i + width] for i in range(n_frames)]


def shots(*lengths: int) -> list[Picture]:
    """Return the frames of several shots of these lengths, with a cut after each."""
    return [picture for seed, length in enumerate(lengths) for picture in moving(seed, length)]


def black(n_frames: int) -> list[Picture]:
    """Return black frames."""
    return [np.zeros((48, 64, 3), np.uint8)] * n_frames


def numbered(number: int, height: int = 96, width: int = 128) -> Picture:
    """Return a picture that carries a number from 0 to 1023 as two rows of five black or white blocks."""
    bits = (number >> np.arange(10).reshape(2, 5)) & 1
    return (
        np.kron(bits, np.ones((height // 2, width // 5 + 1)))[:, :width, None].repeat(3, 2).astype(np.uint8) * 200 + 28
    )


def number_of(picture: Picture) -> int:
    """Return the number that a picture carries."""
    height, width = picture.shape[:2]
    block = width // 5 + 1
    rows, columns = height // 4 + height // 2 * np.arange(2), np.minimum(block * np.arange(5) + block // 3, width - 2)
    bits = picture[rows[:, None], columns, 1] > 128
    return int((bits.ravel() << np.arange(10)).sum())


def write_movie(
    path: Path,
    pictures: Iterable[Picture | av.VideoFrame],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[float] | None = None,
    matrix: Sequence[int] | None = None,
    settings: Mapping[str, object] | None = None,
    codec_options: Mapping[str, str] | None = None,
    rate: int | Fraction = RATE,
    sound: bool = False,
    cover: bool = False,
    **container_options: str,
) -> Path:
    """Write a movie; `times` are those of its frames in seconds, by default `rate` frames per second.

    The matrix is the display matrix; settings are attributes of the codec context, such as ``sample_aspect_ratio``.
    """
    pictures = [
        picture
        if isinstance(picture, av.VideoFrame)
        else av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
        for picture in pictures
    ]
    with av.open(str(path), "w", options=container_options) as container:
        if pictures:
            video = container.add_stream(codec, rate=rate)
            video.height, video.width = pictures[0].height, pictures[0].width
            video.pix_fmt = pixels
            is_regular = times is None or np.allclose(np.multiply(times, rate), np.rint(np.multiply(times, rate)))
            ticks = rate if is_regular else 1000
            video.codec_context.time_base = Fraction(1, ticks)
            video.options = {"bf": "0", "g": "12", **(codec_options or {})}
            for name, value in (settings or {}).items():
                setattr(video.codec_context, name, value)
            video.set_display_matrix(matrix)
        if sound:
            audio = container.add_stream("aac", rate=16000)
            audio.layout = "mono"
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.width = art.height = 200
            art.pix_fmt = "yuvj420p"
            art.disposition = Disposition.attached_pic
        for i, frame in enumerate(pictures):
            frame.pts = i if times is None else round(ticks * times[i])
            frame.time_base = Fraction(1, ticks)
            container.mux(video.encode(frame))
        if pictures:
            container.mux(video.encode())
        if sound:
            for i in range(16):
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                samples.sample_rate, samples.pts, samples.time_base = 16000, 1024 * i, Fraction(1, 16000)
                container.mux(audio.encode(samples))
            container.mux(audio.encode())
        if cover:
            frame = av.VideoFrame.from_ndarray(np.full((200, 200, 3), 200, np.uint8), "rgb24")
            container.mux(art.encode(frame.reformat(format="yuvj420p")))
            container.mux(art.encode())
    return path


def cut_off(path: Path, share: float) -> Path:
    """Write and return a copy of a file that ends early."""
    data = path.read_bytes()
    copy = path.with_name(f"cut_{path.name}")
    copy.write_bytes(data[: int(share * len(data))])
    return copy


def flip_bits(path: Path, n_bits: int, first: float = 0.2, last: float = 0.9) -> Path:
    """Write and return a copy of a file with wrong bits between two places, given as shares of its length."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(int(first * len(data)), int(last * len(data)), n_bits):
        data[place] ^= 1 << int(rng.integers(8))
    copy = path.with_name(f"damaged_{path.name}")
    copy.write_bytes(data)
    return copy
