"""Predictions of picture files in Python: the labels that the decoded frames have, and one clear error."""

import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError
from textures import textures

from framecnn import DataError, FrameClassifier, ShapeError
from framecnn.data import decode
from framecnn.data.picture_files import PictureFiles

FRAMES, LABELS, GROUPS = textures(4, (16, 20, 3))


@pytest.fixture(scope="module")
def classifier():
    return FrameClassifier(n_filters=8, random_state=0).fit(FRAMES, LABELS, GROUPS)


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / f"{number}.jpg" for number in range(5)]
    for path, frame in zip(found, FRAMES, strict=False):
        Image.fromarray(frame).resize((64, 48)).save(path)
    return found


def test_files_are_labelled_as_their_decoded_frames_are(classifier, paths):
    frames = np.stack([decode(path, (16, 20)).pixels for path in paths])
    for files in (paths, map(str, paths), tuple(paths)):
        assert classifier.predict_files(files).tolist() == classifier.predict(frames).tolist()
    assert classifier.predict_proba_files(paths).tolist() == classifier.predict_proba(frames).tolist()


def test_a_file_that_cannot_be_read_is_named(classifier, paths, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    for name, reason in (("text.jpg", "not a JPEG, "), ("gone.jpg", "there is no such file"), (".", "a folder")):
        path = str(tmp_path / name)
        with pytest.raises(DataError, match=rf"pictures: expected files .*, got '{path}' \({reason}.*\); leave it out"):
            classifier.predict_files([*paths, path])


def test_one_path_and_no_path_are_refused(classifier, paths):
    with pytest.raises(TypeError, match=r"expected a list of paths, got one path \('.*0.jpg'\); pass it in a list"):
        classifier.predict_files(paths[0])
    with pytest.raises(ShapeError, match="expected at least one frame"):
        classifier.predict_files([])


def test_a_classifier_of_other_input_and_one_that_is_not_fitted_are_refused(paths):
    with pytest.raises(NotFittedError):
        FrameClassifier().predict_files(paths)
    grey = FrameClassifier(n_filters=4, random_state=0).fit(FRAMES[..., :1], LABELS)
    with pytest.raises(ShapeError, match=r"predict_proba_files: expected .* 8-bit colour frames, got .* 1 channels"):
        grey.predict_proba_files(paths)


def test_pictures_are_an_array_of_frames(paths):
    pictures = PictureFiles(paths, (16, 20))
    assert repr(pictures) == "PictureFiles(shape=(5, 16, 20, 3))"
    assert (pictures.ndim, pictures.dtype) == (4, np.uint8)
    np.testing.assert_array_equal(pictures[[3, 0]], np.stack([decode(paths[i], (16, 20)).pixels for i in (3, 0)]))
