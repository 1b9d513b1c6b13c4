"""Files of the current format that an earlier commit wrote are read, and predict what they predicted then."""

import json
import shutil

import numpy as np
import pytest
from make_fixtures import FIXTURES, stripes, train
from spreading import exact_and_spread

from framecnn import FormatError, load
from framecnn.storage.container import FORMAT

CURRENT = FIXTURES / f"format_{FORMAT}"
FRAMES, LABELS = stripes()


@pytest.fixture(scope="module")
def expected():
    return json.loads((CURRENT / "expected.json").read_text())


def test_a_network_of_integers_gives_the_same_bits(expected):
    assert load(CURRENT / "network.safetensors").predict(FRAMES).tolist() == expected["outputs"]


def test_a_classifier_gives_the_same_labels_and_features(expected):
    """Features may differ by rounding, which depends on the instruction set; both are within its bound."""
    classifier = load(CURRENT / "classifier.safetensors")
    assert classifier.predict(FRAMES).tolist() == expected["labels"] == LABELS.tolist()
    (backbone,) = classifier.features_.networks_
    exact, bound = exact_and_spread(backbone.layers, FRAMES)
    for features in (backbone.predict(FRAMES), np.array(expected["features"])):
        assert (np.abs(features - exact) <= bound).all()


def test_a_run_resumes_from_a_checkpoint(expected, tmp_path):
    path = shutil.copy(CURRENT / "checkpoint.safetensors", tmp_path)
    _, history = train(checkpoint=path, resume=True)
    assert history.loss == expected["losses"]
    assert history.seconds == [None, None]


def test_files_of_an_older_format_are_refused_with_one_line():
    for path in FIXTURES.glob("*/*.safetensors"):
        if path.parent != CURRENT:
            with pytest.raises(
                FormatError, match=rf"expected format {FORMAT}, got format \d of an older framecnn; train"
            ):
                load(path)
