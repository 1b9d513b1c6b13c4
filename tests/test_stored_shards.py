"""Shards that are kept: in memory, in files, in a cache folder; what is missing or damaged is computed again."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import write_frames
from small_networks import small_pretrained
from textures import Lazy, textures

from framecnn import FrameClassifier, FrameFeatures, FrameFolder, MachineError, num_threads
from framecnn.data import FrameLost
from framecnn.data.shards import SHARD_ROWS, regular_edges
from framecnn.data.stored_shards import ShardStore, StoredShards, size_of_cache
from framecnn.estimators import ridge
from framecnn.memory import working_memory
from framecnn.storage import container

N = 2 * SHARD_ROWS + 100
ROWS = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)


class Counted:
    """Computes the rows of a shard, and counts how often."""

    def __init__(self, rows=ROWS):
        self.rows, self.numbers = rows, []

    def __call__(self, number):
        self.numbers.append(number)
        return self.rows[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]


def shards(compute, name=None, keys=("a", "b", "c")):
    return StoredShards(ShardStore(), regular_edges(N), 3, np.float32, compute, name, keys)


@pytest.mark.parametrize("limit", [1, "1 TiB"])
def test_shards_are_computed_once_wherever_they_are_kept(limit, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    compute = Counted()
    with working_memory(limit):
        stored = shards(compute)
        for _ in range(2):
            np.testing.assert_array_equal(stored[:], ROWS)
    assert compute.numbers == [0, 1, 2]
    assert len(list(tmp_path.rglob("*.safetensors"))) == (3 if limit == 1 else 0)
    del stored
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_cache_folder_keeps_shards_for_the_next_process(tmp_path):
    with working_memory(cache_dir=tmp_path / "new"):
        first, second, other = Counted(), Counted(), Counted()
        shards(first, "kind")[:]
        np.testing.assert_array_equal(shards(second, "kind")[:], ROWS)
        shards(other, "another kind")[:]
        assert (first.numbers, second.numbers, other.numbers) == ([0, 1, 2], [], [0, 1, 2])
        changed = Counted(ROWS + np.float32(1))
        np.testing.assert_array_equal(shards(changed, "kind", ["a", "changed", "c"])[SHARD_ROWS], ROWS[SHARD_ROWS] + 1)
        assert changed.numbers == [1]
    files = list((tmp_path / "new").rglob("*"))
    assert (
        size_of_cache(tmp_path / "new") == sum(path.stat().st_size for path in files if path.is_file()) > 4 * ROWS.size
    )
    assert size_of_cache(tmp_path / "none") == 0


def damages(path):
    """Yield functions that damage a file, each in another way."""
    whole = path.read_bytes()
    yield path.unlink
    for cut in (0, 7, 100, len(whole) - 1):
        yield lambda cut=cut: path.write_bytes(whole[:cut])
    for place in (3, 20, len(whole) // 2, len(whole) - 2):
        yield lambda place=place: path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    yield lambda: container.write(path, {"kind": "features"}, {"features": ROWS[:5]})
    yield lambda: container.write(path, {"kind": "features"}, {"others": ROWS[:SHARD_ROWS]})
    yield lambda: container.write(path, {"kind": "a model"}, {"features": ROWS[:SHARD_ROWS] + np.float32(1)})


@pytest.mark.parametrize("while_in_use", [False, True])
def test_a_shard_that_is_missing_cut_or_altered_is_computed_again(tmp_path, while_in_use):
    with working_memory(1, tmp_path):
        shards(Counted(), "kind")[:]
        path = tmp_path / "kind" / "b" / "b.safetensors"
        for damage in damages(path):
            compute = Counted()
            stored = shards(compute, "kind")
            if while_in_use:
                stored[:]
                assert compute.numbers == []
            damage()
            np.testing.assert_array_equal(stored[:], ROWS)
            np.testing.assert_array_equal(stored[:], ROWS)
            assert compute.numbers == [1]


@pytest.mark.parametrize("cached", [False, True])
def test_a_full_disk_is_told_and_leaves_no_shard(tmp_path, monkeypatch, cached):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with working_memory(1, tmp_path if cached else None):
        stored = shards(Counted(), "kind")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(MachineError, match=r"^features: cannot write to .* \(No space left on device\); free "):
                stored.read(0)
        assert not list(tmp_path.rglob("*.safetensors"))
        np.testing.assert_array_equal(stored[:], ROWS)


def test_a_cache_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").touch()
    with working_memory(cache_dir=tmp_path / "file"):
        with pytest.raises(MachineError, match=r"features: cannot write to '.*kind' \(Not a directory\); "):
            shards(Counted(), "kind").read(0)
        assert not shards(Counted(), "kind").is_kept(0)


def test_shards_without_a_name_are_not_in_the_cache(tmp_path):
    with working_memory(1, tmp_path):
        np.testing.assert_array_equal(shards(Counted())[:], ROWS)
    assert not list(tmp_path.iterdir())


def in_child(folder, program):
    """Run a program, whose temporary files are in `folder`; return its exit status."""
    return subprocess.run([sys.executable, "-c", SETUP + program], env=os.environ | {"TMPDIR": str(folder)}).returncode


SETUP = """
import os, signal, sys
import numpy as np
from framecnn.data.shards import regular_edges
from framecnn.data.stored_shards import ShardStore, StoredShards
from framecnn.memory import working_memory
stored = None
with working_memory(1):
    stored = StoredShards(ShardStore(), regular_edges(600), 3, np.float32, lambda number: np.ones((512, 3), np.float32))
stored.read(0)
"""


def test_the_next_process_removes_the_temporary_folder_of_a_killed_one(tmp_path):
    assert in_child(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (tmp_path / ".framecnn-note").touch()
    assert list(left.iterdir())
    assert in_child(tmp_path, "") == 0
    assert [path.name for path in tmp_path.iterdir()] == [".framecnn-note"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_leaves_the_files_of_its_parent(tmp_path):
    program = """
if os.fork() == 0:
    del stored
    sys.exit()
assert os.wait()[1] == 0
stored._compute = None
assert stored.read(0).all()
"""
    assert in_child(tmp_path, program) == 0
    assert not list(tmp_path.iterdir())


PROGRAM = """
import sys
import numpy as np
from framecnn.data.shards import regular_edges
from framecnn.data.stored_shards import ShardStore, StoredShards
from framecnn.memory import working_memory
rows = np.random.default_rng(0).normal(size=(1124, 3)).astype(np.float32)
compute = lambda number: rows[number * 512 : (number + 1) * 512]
print("started", flush=True)
with working_memory(1, sys.argv[1]):
    while True:
        for name in "abcdefgh":
            StoredShards(ShardStore(), regular_edges(1124), 3, np.float32, compute, name, "abc")[:]
"""


def test_a_process_killed_while_it_writes_leaves_whole_shards_or_none(tmp_path):
    for number in range(5):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(0.002 + 0.004 * number)
            process.send_signal(signal.SIGKILL)
    for path in tmp_path.rglob("*.safetensors"):
        if not path.name.startswith("."):
            assert container.read(path)[0] == {"kind": "features"}
    with working_memory(1, tmp_path):
        for name in "abcdefgh":
            np.testing.assert_array_equal(shards(Counted(), name)[:], ROWS)


@pytest.fixture(scope="module")
def drawn():
    return textures(n_groups=210, shape=(8, 12, 3))


def fitted(frames, labels, groups):
    classifier = FrameClassifier(features="learned", n_filters=8, random_state=0)
    features = classifier.fit_features(frames, labels, groups)
    head = classifier.head_
    return [features[:], head.weights_, head.mean_, head.held_out_probabilities_, head.outliers_.samples], classifier


def test_a_fit_has_the_same_bits_for_any_memory_and_folder_on_any_threads(drawn, tmp_path, monkeypatch):
    frames, labels, groups = drawn
    expected, classifier = fitted(frames, labels, groups)
    for has_room, folder, threads in ((False, None, 2), (False, tmp_path, 1), (True, tmp_path, 2)):
        monkeypatch.setattr(ShardStore, "has_room", lambda *_, has_room=has_room: has_room)
        monkeypatch.setattr(ridge, "resident_bytes", lambda has_room=has_room: 0 if has_room else 2**60)
        with working_memory(cache_dir=folder), num_threads(threads):
            found, other = fitted(Lazy(frames), labels, groups)
        assert other.chosen_["grid"] == classifier.chosen_["grid"]
        for one, two in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one, two)


def test_features_are_those_of_frames_computed_at_once(drawn):
    features, classifier = fitted(*drawn)
    np.testing.assert_array_equal(features[0], classifier.features_.transform(drawn[0]))


def test_a_changed_frame_recomputes_only_its_shard(drawn, tmp_path):
    frames, _, _ = drawn
    features = FrameFeatures(grid=(1, 1), n_filters=8, random_state=0).fit(frames)
    with working_memory(cache_dir=tmp_path):
        features.compute_in_shards(frames, ShardStore())
        changed = frames.copy()
        changed[700] = 255 - changed[700]
        written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
        found = features.compute_in_shards(changed, ShardStore())
        assert len(set(tmp_path.rglob("*.safetensors")) - set(written)) == 1
        assert all(path.stat().st_mtime_ns == before for path, before in written.items())
    np.testing.assert_array_equal(found[:], features.compute(changed))


def test_predictions_of_lazily_loaded_frames_are_made_shard_by_shard_with_the_same_bits(drawn):
    _, classifier = fitted(*drawn)
    frames = drawn[0]
    features = classifier.features_.transform(frames)
    lazy = Lazy(frames)
    for method in ("predict", "predict_proba", "transform", "reject", "outlier_scores"):
        np.testing.assert_array_equal(getattr(classifier, method)(lazy), getattr(classifier.head_, method)(features))
    expected, found = classifier.head_.predict_details(features), classifier.predict_details(lazy)
    for name in ("probabilities", "outlier_scores", "out_of_distribution", "nearest"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_array_equal(classifier.nearest(lazy, 2)[0], classifier.head_.nearest(features, 2)[0])
    assert lazy.largest_read <= SHARD_ROWS
    assert len(classifier.features_.transform_when_read(lazy).read(0)) == SHARD_ROWS


@pytest.mark.parametrize(("change", "reason"), [(Path.unlink, "vanished"), (os.utime, "changed")])
def test_a_cache_folder_does_not_hide_that_a_file_was_lost(tmp_path, change, reason):
    folder = FrameFolder(write_frames(tmp_path / "frames"), size=(24, 32))
    with working_memory(cache_dir=tmp_path / "cache"), small_pretrained():
        classifier = FrameClassifier(features="pretrained", random_state=0)
        classifier.fit(folder.frames, folder.targets, folder.groups)
        change(next((tmp_path / "frames").glob("*/*.jpg")))
        with pytest.raises(FrameLost, match=f"frames {reason} since the folder was scanned: 1 "):
            classifier.fit(folder.frames, folder.targets, folder.groups)


def test_a_file_that_is_removed_meanwhile_adds_nothing_to_the_size(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"1234")
    (tmp_path / "b.safetensors").symlink_to(tmp_path / "removed")
    assert size_of_cache(tmp_path) == 4
