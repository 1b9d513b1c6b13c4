"""scikit-learn estimators: features of frames, the k-means head, and both together."""

from framecnn.estimators.classifier import FrameClassifier
from framecnn.estimators.features import FrameFeatures
from framecnn.estimators.head import KMeansClassifier
from framecnn.estimators.trained_features import TrainedFeatures

__all__ = ["FrameClassifier", "FrameFeatures", "KMeansClassifier", "TrainedFeatures"]
