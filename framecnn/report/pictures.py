"""Pictures inside an HTML file: frames, contribution maps, learned filters."""

import base64
import io
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from PIL import Image

from framecnn.data.decode import SkippedFrame, decode_within
from framecnn.data.loader import map_ahead
from framecnn.errors import MachineError, ShapeError
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array

__all__ = [
    "AGAINST",
    "FOR",
    "MAX_FILTERS",
    "PICTURE_BUDGET",
    "Missing",
    "Picture",
    "contribution_overlay",
    "embed",
    "filter_tiles",
    "grey_first",
    "map_picture",
]

SMALL_BOX, SMALL_QUALITY = (126, 224), 70  # the largest height and width of a thumbnail, and its JPEG quality
FULL_BOX, FULL_QUALITY = (1080, 1920), 85
SMALL_SHARE = 0.6  # of the budget, at most, for thumbnails
MAP_COLUMNS = 24  # of blocks, over which contributions are summed to be seen
FOR, AGAINST = (0, 92, 190), (230, 115, 0)
"""Blue and orange: the colours of contributions for and against a class."""
STRONGEST = 215  # the largest alpha of contributions, of 255
TILE = 24  # smaller filters are enlarged by a whole factor, up to this side in pixels
GAP = 3
COLUMNS = 20
MAX_FILTERS = 400
"""The largest number of filters that are drawn."""
PICTURE_BUDGET = 4_000_000
"""The largest number of characters of all frames in a report; with text and filters that of the films is under 5 MB."""


@dataclass(frozen=True)
class Picture:
    """A picture file as text.

    Parameters
    ----------
    uri : str
        A ``data:`` URI that holds the whole file.
    width, height : int
        Its size in pixels.
    """

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Missing:
    """A frame whose file can no longer be read.

    Parameters
    ----------
    reason : str
        The reason code of the decoder, such as ``"vanished"``.
    """

    reason: str


def embed(paths: Sequence[str], budget: int) -> tuple[dict[str, Picture | Missing], dict[str, Picture]]:
    """Return thumbnails, and pictures at full size, made in the given order until they fill the budget.

    A thumbnail is a JPEG in the proportions of its file, at most 224 pixels wide and 126 high, never enlarged; a
    picture at full size likewise, at most 1920 pixels wide and 1080 high. They are made from the pixels, so that no
    data about the camera or the place of a photograph gets into the report.

    Parameters
    ----------
    paths : sequence of str
        Files, the most wanted first, each once.
    budget : int
        How many characters all pictures together may take; thumbnails get at most 60 % of it.

    Returns
    -------
    thumbnails : dict
        The thumbnail of each path, or the reason why there is none; paths beyond the budget are missing.
    full : dict
        The picture at full size of each path that has a thumbnail, up to the budget.

    Examples
    --------
    >>> embed(["no/such/frame.jpg"], budget=1000)
    ({'no/such/frame.jpg': Missing(reason='vanished')}, {})
    """
    small = _made(paths, _thumbnail, SMALL_SHARE * budget)
    readable = {path: shown for path, shown in small.items() if isinstance(shown, Picture)}
    rest = budget - sum(len(shown.uri) for shown in readable.values())
    full = _made(list(readable), _full_size, rest)
    return small, {path: shown for path, shown in full.items() if isinstance(shown, Picture)}


def contribution_overlay(contributions: Array) -> Image.Image:
    """Return a map of contributions as a small transparent picture, to be stretched over its frame.

    Contributions are summed over 24 blocks across, and as many down as keep blocks square. Blue speaks for the
    class, orange against it, and zero is transparent. The colour is deepest at the largest sum of all blocks.

    Parameters
    ----------
    contributions : array, shape (h, w)

    Returns
    -------
    PIL.Image.Image

    Examples
    --------
    >>> overlay = contribution_overlay(np.eye(48))
    >>> overlay.size, overlay.getpixel((0, 0)), overlay.getpixel((9, 0))[3]
    ((24, 24), (0, 92, 190, 215), 0)
    """
    height, width = contributions.shape
    columns = min(width, MAP_COLUMNS)
    rows = min(height, max(1, round(columns * height / width)))
    sums = np.asarray(Image.fromarray(contributions.astype(np.float32)).resize((columns, rows), Image.Resampling.BOX))
    depth = sums / (np.abs(sums).max() or 1)
    colours = np.where(depth[..., None] > 0, FOR, AGAINST).astype(np.uint8)
    return Image.fromarray(np.dstack([colours, np.rint(STRONGEST * np.abs(depth)).astype(np.uint8)]))


def map_picture(contributions: Array) -> Picture:
    """Return :func:`contribution_overlay` as a PNG file."""
    return _picture(contribution_overlay(contributions), "png", optimize=True)


def grey_first(filters: Array) -> Array:
    """Return filters (n, height, width, channels) from grey to coloured; of more than 400, 400 evenly chosen ones."""
    colourfulness = np.ptp(_stretched(filters).astype(int), axis=3).mean(axis=(1, 2))
    order = np.argsort(colourfulness, kind="stable")
    return filters[order[np.linspace(0, len(order) - 1, min(len(order), MAX_FILTERS)).round().astype(int)]]


def filter_tiles(filters: Array, n_columns: int = COLUMNS) -> Picture:
    """Return filters drawn side by side, each scaled to its own range of values.

    Parameters
    ----------
    filters : array, shape (n, height, width, channels)
        Three channels are red, green and blue; any other number is drawn as the mean over channels, in grey.
    n_columns : int, default 20
        The largest number of filters in a row.

    Returns
    -------
    Picture
        A PNG, transparent between the tiles.

    Raises
    ------
    ShapeError
        When `filters` has no filter or not four dimensions.

    Examples
    --------
    >>> tiles = filter_tiles(np.eye(27).reshape(27, 3, 3, 3))
    >>> tiles.width, tiles.height
    (537, 51)
    """
    if filters.ndim != 4 or filters.size == 0:
        raise ShapeError(f"filter_tiles: expected filters (n, height, width, channels), got shape {filters.shape}")
    tiles = _stretched(filters)
    zoom = max(1, TILE // max(tiles.shape[1:3]))
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    n_filters, height, width, _ = tiles.shape
    n_columns = min(n_filters, n_columns)
    n_rows = -(-n_filters // n_columns)
    canvas = np.zeros((n_rows * (height + GAP) - GAP, n_columns * (width + GAP) - GAP, 4), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // n_columns * (height + GAP), index % n_columns * (width + GAP)
        canvas[top : top + height, left : left + width, :3] = tile
        canvas[top : top + height, left : left + width, 3] = 255
    return _picture(Image.fromarray(canvas), "png", optimize=True)


def _made(
    paths: Sequence[str], make: Callable[[str], Picture | Missing], budget: float
) -> dict[str, Picture | Missing]:
    """Return the pictures of files, in order, until they have `budget` characters."""
    made: dict[str, Picture | Missing] = {}
    workers = get_num_threads()
    with closing(map_ahead(make, paths, workers, 8 * workers)) as pictures:
        for path, picture in zip(paths, pictures, strict=True):
            budget -= len(picture.uri) if isinstance(picture, Picture) else 0
            if budget < 0:
                break
            made[path] = picture
    return made


def _thumbnail(path: str) -> Picture | Missing:
    return _jpeg(path, SMALL_BOX, SMALL_QUALITY)


def _full_size(path: str) -> Picture | Missing:
    return _jpeg(path, FULL_BOX, FULL_QUALITY)


def _jpeg(path: str, box: tuple[int, int], quality: int) -> Picture | Missing:
    try:
        pixels = decode_within(path, box).pixels
    except SkippedFrame as skipped:
        return Missing(skipped.reason)
    except MachineError:  # a report without a picture is better than a model that is lost
        return Missing("unreadable")
    return _picture(Image.fromarray(pixels), "jpeg", quality=quality, optimize=True, progressive=True)


def _stretched(filters: Array) -> Array:
    """Return filters (n, height, width, 1 or 3) as uint8, each scaled to its own range."""
    filters = np.nan_to_num(np.asarray(filters, np.float64))
    if filters.shape[3] != 3:
        filters = filters.mean(axis=3, keepdims=True)
    low = filters.min(axis=(1, 2, 3), keepdims=True)
    span = filters.max(axis=(1, 2, 3), keepdims=True) - low
    unit = np.where(span > 0, (filters - low) / np.where(span > 0, span, 1), 0.5)
    return np.rint(255 * unit).astype(np.uint8)


def _picture(image: Image.Image, kind: str, **options: int) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    uri = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return Picture(uri, *image.size)
