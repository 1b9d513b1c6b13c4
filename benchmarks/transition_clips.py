"""Movies of small pictures with transitions at known times: shots of films and rendered scenes, joined.

Everything is drawn from generators, so equal seeds give equal movies. The pictures are as small as the detector gets
them: the mix of shrunk frames is the shrunk mix of the frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from framecnn.data.movie import Movie
from framecnn.data.small_pictures import SMALL_SIZE, is_blank

__all__ = ["KINDS", "Composed", "Shot", "Transition", "compose", "filmed_shots", "rendered_shot", "visible_shot"]

KINDS = ("cut", "dissolve", "wipe", "fade through black", "fade through white")
HEIGHT, WIDTH = SMALL_SIZE
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)


@dataclass(frozen=True)
class Shot:
    """Frames between two cuts: `pictures` (n, 36, 64, 3) of float32, 0 to 255, of times (n,) from 0 to `seconds`."""

    pictures: Callable[[Any], Any]
    seconds: float


@dataclass(frozen=True)
class Transition:
    """The change from one shot to the next, from the first mixed frame to the first unmixed frame of the next shot."""

    kind: str
    start: float
    end: float


@dataclass(frozen=True)
class Composed:
    """A movie: times (n,) in seconds, pictures (n, 36, 64, 3) of uint8, transitions, (start, end) of flashes."""

    rate: float
    times: Any
    pictures: Any
    transitions: list[Transition]
    flashes: list[tuple[float, float]]


def filmed_shots(path, cuts):
    """Return the shots of a movie file that last at least 1.5 s, given the frames at which its cuts lie."""
    with Movie(path) as movie:
        pictures, rate = np.stack([movie.small(frame) for _, frame in movie.frames()]), movie.rate
    bounds = [0, *cuts, len(pictures)]
    pieces = [pictures[i:j] for i, j in pairwise(bounds) if j - i >= 1.5 * rate]
    return [Shot(lambda times, piece=piece: filmed(piece, rate, times), len(piece) / rate) for piece in pieces]


def filmed(pictures, rate, times):
    """Return the frames shown at these times: at a higher rate frames repeat, at a lower one some are skipped."""
    frames = np.floor(np.asarray(times) * rate + 1e-6).astype(int)
    return pictures[np.clip(frames, 0, len(pictures) - 1)].astype(np.float32)


def rendered_shot(seed, seconds=6.0):
    """Return a shot of a random scene: textures, moving objects, changing light, a camera that pans, zooms, shakes."""
    rng = np.random.default_rng([seed, 7])
    ground = texture(rng, 160, 240, rng.uniform(1.2, 2.4))
    things = [(texture(rng, 40, 40, 1.5), *rng.uniform(0, 1, 7)) for _ in range(rng.integers(0, 5))]
    move, shake = rng.choice([0, 0, 4, 12, 40]) * rng.normal(0, 0.6, 2), rng.choice([0, 0, 0.5, 2])
    zoom, start = rng.choice([0, 0, 0.08, 0.2]) * rng.choice([-1, 1]), rng.uniform(0.2, 0.8, 2)
    shaking, light = rng.uniform(0, 6, (2, 3)), light_curve(rng, seconds)
    exposure, grain = rng.uniform(0.35, 1.1), rng.choice([0, 0, 2, 5])

    def picture(time):
        scale = 1.4 * np.exp(zoom * (time - seconds / 2))
        wobble = shake * np.sin(2.1 * np.pi * shaking * (time + 1)).sum(1)
        row, column = start * (160, 240) + move * (time - seconds / 2) + wobble
        rows, columns = (ROWS - HEIGHT / 2) * scale + row, (COLUMNS - WIDTH / 2) * scale + column
        seen = sample(ground, rows, columns)
        for surface, y, x, size, vy, vx, turn, depth in things:
            top = (y + 0.25 * (vy - 0.5) * time + 0.05 * np.sin(6 * turn * time)) * HEIGHT * 1.4 - 0.2 * HEIGHT
            left = (x + 0.6 * (vx - 0.5) * time) * WIDTH * 1.4 - 0.2 * WIDTH
            radius = 3 + 9 * size
            dy, dx = (ROWS - top + depth * (row - 80) * 0.1) / radius, (COLUMNS - left) / radius / (0.5 + turn)
            cover = np.clip((1 - np.hypot(dy, dx)) * radius + 0.5, 0, 1)[..., None]
            seen = seen * (1 - cover) + cover * sample(surface, 20 + 18 * dy, 20 + 18 * dx)
        noise = grain * np.random.default_rng([seed, round(time * 1e4)]).standard_normal((HEIGHT, WIDTH, 1))
        return np.clip(seen * exposure * light(time) + noise, 0, 255)

    return Shot(lambda times: np.stack([picture(time) for time in times]).astype(np.float32), seconds)


def visible_shot(seed, seconds):
    """Return the `rendered_shot` of the first of seed, seed + 1000, ... that shows something.

    A scene whose frames are mostly blank, such as a view of one flat colour, is no shot: nobody sees where it begins.
    """
    while True:
        shot = rendered_shot(seed, seconds)
        pictures = np.rint(shot.pictures(np.linspace(0, seconds, 9))).astype(np.uint8)
        if sum(map(is_blank, pictures)) < len(pictures) / 2:
            return shot
        seed += 1000


def texture(rng, height, width, roughness):
    """Return a picture (height, width, 3): noise of many scales in the colours of a palette, and hard-edged shapes."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) + 1 / width
    layers = []
    for _ in range(2):
        noise = np.fft.irfft2(
            np.fft.rfft2(rng.standard_normal((height, width))) / frequency**roughness, (height, width)
        )
        layers.append((noise - noise.min()) / np.ptp(noise))
    palette = rng.uniform(0, 255, (3, 3)) * rng.uniform(0.3, 1) + rng.uniform(0, 60)
    colours = palette[0] + layers[0][..., None] * (palette[1] - palette[0])
    colours += (layers[1][..., None] > rng.uniform(0.4, 0.8)) * (palette[2] - colours) * rng.uniform(0, 1)
    rows, columns = np.mgrid[0:height, 0:width]
    for _ in range(rng.integers(0, 25)):
        top, left = rng.uniform(0, height), rng.uniform(0, width)
        inside = (abs(rows - top) < rng.uniform(2, 25)) & (abs(columns - left) < rng.uniform(2, 25))
        colours[inside] = 0.5 * colours[inside] + 0.5 * rng.uniform(0, 255, 3)
    return np.clip(colours, 0, 255)


def sample(picture, rows, columns):
    """Return the values between the pixels of a picture, which is mirrored beyond its borders."""
    height, width = picture.shape[:2]
    rows, columns = mirrored(rows, height), mirrored(columns, width)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    above = picture[top, left] * (1 - right) + picture[top, left + 1] * right
    below = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
    return above * (1 - down) + below * down


def mirrored(places, length):
    return (length - 1.001) - abs(places % (2 * (length - 1.001)) - (length - 1.001))


def light_curve(rng, seconds):
    """Return the light over time: steady, slowly changing, flickering, or a lamp that is switched."""
    kind, strength, when = rng.integers(0, 6), rng.uniform(0.15, 0.5), rng.uniform(0.2, 0.8) * seconds
    if kind == 0:
        return lambda time: 1 - strength * time / seconds
    if kind == 1:
        return lambda time: 1 - strength * (time > when)
    if kind == 2:
        return lambda time: 1 - 0.2 * strength * np.sin(2 * np.pi * 9 * time)
    return lambda time: 1.0


def compose(kind, shots, rate, rng):
    """Join shots by transitions of one kind, 0.5 to 2 s long unless cuts, with flashes of 1 to 6 frames inside shots.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    shots : sequence of Shot
    rate : float
        Frames per second.
    rng : Generator

    Returns
    -------
    Composed
    """
    lengths = [max(shot.seconds * rng.uniform(0.6, 1.0), min(1.6, shot.seconds)) for shot in shots]
    counts = [int(length * rate) for length in lengths]
    offsets = [rng.uniform(0, shot.seconds - n / rate) for shot, n in zip(shots, counts, strict=True)]
    parts = [shot.pictures(o + np.arange(n) / rate) for shot, n, o in zip(shots, counts, offsets, strict=True)]
    pictures, transitions, clear = [parts[0]], [], [[0, len(parts[0])]]
    for part in parts[1:]:
        last = pictures.pop()
        n = 0 if kind == "cut" else round(rng.uniform(0.5, 2.0) * rate)
        n = min(n, int(0.4 * min(len(part), len(last))))
        before = sum(map(len, pictures))
        if kind.startswith("fade"):
            hold = round(rng.choice([0, 0, 0.2, 0.5]) * rate)
            mixed = faded(last, part, n, hold, 0.0 if kind.endswith("black") else 255.0)
        else:
            mixed = mix(kind, last[len(last) - n :], part[:n], rng)
        rest = n // 2 if kind.startswith("fade") else n
        start = before + len(last) - rest
        pictures += [last[: len(last) - rest], mixed, part[rest:]]
        transitions.append(Transition(kind, start / rate, (start + len(mixed)) / rate))
        clear[-1][1] = start
        clear.append([start + len(mixed), start + len(mixed) + len(part) - rest])
    movie, flashes = np.concatenate(pictures), []
    for start, end in clear:
        n = int(rng.integers(1, 7))
        if rng.uniform() < 0.4 and end - start > n + rate:
            first = int(rng.integers(start + rate / 2, end - n - rate / 2 + 1))
            strength = rng.choice([0.5, 0.75, 1.0])
            movie[first : first + n] += (255 - movie[first : first + n]) * strength
            flashes.append((first / rate, (first + n) / rate))
    return Composed(rate, np.arange(len(movie)) / rate, np.rint(movie).astype(np.uint8), transitions, flashes)


def mix(kind, old, new, rng):
    """Return n frames from one shot to the other: everywhere at once, or behind a moving edge."""
    progress = ((np.arange(len(old)) + 0.5) / max(len(old), 1)).astype(np.float32)[:, None, None]
    if kind == "wipe":
        y, x = ROWS / (HEIGHT - 1), COLUMNS / (WIDTH - 1)
        edge = [x, 1 - x, y, 1 - y, (x + y) / 2, np.hypot(x - 0.5, y - 0.5) * np.sqrt(2)][rng.integers(6)]
        soft = rng.choice([0.02, 0.1, 0.3])
        progress = np.clip((progress * (1 + soft) - edge) / soft, 0, 1)
    return old + (new - old) * progress[..., None]


def faded(old, new, n, hold, value):
    """Return the end of a shot fading to a flat colour, `hold` frames of it, and the next shot fading in."""
    out, back = old[len(old) - n // 2 :], new[: n // 2]
    light = ((np.arange(n // 2) + 0.5) / max(n // 2, 1)).astype(np.float32)[:, None, None, None]
    flat = np.full((hold, HEIGHT, WIDTH, 3), value, np.float32)
    return np.concatenate([out + (value - out) * light, flat, back + (value - back) * (1 - light)])
