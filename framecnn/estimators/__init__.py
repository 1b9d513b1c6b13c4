"""scikit-learn estimators: features of frames, the k-means head, and both together; explanations of predictions."""

from framecnn.estimators.classifier import FrameClassifier
from framecnn.estimators.explanation import Explanation, explain, filter_contributions
from framecnn.estimators.features import FrameFeatures
from framecnn.estimators.head import KMeansClassifier
from framecnn.estimators.joined_features import JoinedFeatures
from framecnn.estimators.network_features import NetworkFeatures
from framecnn.estimators.pretrained_features import PretrainedFeatures
from framecnn.estimators.trained_features import TrainedFeatures

__all__ = [
    "Explanation",
    "FrameClassifier",
    "FrameFeatures",
    "JoinedFeatures",
    "KMeansClassifier",
    "NetworkFeatures",
    "PretrainedFeatures",
    "TrainedFeatures",
    "explain",
    "filter_contributions",
]
