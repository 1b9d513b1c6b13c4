"""``framecnn warmup``: compile the kernels before they are needed."""

import time

from framecnn.cli import console

__all__ = ["warmup"]


def warmup() -> None:
    """Compile all kernels now, once per machine and version, so that the next run starts at once."""
    from framecnn.kernels.jit import cache_directory
    from framecnn.networks.warmup import warm_up

    begun = time.perf_counter()
    with console.progress("compiling kernels"):
        kept = warm_up()
    seconds = time.perf_counter() - begun
    if cache_directory() is None:
        console.warn("no folder for compiled kernels is private and writable; set XDG_CACHE_HOME")
    console.say(f"{kept} kernels ready; {seconds:.1f} s")
