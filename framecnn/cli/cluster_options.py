"""The options of commands that can run on a Dask cluster."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from framecnn.cli import console

__all__ = ["IN_THIS_PROCESS", "AllowMixed", "Cluster", "Scheduler", "Workers"]

TITLE = "Cluster"

Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Start N processes on this machine that share the work (extra dask).",
        rich_help_panel=TITLE,
        show_default="this process does it",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the workers of a Dask scheduler, such as tcp://10.0.0.1:8786. They must see the files at the same "
        "paths.",
        rich_help_panel=TITLE,
    ),
]
AllowMixed = Annotated[
    bool,
    typer.Option(
        "--allow-mixed",
        help="Use workers of other instruction sets or versions, too; results then have other bits.",
        rich_help_panel=TITLE,
    ),
]


@dataclass(frozen=True)
class Cluster:
    """Where a command runs: in its own process, or on workers that it starts or that a scheduler has."""

    workers: int | None = None
    scheduler: str | None = None
    allow_mixed: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.scheduler is not None:
            raise typer.BadParameter("expected --workers or --scheduler, got both")
        if self.allow_mixed and self.workers is None and self.scheduler is None:
            raise typer.BadParameter("expected --allow-mixed with --workers or --scheduler, got --allow-mixed alone")

    @contextmanager
    def used(self) -> Iterator[None]:
        """Run the work inside the ``with`` block there."""
        with ExitStack() as stack:
            if self.workers is not None or self.scheduler is not None:
                from framecnn.distributed import connected, local_cluster, run_on

                with console.progress("connecting to workers"):
                    workers = connected(self.scheduler) if self.scheduler else local_cluster(self.workers or 1)
                    client = stack.enter_context(workers)
                    stack.enter_context(run_on(client, allow_mixed=self.allow_mixed))
            yield


IN_THIS_PROCESS = Cluster()
