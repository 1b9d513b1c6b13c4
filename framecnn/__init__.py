"""framecnn: classify movie frames on an ordinary CPU, and see why."""

from importlib import import_module

TYPE_CHECKING = False  # mypy reads it as true; `python -m framecnn` would import typing from the working directory
if TYPE_CHECKING:  # else mypy would take every name for Any
    from framecnn import comparison as comparison
    from framecnn import data as data
    from framecnn import distributed as distributed
    from framecnn import estimators as estimators
    from framecnn import evaluation as evaluation
    from framecnn import interop as interop
    from framecnn import layers as layers
    from framecnn import networks as networks
    from framecnn import report as report
    from framecnn import testing as testing
    from framecnn import training as training
    from framecnn.data import BatchLoader as BatchLoader
    from framecnn.data import FrameFolder as FrameFolder
    from framecnn.data import Labels as Labels
    from framecnn.errors import DataError as DataError
    from framecnn.errors import FormatError as FormatError
    from framecnn.errors import MachineError as MachineError
    from framecnn.errors import MissingExtraError as MissingExtraError
    from framecnn.errors import SettingError as SettingError
    from framecnn.errors import ShapeError as ShapeError
    from framecnn.estimators import FrameClassifier as FrameClassifier
    from framecnn.estimators import FrameFeatures as FrameFeatures
    from framecnn.estimators import KMeansClassifier as KMeansClassifier
    from framecnn.layers import ActivationLayer as ActivationLayer
    from framecnn.layers import BatchNormLayer as BatchNormLayer
    from framecnn.layers import ConvLayer as ConvLayer
    from framecnn.layers import DenseLayer as DenseLayer
    from framecnn.layers import DownsamplingLayer as DownsamplingLayer
    from framecnn.layers import DropoutLayer as DropoutLayer
    from framecnn.layers import FilterBankLayer as FilterBankLayer
    from framecnn.layers import FlatteningLayer as FlatteningLayer
    from framecnn.layers import InputLayer as InputLayer
    from framecnn.layers import Layer as Layer
    from framecnn.layers import PaddingLayer as PaddingLayer
    from framecnn.layers import ParallelLayer as ParallelLayer
    from framecnn.layers import PoolingLayer as PoolingLayer
    from framecnn.layers import ResizingLayer as ResizingLayer
    from framecnn.layers import ScalingLayer as ScalingLayer
    from framecnn.memory import working_memory as working_memory
    from framecnn.networks import Sequential as Sequential
    from framecnn.serialization import load as load
    from framecnn.serialization import save as save
    from framecnn.thread_count import get_num_threads as get_num_threads
    from framecnn.thread_count import num_threads as num_threads
    from framecnn.thread_count import set_num_threads as set_num_threads
    from framecnn.version import __version__ as __version__

_HOMES = {
    "__version__": "version",
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
    "Labels": "data",
    "Layer": "layers",
    "MachineError": "errors",
    "MissingExtraError": "errors",
    "PaddingLayer": "layers",
    "ParallelLayer": "layers",
    "PoolingLayer": "layers",
    "ResizingLayer": "layers",
    "ScalingLayer": "layers",
    "Sequential": "networks",
    "SettingError": "errors",
    "ShapeError": "errors",
    "get_num_threads": "thread_count",
    "load": "serialization",
    "num_threads": "thread_count",
    "save": "serialization",
    "set_num_threads": "thread_count",
    "working_memory": "memory",
}

__all__ = sorted(_HOMES)

_MODULES = (
    "comparison",
    "data",
    "distributed",
    "estimators",
    "evaluation",
    "interop",
    "layers",
    "networks",
    "report",
    "testing",
    "training",
)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load a public name or module when it is first asked for, so that ``import framecnn`` stays quick."""
        if name in _MODULES:
            return import_module(f"framecnn.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'framecnn' has no attribute {name!r}")
        return getattr(import_module(f"framecnn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, *_MODULES])
