"""Layers, one in each file. Each is a frozen dataclass of settings that can be built and called on its own."""

from framecnn.layers.activation import ActivationLayer
from framecnn.layers.base import Backward, Case, Layer, Param
from framecnn.layers.conv import ConvLayer
from framecnn.layers.dense import DenseLayer
from framecnn.layers.downsampling import DownsamplingLayer
from framecnn.layers.dropout import DropoutLayer
from framecnn.layers.filter_bank import FilterBankLayer
from framecnn.layers.flattening import FlatteningLayer
from framecnn.layers.input import InputLayer
from framecnn.layers.normalization import BatchNormLayer
from framecnn.layers.padding import PaddingLayer
from framecnn.layers.parallel import ParallelLayer
from framecnn.layers.pooling import PoolingLayer
from framecnn.layers.resizing import ResizingLayer
from framecnn.layers.scaling import ScalingLayer

__all__ = [
    "ActivationLayer",
    "Backward",
    "BatchNormLayer",
    "Case",
    "ConvLayer",
    "DenseLayer",
    "DownsamplingLayer",
    "DropoutLayer",
    "FilterBankLayer",
    "FlatteningLayer",
    "InputLayer",
    "Layer",
    "PaddingLayer",
    "ParallelLayer",
    "Param",
    "PoolingLayer",
    "ResizingLayer",
    "ScalingLayer",
]
