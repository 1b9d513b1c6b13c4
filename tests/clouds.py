"""Small feature vectors around one point for each class, and heads to fit to them."""

import numpy as np
import pytest

from framecnn import KMeansClassifier

HEADS = [
    KMeansClassifier(random_state=0),
    KMeansClassifier(3, random_state=0),
    KMeansClassifier(projection=None, random_state=0),
    KMeansClassifier(2, projection=None, random_state=0),
]
heads = pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.projection}-{head.clusters_per_class}")


def clouds(n_samples=90, n_features=5, spread=0.5, seed=0):
    """Return samples around one point a class, their labels, and groups of up to three samples."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_samples) % 3
    X = 3 * np.eye(3, n_features)[codes] + spread * rng.normal(size=(n_samples, n_features))
    return X, np.array(["cut", "fade", "wipe"])[codes], np.arange(n_samples) // 9 * 3 + codes
