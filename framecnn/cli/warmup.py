"""``framecnn warmup``: compile all kernels before they are needed."""

import time

from framecnn.cli import console

__all__ = ["warmup"]


def warmup() -> None:
    """Compile all kernels, once per machine and version, so that later runs start without a delay."""
    from framecnn.kernels.jit import cache_directory
    from framecnn.networks.warmup import warm_up

    start = time.perf_counter()
    with console.progress("compiling kernels"):
        kept = warm_up()
    seconds = time.perf_counter() - start
    if cache_directory() is None:
        console.warn("no private and writable folder for compiled kernels was found; set XDG_CACHE_HOME")
    console.say(f"{kept} kernels ready; {seconds:.1f} s")
