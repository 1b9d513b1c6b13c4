"""``framecnn scan``: list the contents of a folder of frames."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from framecnn.cli import console
from framecnn.cli.cluster_options import AllowMixed, Cluster, Scheduler, Workers
from framecnn.cli.folder_options import SplitOptions, describe_source, reads_folder
from framecnn.cli.options import OUTPUT, Figures, Size
from framecnn.cli.outputs import OutputSet
from framecnn.cli.workflow import Stages, scan_folder, warn_of_split
from framecnn.data import DEFAULT_SIZE
from framecnn.data.manifest import MANIFEST_MARK
from framecnn.data.split import PARTS

__all__ = ["scan"]

SHOWN_SKIPS = 10


@reads_folder
def scan(
    source: SplitOptions,
    size: Size = None,
    json: Figures = None,
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all files, used or skipped, as CSV.", rich_help_panel=OUTPUT),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """List the classes, groups and unusable files of a folder. Every file is decoded; none is changed.

    Without a table of groups, the groups depend on --size: use the size of the training.
    """
    outputs = OutputSet("scan", json, source.inputs, manifest=(manifest, MANIFEST_MARK))
    with outputs.held(), Cluster(workers, scheduler, allow_mixed).used():
        _scan(source, size, outputs)


def _scan(source: SplitOptions, size: tuple[int, int] | None, outputs: OutputSet) -> None:
    frames = scan_folder(Stages(), source, size or DEFAULT_SIZE, max_bad=100)
    can_split = PARTS[0] in (frames.given_parts or PARTS)
    warnings = warn_of_split(frames, frames.split()[0] if can_split else frames.select(frames.unseen))
    owns = [frames.targets == number for number in range(len(frames.classes))]
    rows = [
        (name, int(own.sum()), len(np.unique(frames.groups[own])))
        for name, own in zip(frames.classes, owns, strict=True)
    ]
    console.say()
    console.table(rows, head=("class", "frames", "groups"))
    if frames.skipped:
        console.say()
        first, manifest = frames.skipped[:SHOWN_SKIPS], outputs.paths["manifest"]
        console.table([(skip.path, skip.reason, skip.detail) for skip in first], head=("skipped", "reason", ""))
        if (rest := len(frames.skipped) - len(first)) and manifest is None:
            console.say(f"and {rest:,} more; --manifest FILE lists all")
        elif rest:
            console.say(f"and {rest:,} more, in {manifest}")
    if frames.notes:
        console.say()
        console.table(frames.notes, head=("used", "note"))
    figures = {
        "folder": frames.root.name,
        "size": list(frames.size),
        "found": frames.found,
        "used": len(frames),
        "classes": [dict(zip(("class", "frames", "groups"), row, strict=True)) for row in rows],
        **describe_source(frames),
        "skipped": [vars(skip) for skip in frames.skipped],
        "notes": [{"path": path, "note": note} for path, note in frames.notes],
        "warnings": warnings,
    }
    outputs.write(figures, manifest=frames.write_manifest)
    if outputs.files:
        console.say()
        console.table([("" if number else "wrote", path) for number, path in enumerate(outputs.files)])
