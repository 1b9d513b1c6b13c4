"""Drawings of predictions, opened in the system's viewer."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from framecnn.cli import console
from framecnn.cli.outputs import DRAWING_MARK
from framecnn.report import Evidence, draw_explanation, draw_prediction
from framecnn.storage.atomic import atomic_write

__all__ = ["MOST_SHOWN", "show"]

MOST_SHOWN = 12  # pictures
FOLDER = "framecnn-predict-show-"  # beginning of the name of the temporary folder of a drawing
VIEWER_SECONDS = 3  # within which a viewer that cannot be started has failed


def show(
    rows: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Evidence] = MappingProxyType({}),
    file: Path | None = None,
) -> None:
    """Draw the first pictures with their probabilities, one below the other.

    Without `file` the drawing is written to a temporary file and opened; without a screen it is only named.

    Parameters
    ----------
    rows : sequence of mapping
        ``path``, ``label``, ``probability``, ``out_of_distribution`` and ``probabilities`` of each picture.
    evidence : mapping of str to Evidence, optional
        By path; such pictures are drawn with it.
    file : Path, optional
        Where to write the drawing.
    """
    path = file or Path(tempfile.mkdtemp(prefix=FOLDER), "prediction.png")
    mark = PngInfo()
    mark.add_text("Software", DRAWING_MARK.decode())
    drawings = [_draw(row, evidence.get(row["path"])) for row in rows[:MOST_SHOWN]]
    with atomic_write(path) as temporary:
        _stacked(drawings).save(temporary, "PNG", pnginfo=mark)
    which = f" (the first {MOST_SHOWN} of {len(rows):,} pictures)" if len(rows) > MOST_SHOWN else ""
    is_shown = file is not None or (_has_screen() and _open(str(path)))
    console.note(f"drew {path}{which}" + ("" if is_shown else "; no program to show it was found, open it yourself"))


def _draw(row: Mapping[str, Any], evidence: Evidence | None) -> Image.Image:
    prediction = row["path"], _title(row), row["probabilities"]
    return draw_prediction(*prediction) if evidence is None else draw_explanation(*prediction, evidence)


def _title(row: Mapping[str, Any]) -> str:
    far = ", out-of-distribution" if row["out_of_distribution"] else ""
    return console.clean(f"{row['label']}, {100 * row['probability']:.1f} %{far}: {os.path.basename(row['path'])}")


def _stacked(drawings: Sequence[Image.Image]) -> Image.Image:
    """Return drawings one below the other, on the colour of the first one's corner."""
    sheet = Image.new(
        "RGB",
        (max(each.width for each in drawings), sum(each.height for each in drawings)),
        drawings[0].getpixel((0, 0)),
    )
    top = 0
    for drawing in drawings:
        sheet.paste(drawing, (0, top))
        top += drawing.height
    return sheet


def _has_screen() -> bool:
    """Return whether a window can be opened; without a screen, xdg-open would start a browser in the terminal."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _open(path: str) -> bool:
    """Return whether a file could be opened in the system's viewer."""
    if sys.platform == "win32":
        os.startfile(path)
        return True
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    try:
        viewer = subprocess.Popen([opener, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return viewer.wait(VIEWER_SECONDS) == 0
    except subprocess.TimeoutExpired:
        return True  # it ends with the viewer
    except OSError:
        return False
