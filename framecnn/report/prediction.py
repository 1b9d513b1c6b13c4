"""A frame, the probabilities that a model gives it, and what speaks for them, as one picture."""

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from framecnn.data.decode import SkippedFrame, decode_within
from framecnn.report.data import Evidence
from framecnn.report.feature_notes import contributions_by_kind
from framecnn.report.pictures import AGAINST, FOR, contribution_overlay

__all__ = ["draw_explanation", "draw_prediction"]

BOX = (405, 720)  # the largest height and width of the frame
PAPER, INK, SOFT, GOOD, EMPTY = "#faf9f6", "#1d1c1a", "#5d5a54", "#148082", "#ebe8e1"
MARGIN, ROW, BARS, TEXT = 24, 34, 300, 17
NEAR_BOX = (101, 180)  # the largest height and width of a training frame
MAX_CLASSES = 12
MAX_NAME = 40  # characters


def draw_prediction(path: str, title: str, probabilities: Mapping[str, float]) -> Image.Image:
    """Return a drawing of a frame and, beside it, a bar for the probability of each class, the largest first.

    Parameters
    ----------
    path : str
        The frame's file.
    title : str
        The line above the frame.
    probabilities : mapping of str to float
        By class.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    SkippedFrame
        If the file cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "night.png")
    >>> Image.new("RGB", (320, 180)).save(path)
    >>> picture = draw_prediction(path, "night", {"day": 0.1, "night": 0.9})
    >>> picture.width > 320
    True
    """
    frame = Image.fromarray(decode_within(path, BOX).pixels)
    best_first = sorted(probabilities.items(), key=lambda item: -item[1])[:MAX_CLASSES]
    height = 3 * MARGIN + TEXT + max(frame.height, ROW * len(best_first))
    picture = Image.new("RGB", (3 * MARGIN + frame.width + 2 * BARS, height), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    pen.text((MARGIN, MARGIN), title, INK, font)
    top, left = 2 * MARGIN + TEXT, 2 * MARGIN + frame.width
    picture.paste(frame, (MARGIN, top))
    for row, (name, share) in enumerate(best_first):
        y = top + ROW * row
        pen.text((left, y), f"{100 * share:5.1f} %  {_short(name)}", INK if row == 0 else SOFT, font)
        pen.rectangle((left, y + TEXT + 5, left + max(1, round(share * (2 * BARS - MARGIN))), y + TEXT + 9), GOOD)
    return picture


def draw_explanation(path: str, title: str, probabilities: Mapping[str, float], evidence: Evidence) -> Image.Image:
    """Return the drawing of :func:`draw_prediction` and below it the map of contributions and near training frames.

    Parameters
    ----------
    path, title, probabilities
        As for :func:`draw_prediction`.
    evidence : Evidence
        A training frame whose file was not found or cannot be read is named without a picture.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    SkippedFrame
        If the file of the frame cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "night.png")
    >>> Image.new("RGB", (320, 180)).save(path)
    >>> evidence = Evidence("night", "day", np.eye(180, 320), (("nights/1.png", "night"),))
    >>> draw_explanation(path, "night", {"day": 0.1, "night": 0.9}, evidence).size
    (992, 512)
    """
    above, mapped = draw_prediction(path, title, probabilities), _mapped(path, evidence)
    kinds = contributions_by_kind(evidence.by_kind)
    bottom = max(mapped.height, (3 if kinds else 2) * (TEXT + 9) + 2 * TEXT + 9 + NEAR_BOX[0] + 6 + TEXT)
    picture = Image.new("RGB", (above.width, above.height + bottom + MARGIN), PAPER)
    picture.paste(above, (0, 0))
    picture.paste(mapped, (MARGIN, above.height))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    left, top = 2 * MARGIN + mapped.width, above.height
    for colour, label in ((FOR, evidence.label), (AGAINST, evidence.against)):
        pen.rectangle((left, top + 2, left + TEXT, top + TEXT + 2), colour)
        pen.text((left + TEXT + 9, top), f"speaks for {_short(label)}", INK, font)
        top += TEXT + 9
    if kinds:
        pen.text((left, top), kinds, INK, font)
        top += TEXT + 9
    pen.text((left, top + TEXT), "Most similar training frames", SOFT, font)
    for number, (near, label) in enumerate(evidence.nearest):
        x, y = left + number * (NEAR_BOX[1] + 12), top + 2 * TEXT + 9
        picture.paste(_near(near), (x, y))
        pen.text((x, y + NEAR_BOX[0] + 6), _fitted(label, font, NEAR_BOX[1]), INK, font)
    return picture


def _mapped(path: str, evidence: Evidence) -> Image.Image:
    """Return a frame in pale grey under its contributions."""
    frame = Image.fromarray(decode_within(path, BOX).pixels).convert("L").point(lambda value: 92 + 0.64 * value)
    overlay = contribution_overlay(evidence.map).resize(frame.size, Image.Resampling.BICUBIC)
    return Image.alpha_composite(frame.convert("RGBA"), overlay).convert("RGB")


def _near(path: str) -> Image.Image:
    """Return a training frame in the middle of its box, or a box that says why there is none."""
    height, width = NEAR_BOX
    box = Image.new("RGB", (width, height), EMPTY)
    text = "picture not found"
    if path:
        try:
            frame = Image.fromarray(decode_within(path, NEAR_BOX).pixels)
            box.paste(frame, ((width - frame.width) // 2, (height - frame.height) // 2))
            return box
        except SkippedFrame as skipped:
            text = "picture not found" if skipped.reason == "vanished" else "picture unreadable"
    font = ImageFont.load_default(TEXT)
    ImageDraw.Draw(box).text((width / 2, height / 2), text, SOFT, font, anchor="mm")
    return box


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return text without its middle, so that it has a width in pixels; the ends of paths tell them apart."""
    shown, kept = text, min(len(text), width)
    while kept > 1 and font.getlength(shown) > width:
        kept -= 1
        shown = text[: kept // 2] + "…" + text[len(text) - (kept - kept // 2) :]
    return shown


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
