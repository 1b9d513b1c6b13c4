"""``framecnn evaluate``: how good a model is on a folder of frames it has not seen."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from framecnn.cli import console
from framecnn.cli.workflow import Stages, scan_folder, Watched, write_json
from framecnn.errors import DataError

__all__ = ["evaluate", "load_classifier"]


def load_classifier(path: Path) -> Any:
    """Load a classifier of colour frames; a DataError for any other model."""
    from framecnn import FrameClassifier, load

    model = load(path)
    shape = model.features_.frame_shape_ if isinstance(model, FrameClassifier) else None
    if shape is None or shape[2] != 3:
        raise DataError(
            f"{path.name}: expected a classifier of colour frames, got {model!r}; train one: framecnn train"
        )
    return model


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model that framecnn train wrote.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with a folder of frames per class.")],
    groups: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Which frames belong together.", show_default="FOLDER/frames.csv if there"),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")] = None,
    max_bad: Annotated[float, typer.Option(min=0, max=100, help="Unusable files allowed, in percent.")] = 5.0,
) -> None:
    """Say how many frames of a folder a model labels as their folders do, with an interval and a confusion matrix."""
    from framecnn.evaluation import evaluate as measure

    classifier = load_classifier(model)
    stages = Stages()
    frames = scan_folder(stages, folder, groups, classifier.features_.frame_shape_[:2], max_bad)
    known = [str(label) for label in classifier.classes_]
    unknown = [name for name in frames.classes if name not in known]
    names = np.array(frames.classes)[frames.targets]
    rows = np.flatnonzero(np.isin(names, known))
    if unknown:
        console.warn(f"the model knows no class {', '.join(unknown)}: {len(names) - len(rows)} frames are left out")
    if not len(rows):
        raise DataError(f"{folder.name}: expected frames of the classes {', '.join(known)}, got none; check the folder")
    targets = np.array([known.index(name) for name in names[rows]])
    with stages("evaluate", "evaluating") as tell:
        pixels = Watched(_Rows(frames.frames, rows), tell, len(rows))
        result = measure(classifier, pixels, targets, frames.groups[rows], known, folder.resolve().name)
    console.say()
    console.say(f"accuracy {result.describe()}")
    console.say()
    console.table(
        [
            (label, *counts, "-" if np.isnan(recall) else f"{100 * recall:.1f} %")
            for label, counts, recall in zip(known, result.confusion.tolist(), result.recall, strict=True)
        ],
        head=("true class", *known, "found"),
    )
    if json is not None:
        write_json(json, result.to_dict())


class _Rows:
    """Some rows of lazily decoded frames."""

    def __init__(self, frames: Any, rows: Any):
        self._frames, self._rows = frames, rows
        self.shape, self.dtype, self.ndim = (len(rows), *frames.shape[1:]), frames.dtype, frames.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> Any:
        return self._frames[self._rows[key]]
