"""Dask arrays of frames: predictions stay lazy, and have the bits of those of arrays."""

import numpy as np
import pytest
from executors import Elsewhere, sha256_of_model
from textures import textures

from framecnn import FrameClassifier, FrameFeatures, ShapeError, working_memory
from framecnn.execution import Executor, executing_on

da = pytest.importorskip("dask.array", reason="needs the extra dask")


@pytest.fixture(scope="module")
def fitted():
    frames, labels, groups = textures(n_groups=10, shape=(8, 12, 3))
    classifier = FrameClassifier(features="learned", n_filters=8, random_state=0).fit(frames, labels, groups)
    return frames, classifier, FrameFeatures(n_filters=8, random_state=0).fit(frames)


@pytest.mark.parametrize("chunks", [(7, 8, 12, 3), (60, 5, 12, 1), 4])
def test_results_of_a_dask_array_are_lazy_and_have_the_bits_of_an_array(fitted, chunks):
    frames, classifier, features = fitted
    lazy = da.from_array(frames, chunks=chunks)
    methods = [classifier.predict, classifier.predict_proba, classifier.transform, features.transform]
    for method in methods:
        found, expected = method(lazy), method(frames)
        assert isinstance(found, da.Array)
        assert (found.shape, found.dtype, found.chunks[0]) == (expected.shape, expected.dtype, lazy.chunks[0])
        np.testing.assert_array_equal(found.compute(scheduler="synchronous"), expected)


def test_flat_rows_and_unknown_chunks_are_mapped_too(fitted):
    frames, classifier, _ = fitted
    rows = da.from_array(frames, chunks=(16, 8, 12, 3))
    bright = rows[rows.mean(axis=(1, 2, 3)) > 128]
    expected = classifier.predict(frames[frames.mean(axis=(1, 2, 3)) > 128])
    np.testing.assert_array_equal(classifier.predict(bright).compute(scheduler="synchronous"), expected)
    flat = frames.reshape(len(frames), -1)
    of_rows = FrameFeatures((8, 12, 3), n_filters=8, random_state=0).fit(flat)
    found = of_rows.transform(da.from_array(flat, chunks=(16, 100)))
    np.testing.assert_array_equal(found.compute(scheduler="synchronous"), of_rows.transform(flat))


def test_blocks_from_which_a_mask_takes_all_rows_are_predicted(fitted):
    frames, classifier, features = fitted
    wanted = np.arange(len(frames)) >= 20
    lazy = da.from_array(frames, chunks=(10, 8, 12, 3))[da.from_array(wanted, chunks=10)]
    for method in (classifier.predict, classifier.predict_proba, features.transform):
        np.testing.assert_array_equal(method(lazy).compute(scheduler="synchronous"), method(frames[wanted]))


def test_a_dask_array_is_predicted_by_the_model_of_the_moment_of_the_call(fitted):
    frames, _, _ = fitted
    labels = np.repeat(["a", "b"], len(frames) // 2)
    classifier = FrameClassifier(features="learned", n_filters=8, random_state=0).fit(frames, labels)
    expected, found = classifier.predict(frames), classifier.predict(da.from_array(frames, chunks=16))
    classifier.fit(frames, labels[::-1])
    np.testing.assert_array_equal(found.compute(scheduler="synchronous"), expected)


def test_frames_of_another_shape_are_refused_at_once(fitted):
    with pytest.raises(ShapeError, match="expected frames of shape"):
        fitted[1].predict(da.zeros((4, 9, 12, 3), dtype=np.uint8))


def test_a_model_is_fitted_to_a_dask_array_of_frames_too(fitted, tmp_path):
    frames = fitted[0]
    labels = np.repeat(["a", "b"], len(frames) // 2)
    found = set()
    for executor, given in ((Executor(), frames), (Elsewhere(), da.from_array(frames, chunks=16))):
        with executing_on(executor), working_memory(cache_dir=tmp_path / type(executor).__name__):
            classifier = FrameClassifier(features="learned", n_filters=8, random_state=0).fit(given, labels)
        found.add(sha256_of_model(classifier, tmp_path))
    assert len(found) == 1
