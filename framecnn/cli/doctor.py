"""``framecnn doctor``: show what is installed, what is missing, and how to install it."""

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import metadata

from packaging.requirements import Requirement

from framecnn.cli import console
from framecnn.cli.environment import cpu_name, installed_version
from framecnn.cli.options import Figures
from framecnn.cli.outputs import check_outputs, check_replaced, json_mark, write_json

__all__ = ["doctor", "extras"]

_MAIN = ("numpy", "numba", "scikit-learn", "pillow")
_FOR_CONTRIBUTORS = ("dev", "bench")
COLUMNS = ("extra", "installed", "missing", "to install")


def doctor(json: Figures = None) -> None:
    """Show what is installed, what is missing and how to install it, and where compiled kernels are cached."""
    (json,) = check_outputs([json], [])
    check_replaced({json: json_mark("doctor")})
    facts, rows = [*_installation(), *_machine()], []
    console.table(facts)
    with suppress(metadata.PackageNotFoundError):
        names = metadata.metadata("framecnn").get_all("Provides-Extra") or []
        rows = list(_extras(extras(names, metadata.requires("framecnn") or [])))
        console.say()
        console.table(rows, head=COLUMNS)
    found = {"facts": dict(facts), "extras": [dict(zip(COLUMNS, row, strict=True)) for row in rows]}
    write_json(json, "doctor", found)


def _installation() -> Iterator[tuple[str, str]]:
    yield "framecnn", installed_version("framecnn") or "not installed; run: pip install ."
    yield "Python", f"{platform.python_version()} ({platform.platform()})"
    for package in _MAIN:
        yield package, installed_version(package) or f"missing; run: pip install {package}"


def _machine() -> Iterator[tuple[str, str]]:
    from framecnn.kernels.jit import cache_directory, current_isa, n_compiled
    from framecnn.thread_count import get_num_threads

    yield "CPU", f"{cpu_name()} ({current_isa()} kernels)"
    yield "threads", f"{get_num_threads()} of {os.cpu_count()} cores (FRAMECNN_NUM_THREADS changes it)"
    cache = cache_directory()
    if cache is None:
        yield (
            "kernel cache",
            "no private and writable folder: kernels are compiled at every start; set XDG_CACHE_HOME",
        )
    else:
        yield (
            "kernel cache",
            f"{cache} (writable; {n_compiled()} kernels are compiled, framecnn warmup compiles the others)",
        )


def extras(
    names: Sequence[str], requirements: Sequence[str], system: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Return the packages of each extra for users, including the packages of the extras that it names.

    Parameters
    ----------
    names : sequence of str
        The extras that a distribution declares.
    requirements : sequence of str
        Its requirements, as in its metadata.
    system : mapping of str to str, optional
        Values of environment markers, such as ``sys_platform``, that replace the values of this system.

    Returns
    -------
    dict of str to list of str

    Examples
    --------
    >>> extras(["video"], ["numpy", "av>=17.0; extra == 'video'", "pywin32; sys_platform == 'x' and extra == 'video'"])
    {'video': ['av']}
    """
    parsed = [Requirement(line) for line in requirements]

    def packages(extra: str) -> Iterator[str]:
        for entry in parsed:
            if entry.marker is None or entry.marker.evaluate({**(system or {}), "extra": ""}):
                continue
            if entry.marker.evaluate({**(system or {}), "extra": extra}):
                if entry.name == "framecnn":
                    for other in sorted(entry.extras):
                        yield from packages(other)
                else:
                    yield entry.name

    found = {extra: list(packages(extra)) for extra in names if extra not in _FOR_CONTRIBUTORS}
    return {extra: own for extra, own in found.items() if own}


def _extras(found: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, str, str]]:
    for extra, packages in found.items():
        versions = {package: installed_version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        yield (
            extra,
            ", ".join(f"{package} {version}" for package, version in versions.items() if version),
            ", ".join(missing) or "nothing",
            f"pip install 'framecnn[{extra}]'" if missing else "",
        )
