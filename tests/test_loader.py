"""Frames are decoded when they are indexed, always the same ones, and never more than a few batches at once."""

import pickle
import threading
import time

import numpy as np
import pytest
from pictures import encoded, film_folder, scene

from framecnn import num_threads
from framecnn.data import BatchLoader, FrameFolder, FrameLost, loader, scan
from framecnn.data.decode import decode
from framecnn.data.loader import map_ahead
from framecnn.errors import DataError, ShapeError

SIZE = (24, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return FrameFolder(film_folder(tmp_path_factory.mktemp("films"), {"a": 4, "b": 5}), size=SIZE)


def test_frames_are_an_array_of_decoded_files(folder):
    frames = folder.frames
    expected = np.stack([decode(folder.root / path, SIZE).pixels for path, _ in folder.samples])
    assert (frames.shape, frames.ndim, frames.dtype, len(frames)) == ((9, *SIZE, 3), 4, np.uint8, 9)
    assert repr(frames) == "LazyFrames(shape=(9, 24, 32, 3))"
    assert (np.asarray(frames) == expected).all()
    for key in (
        0,
        -1,
        np.int64(3),
        slice(2, 7),
        slice(None, None, -2),
        [0, 7, 7],
        np.array([], int),
        expected[:, 0, 0, 0] > 99,
    ):
        assert frames[key].dtype == np.uint8
        assert frames[key].shape == expected[key].shape
        assert (frames[key] == expected[key]).all()
    assert all((one == other).all() for one, other in zip(frames, expected, strict=True))


def test_frames_become_arrays_of_other_types(folder):
    assert np.asarray(folder.frames, np.float32).dtype == np.float32
    assert np.array(folder.frames).flags.writeable
    with pytest.raises(ValueError, match="copy=None or True, got copy=False"):
        np.array(folder.frames, copy=False)


@pytest.mark.parametrize("key", [None, (slice(None), 0), (..., 0), np.zeros((2, 2), int)])
def test_only_rows_can_be_asked_for(folder, key):
    with pytest.raises((ShapeError, IndexError)):
        folder.frames[key]
    with pytest.raises(ShapeError, match="LazyFrames: expected a row, a slice or a list of rows as index, got "):
        folder.frames[..., 0]
    with pytest.raises(IndexError):
        folder.frames[9]


def test_a_lost_frame_is_named_with_all_others_that_were_lost(tmp_path):
    folder = FrameFolder(film_folder(tmp_path, {"a": 3, "b": 3}), size=SIZE)
    (tmp_path / "a" / "001.png").unlink()
    assert len(folder.frames[[0, 2]]) == 2
    with pytest.raises(FrameLost) as lost:
        folder.frames[:]
    assert (lost.value.paths, lost.value.reason) == (("a/001.png",), "vanished")
    assert isinstance(lost.value, DataError)
    assert str(pickle.loads(pickle.dumps(lost.value))) == str(lost.value)
    assert "frames vanished since the folder was scanned: 1 (first: 'a/001.png')" in str(lost.value)
    (tmp_path / "b" / "000.png").write_bytes(encoded(scene(50), "PNG"))
    with pytest.raises(FrameLost) as lost:
        list(BatchLoader(folder.frames, folder.targets, batch_size=6))
    assert (lost.value.paths, lost.value.reason) == (("a/001.png", "b/000.png"), "changed")


def test_batches_are_the_rows_in_order(folder):
    loader = BatchLoader(folder.frames, folder.targets, batch_size=4)
    batches = list(loader)
    assert len(loader) == len(batches) == 3
    assert [len(y) for _, y in batches] == [4, 4, 1]
    assert (np.concatenate([x for x, _ in batches]) == np.asarray(folder.frames)).all()
    assert (np.concatenate([y for _, y in batches]) == folder.targets).all()


def test_shuffled_batches_hold_every_row_once_in_an_order_that_the_seed_decides():
    rows = np.arange(50)

    def epochs(seed):
        loader = BatchLoader(rows * 2, rows, batch_size=8, shuffle=True, seed=seed)
        return [[(x.tolist(), y.tolist()) for x, y in loader] for _ in range(2)]

    first, second = epochs(seed=1)
    assert epochs(seed=1) == [first, second]
    assert first != second
    assert epochs(seed=2)[0] != first
    for epoch in (first, second):
        assert all(x == [2 * row for row in y] for x, y in epoch)
        assert sorted(row for _, y in epoch for row in y) == rows.tolist()


class Counted:
    """Frames that count how many of their batches are alive at once."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 100

    def __getitem__(self, rows):
        self.asked.append(rows)
        return rows


def test_one_batch_is_decoded_ahead_and_no_more():
    frames = Counted()
    batches = iter(BatchLoader(frames, np.zeros(100), batch_size=10))
    for taken in range(1, 6):
        next(batches)
        deadline = time.monotonic() + 5
        while len(frames.asked) < taken + 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(frames.asked) == taken + 1


def test_an_unfinished_pass_leaves_no_thread():
    before = threading.active_count()
    for _ in BatchLoader(Counted(), np.zeros(100), batch_size=10):
        break
    assert threading.active_count() == before


def test_an_error_cancels_pending_work():
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.005)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(map_ahead(work, range(100), 1, 100))
    assert len(begun) < 100


def test_an_empty_subset_gives_no_batches(folder):
    _, val, _ = folder.split(0.8, 0, 0.2)
    assert list(BatchLoader(val.frames, val.targets)) == []
    assert np.asarray(val.frames).shape == (0, *SIZE, 3)


def test_invalid_batch_sizes_and_targets_are_refused():
    with pytest.raises(ShapeError, match="expected a target for each of 3 frames, got 2"):
        BatchLoader(np.zeros((3, 8, 8, 3)), [0, 1])
    with pytest.raises(ValueError, match="expected batch_size of at least 1, got 0"):
        BatchLoader(np.zeros((3, 8, 8, 3)), [0, 1, 2], batch_size=0)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads_gives_the_same_folder_and_the_same_frames(folder, monkeypatch, threads):
    asked = []

    def counting(function, items, n_threads, ahead):
        asked.append(n_threads)
        return map_ahead(function, items, n_threads, ahead)

    monkeypatch.setattr(loader, "map_ahead", counting)
    monkeypatch.setattr(scan, "map_ahead", counting)
    with num_threads(threads):
        again = FrameFolder(folder.root, size=SIZE)
        frames = np.asarray(again.frames)
    assert asked == [threads, threads]
    assert again.samples == folder.samples
    assert (again.groups == folder.groups).all()
    assert (frames == np.asarray(folder.frames)).all()
