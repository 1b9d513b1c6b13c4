"""The machine of a measurement: its processor, vector instructions, cores, threads, and the versions of packages."""

import os
import platform
import re
from importlib import metadata
from pathlib import Path

from threadpoolctl import threadpool_info

from framecnn import get_num_threads

__all__ = ["describe"]

PACKAGES = (
    *("framecnn", "numpy", "numba", "pillow", "tensorflow-cpu", "tensorflow", "keras", "torch"),
    *("onnx", "onnxruntime", "openvino", "ncnn", "MNN"),
)


def describe():
    """Return the description of this machine, ready for JSON."""
    cpu = cpu_information()
    flags = cpu.get("flags", "").split()
    return {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "cpu_family_and_model": f"{cpu.get('cpu family', '?')}/{cpu.get('model', '?')}",
        "vectors": [name for name in ("avx2", "fma", "avx512f", "avx512_bf16") if name in flags],
        "cores": os.cpu_count(),
        "threads": get_num_threads(),
        "blas": sorted(f"{i['internal_api']} {i.get('architecture', '?')}" for i in threadpool_info()),
        "settings": {
            name: os.environ[name] for name in sorted(os.environ) if name.startswith(("FRAMECNN_", "OPENBLAS_"))
        },
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := version_of(name))},
    }


def cpu_information():
    """Return the entries of the first processor in /proc/cpuinfo, if it exists."""
    file = Path("/proc/cpuinfo")
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    return dict(re.findall(r"^([^\t:]+?)\s*: (.*)$", text.split("\n\n")[0], re.MULTILINE))


def version_of(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
