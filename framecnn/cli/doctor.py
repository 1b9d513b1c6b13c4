"""``framecnn doctor``: what this installation has, what it lacks, and how to get it."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from framecnn.cli import console

__all__ = ["cpu_name", "doctor"]

_MAIN = ("numpy", "numba", "scikit-learn", "pillow")
_MADE_FOR_CONTRIBUTORS = ("dev", "bench")


def doctor() -> None:
    """Say what is installed, what is missing and how to install it, and where compiled kernels are kept."""
    console.table(list(_installation()) + list(_machine()))
    extras = list(_extras())
    if extras:
        console.say()
        console.table(extras, head=("extra", "brings", "missing", "to install"))


def _installation() -> Iterator[tuple[str, str]]:
    yield "framecnn", _version("framecnn") or "not installed; run: pip install ."
    yield "Python", f"{platform.python_version()} ({platform.platform()})"
    for package in _MAIN:
        yield package, _version(package) or f"missing; run: pip install {package}"


def _machine() -> Iterator[tuple[str, str]]:
    from framecnn.kernels.jit import cache_directory, current_isa, n_compiled
    from framecnn.thread_count import get_num_threads

    yield "CPU", f"{cpu_name()} ({current_isa()} kernels)"
    yield "threads", f"{get_num_threads()} of {os.cpu_count()} cores (FRAMECNN_NUM_THREADS changes it)"
    cache = cache_directory()
    if cache is None:
        yield (
            "kernel cache",
            "none that is private and writable: kernels are compiled at every start; set XDG_CACHE_HOME",
        )
    else:
        yield "kernel cache", f"{cache} (writable, {n_compiled()} kernels; framecnn warmup compiles all)"


def _extras() -> Iterator[tuple[str, str, str, str]]:
    """Compare what the installed framecnn declares with what is there."""
    try:
        requirements = metadata.requires("framecnn") or []
    except metadata.PackageNotFoundError:
        return
    extras: dict[str, list[str]] = {}
    for requirement in requirements:
        match = re.fullmatch(r"""([\w.-]+)[^;]*;.*\bextra\s*==\s*['"]([\w.-]+)['"].*""", requirement)
        if match and match[1] != "framecnn" and match[2] not in _MADE_FOR_CONTRIBUTORS and _is_meant(requirement):
            extras.setdefault(match[2], []).append(match[1])
    for extra, packages in extras.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        yield (
            extra,
            ", ".join(f"{package} {version}" for package, version in versions.items() if version),
            ", ".join(missing) or "nothing",
            f"pip install 'framecnn[{extra}]'" if missing else "",
        )


def _is_meant(requirement: str) -> bool:
    """Whether a requirement is one of this operating system."""
    marker = re.search(r"""sys_platform\s*(==|!=)\s*['"](\w+)['"]""", requirement)
    return marker is None or (marker[2] == sys.platform) == (marker[1] == "==")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Return what the machine calls its processor."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        match = re.search(
            r"^model name\s*:\s*(.+)$", information.read_text(encoding="utf-8", errors="replace"), re.MULTILINE
        )
        if match:
            return match[1]
    return platform.processor() or platform.machine()
