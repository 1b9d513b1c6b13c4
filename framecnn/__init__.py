"""framecnn: classify movie frames on an ordinary CPU, and see why."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ActivationLayer": "layers",
    "BatchLoader": "data",
    "BatchNormLayer": "layers",
    "ConvLayer": "layers",
    "DataError": "errors",
    "DenseLayer": "layers",
    "DownsamplingLayer": "layers",
    "DropoutLayer": "layers",
    "FilterBankLayer": "layers",
    "FlatteningLayer": "layers",
    "FormatError": "errors",
    "FrameClassifier": "estimators",
    "FrameFeatures": "estimators",
    "FrameFolder": "data",
    "InputLayer": "layers",
    "KMeansClassifier": "estimators",
    "Layer": "layers",
    "MissingExtraError": "errors",
    "PoolingLayer": "layers",
    "Sequential": "networks",
    "SettingError": "errors",
    "ShapeError": "errors",
    "get_num_threads": "thread_count",
    "load": "serialization",
    "num_threads": "thread_count",
    "save": "serialization",
    "set_num_threads": "thread_count",
}

__all__ = sorted(["__version__", *_HOMES])


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that ``import framecnn`` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'framecnn' has no attribute {name!r}")
    return getattr(import_module(f"framecnn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
