"""The processor and the versions of packages, as in reports and JSON files."""

import platform
import re
import shlex
import sys
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from framecnn.errors import MissingExtraError

__all__ = ["cpu_name", "describe_origin", "installed_version", "missing_extra", "versions"]


def cpu_name(information: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor: on Linux the model name in `information`."""
    if information.exists():
        text = information.read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return match[1]
    return platform.processor() or platform.machine()


def installed_version(package: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def missing_extra(who: str, extra: str, *packages: str) -> MissingExtraError | None:
    """Return the error of the first of the packages that is not installed; none of them is imported."""
    missing = (package for package in packages if find_spec(package) is None)
    return next((MissingExtraError(who, package, extra) for package in missing), None)


def versions(*extras: str) -> dict[str, str]:
    """Return the versions of Python, of framecnn and its dependencies, and of those `extras` that are installed."""
    packages = ("framecnn", "numpy", "numba", "scikit-learn", "pillow", *extras)
    found = {"Python": platform.python_version()} | {name: installed_version(name) for name in packages}
    return {name: version for name, version in found.items() if version is not None}


def describe_origin(model: Path) -> dict[str, str]:
    """Return date, command and model, as a report shows them."""
    program = Path(sys.argv[0]).name.replace("__main__.py", "framecnn")
    command = shlex.join([program, *sys.argv[1:]])
    return {"Date": f"{datetime.now():%Y-%m-%d %H:%M}", "Model": model.name, "Command": command}
