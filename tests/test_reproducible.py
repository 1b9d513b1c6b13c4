"""Same seed, same bits: whatever the threads, the batches, the process and the order of files on the disk."""

import hashlib
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from commands import write_frames
from textures import textures

import framecnn
from framecnn import FrameClassifier, FrameFolder, load

RUN = """
import contextlib, sys
from framecnn.estimators import features
from framecnn.cli import main
films, out = sys.argv[1:]
features.FILTERS, features.PATCHES = 40, 20_000
with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
    main(["train", films, "-o", out, "--size", "48x64"])
main(["predict", out, films, "--json", "-"])
"""


def digest(*arrays):
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array))
    return total.hexdigest()


@pytest.fixture(scope="module")
def classifier():
    frames, labels, groups = textures(6, (50, 70, 3))
    return FrameClassifier(n_filters=60, random_state=0).fit(frames, labels, groups)


@pytest.fixture(scope="module")
def frames():
    return textures(12, (50, 70, 3), seed=1)[0][:70]


@pytest.fixture(scope="module")
def expected(classifier, frames):
    return digest(classifier.predict_proba(frames), classifier.transform(frames))


def train_and_predict(films, out, n_threads):
    """Train and predict in a new process, and return the bytes of the model and its output for the training frames."""
    out.parent.mkdir()
    command = [sys.executable, "-c", RUN, films, out]
    environment = os.environ | {"FRAMECNN_NUM_THREADS": str(n_threads)}
    run = subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr.decode()
    return out.read_bytes(), json.loads(run.stdout) | {"model": ""}


def test_model_and_predictions_have_the_same_bits_with_any_number_of_threads(tmp_path):
    films = write_frames(tmp_path / "films", n_groups=6)
    one, two = (train_and_predict(films, tmp_path / str(n) / "model.safetensors", n) for n in (1, 2))
    assert one == two


class Entries(list):
    """Entries of a folder that can be closed, as those of os.scandir."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def test_the_order_of_files_on_the_disk_changes_nothing(tmp_path, monkeypatch):
    films = write_frames(tmp_path / "films", n_groups=4)
    scandir = os.scandir
    samples, models = [], []
    for is_reversed in (False, True):

        def ordered(path, is_reversed=is_reversed):
            return Entries(sorted(scandir(path), key=lambda entry: entry.name, reverse=is_reversed))

        monkeypatch.setattr(os, "scandir", ordered)
        train = FrameFolder(films, size=(24, 32)).split(seed=0)[0]
        samples.append(train.samples)
        FrameClassifier(n_filters=12, random_state=0).fit(train.frames, train.targets, train.groups).save(
            tmp_path / "m"
        )
        models.append((tmp_path / "m").read_bytes())
    assert samples[0] == samples[1]
    assert models[0] == models[1]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_frame_has_the_same_bits_in_any_batch(classifier, frames, expected, size):
    batches = [frames[start : start + size] for start in range(0, len(frames), size)]
    answers = [(classifier.predict_proba(batch), classifier.transform(batch)) for batch in batches]
    assert digest(*map(np.concatenate, zip(*answers, strict=True))) == expected


def test_order_and_neighbours_of_a_frame_change_nothing(classifier, frames, expected):
    order = np.random.default_rng(0).permutation(len(frames))
    back = np.argsort(order)
    answers = classifier.predict_proba(frames[order])[back], classifier.transform(frames[order])[back]
    assert digest(*answers) == expected


@pytest.mark.parametrize("n", [1, 2, 5])
def test_threads_change_no_bit(classifier, frames, expected, n):
    with framecnn.num_threads(n):
        assert digest(classifier.predict_proba(frames), classifier.transform(frames)) == expected


def test_four_threads_at_once_give_the_same_bits(classifier, frames, expected):
    found = []

    def predict():
        found.append(digest(classifier.predict_proba(frames), classifier.transform(frames)))

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_fitting_in_a_thread_gives_the_same_model(classifier, tmp_path):
    frames, labels, groups = textures(6, (50, 70, 3))
    again = FrameClassifier(n_filters=60, random_state=0)
    thread = threading.Thread(target=again.fit, args=(frames, labels, groups))
    thread.start()
    thread.join()
    classifier.save(tmp_path / "a")
    again.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gives_the_same_bits(classifier, frames, expected):
    assert digest(classifier.predict_proba(frames), classifier.transform(frames)) == expected
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, digest(classifier.predict_proba(frames), classifier.transform(frames)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == expected
    assert os.waitpid(child, 0)[1] == 0


def test_a_loaded_model_gives_the_same_bits(classifier, frames, expected, tmp_path):
    classifier.save(tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert digest(loaded.predict_proba(frames), loaded.transform(frames)) == expected


def test_another_seed_gives_another_model(classifier, frames):
    x, y, groups = textures(6, (50, 70, 3))
    other = FrameClassifier(n_filters=60, random_state=1).fit(x, y, groups)
    assert digest(other.transform(frames)) != digest(classifier.transform(frames))
