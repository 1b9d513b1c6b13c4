"""Suspected wrong labels are found on out-of-sample probabilities, the most suspicious first."""

import numpy as np
import pytest

from framecnn import KMeansClassifier, ShapeError
from framecnn.evaluation import find_label_errors


def test_flipped_labels_are_found():
    rng = np.random.default_rng(0)
    truth = np.arange(400) % 4
    flipped = rng.choice(400, 20, replace=False)
    labels = truth.copy()
    labels[flipped] = (truth[flipped] + rng.integers(1, 4, 20)) % 4
    features = np.eye(4)[truth] + rng.normal(0, 0.2, (400, 4))
    probabilities = KMeansClassifier(random_state=0).fit(features, labels).held_out_probabilities_
    found = find_label_errors(labels, probabilities)
    assert np.isin(found.rows[:20], flipped).mean() >= 0.85
    assert np.isin(flipped, found.rows).mean() >= 0.8
    hits = np.isin(found.rows, flipped)
    assert (found.suggestions[hits] == truth[found.rows[hits]]).mean() > 0.9


def test_thresholds_are_those_of_confident_learning():
    """Northcutt et al. 2021, equations 1 and 2: the threshold of a class is its mean probability on its own labels."""
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(3, size=60), rng.dirichlet(np.ones(3), 60)
    thresholds = [probabilities[labels == code, code].mean() for code in range(3)]
    expected = []
    for row in range(60):
        above = [code for code in range(3) if probabilities[row, code] >= thresholds[code]]
        best = max(above, key=lambda code: probabilities[row, code]) if above else labels[row]
        if best != labels[row] and best == probabilities[row].argmax():
            expected.append(row)
    found = find_label_errors(labels, probabilities)
    assert sorted(found.rows.tolist()) == expected
    margins = probabilities[found.rows, labels[found.rows]] - probabilities[found.rows, found.suggestions]
    assert (np.diff(margins) >= 0).all()


def test_rows_without_probabilities_and_empty_data_have_no_suspects():
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1], [np.nan, np.nan]])
    assert find_label_errors([0, 1, 1, 1], probabilities).rows.tolist() == [2]
    assert find_label_errors([], np.zeros((0, 2))).rows.size == 0
    assert find_label_errors([0, 0], np.full((2, 2), np.nan)).rows.size == 0
    assert find_label_errors([0, 0], np.ones((2, 1))).rows.size == 0


def test_every_label_needs_its_probabilities():
    with pytest.raises(ShapeError, match=r"one row of probabilities for each of the 2 labels, got shape \(3, 2\)"):
        find_label_errors([0, 1], np.full((3, 2), 0.5))
