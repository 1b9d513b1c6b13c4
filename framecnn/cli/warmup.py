"""``framecnn warmup``: compile all kernels before they are needed."""

import time

from framecnn.cli import console
from framecnn.cli.options import Figures
from framecnn.cli.outputs import check_outputs, check_replaced, json_mark, write_json

__all__ = ["warmup"]


def warmup(json: Figures = None) -> None:
    """Compile all kernels, once per machine and version, so that later runs start without a delay."""
    from framecnn.kernels.jit import cache_directory
    from framecnn.networks.warmup import warm_up

    (json,) = check_outputs([json], [])
    check_replaced({json: json_mark("warmup")})
    start = time.perf_counter()
    with console.progress("compiling kernels"):
        kept = warm_up()
    seconds = time.perf_counter() - start
    if cache_directory() is None:
        console.warn("no private and writable folder for compiled kernels was found; set XDG_CACHE_HOME")
    console.say(f"{kept} kernels ready; {seconds:.1f} s")
    write_json(json, "warmup", {"kernels": kept, "seconds": round(seconds, 3)})
