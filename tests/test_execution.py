"""Work in tasks: the same bits wherever, how often, and in which order they run."""

import numpy as np
import pytest
from executors import Elsewhere, sha256_of_model, three_shards
from small_networks import small_pretrained
from textures import Lazy

from framecnn import FrameClassifier, execution, working_memory
from framecnn.data.shards import SHARD_ROWS, ArrayShards, ComputedShards
from framecnn.data.stored_shards import FileShards, ShardStore, StoredShards
from framecnn.errors import MachineError
from framecnn.estimators import reduction, sums
from framecnn.execution import Executor, check_cancelled, executing_on, get_executor, in_tree, watched


@pytest.fixture
def many_tasks(monkeypatch):
    """Make a run of one shard, and a tree with a fan-in of two, so that few samples are several tasks and levels."""
    monkeypatch.setattr(sums, "RUN_SHARDS", 1)
    monkeypatch.setattr(execution, "FAN_IN", 2)


@pytest.mark.parametrize(
    ("n", "fan_in", "tree"),
    [
        (1, 2, "0"),
        (2, 2, "(0+1)"),
        (5, 2, "(((0+1)+(2+3))+4)"),
        (7, 3, "((((0+1)+2)+((3+4)+5))+6)"),
        (10, 3, "(((((0+1)+2)+((3+4)+5))+((6+7)+8))+9)"),
        (4, 64, "(((0+1)+2)+3)"),
    ],
)
def test_a_tree_merges_in_order_at_every_level(n, fan_in, tree, monkeypatch):
    monkeypatch.setattr(execution, "FAN_IN", fan_in)
    assert in_tree(map(str, range(n)), lambda total, part: f"({total}+{part})") == tree


def test_this_process_runs_tasks_unless_another_executor_is_set():
    assert type(get_executor()) is Executor
    with executing_on(Elsewhere()):
        assert type(get_executor()) is Elsewhere
    assert type(get_executor()) is Executor
    assert list(Executor().map(pow, 2, [(3,), (4,)])) == [8, 16]
    assert Executor().portions([1, 2, 3], 1) == [[1, 2, 3]]
    assert Executor().portions([]) == []


def test_only_a_watched_task_is_cancelled():
    def cancel():
        raise TimeoutError

    check_cancelled()
    with pytest.raises(TimeoutError), watched(cancel):
        check_cancelled()
    check_cancelled()


@pytest.fixture(scope="module")
def drawn():
    return three_shards()


SETTINGS = [
    {"features": "learned", "n_filters": 8},
    {"features": "learned", "n_filters": 8, "grid": (3, 4), "class_weight": "balanced"},
    {"features": "learned", "n_filters": 8, "grid": (1, 1), "projection": None},
    {"features": "both", "n_filters": 8, "grid": (2, 2)},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_model_has_the_same_bits_for_any_order_and_number_of_its_tasks(settings, drawn, tmp_path, many_tasks):
    frames, labels, groups = (of_all[: 600 if settings["features"] == "both" else None] for of_all in drawn)
    found = set()
    with small_pretrained():
        for executor, given, cache in (
            (Executor(), frames, None),
            (Elsewhere(), frames, None),
            (Elsewhere(times=2), Lazy(frames), tmp_path / "cache"),
            (Elsewhere(), Lazy(frames), tmp_path / "cache"),
        ):
            with executing_on(executor), working_memory(cache_dir=cache):
                classifier = FrameClassifier(**settings, random_state=0).fit(given, labels, groups)
            found.add(sha256_of_model(classifier, tmp_path))
    assert executor.folders
    assert len(found) == 1


def test_coordinates_in_a_span_have_the_same_bits_for_any_order_of_tasks(drawn, tmp_path, many_tasks, monkeypatch):
    monkeypatch.setattr(reduction, "LARGEST_SYSTEM", 150)
    frames, labels, groups = drawn
    found = set()
    for executor in (Executor(), Elsewhere(), Elsewhere(times=2)):
        with executing_on(executor):
            settings = {"features": "learned", "n_filters": 8, "grid": (3, 4), "random_state": 0}
            classifier = FrameClassifier(**settings).fit(frames, labels, groups)
        found.add(sha256_of_model(classifier, tmp_path))
    assert len(found) == 1


def test_predictions_have_the_same_bits_for_any_order_of_tasks(drawn):
    frames, labels, groups = drawn
    classifier = FrameClassifier(features="learned", n_filters=8, random_state=0).fit(frames, labels, groups)
    for method in ("predict", "predict_proba", "transform", "outlier_scores"):
        expected, executor = getattr(classifier, method)(Lazy(frames)), Elsewhere(times=2)
        with executing_on(executor):
            np.testing.assert_array_equal(getattr(classifier, method)(Lazy(frames)), expected)
            n_done = executor.n_done
            np.testing.assert_array_equal(getattr(classifier, method)(frames), expected)
        assert n_done >= 6
        assert executor.n_done == n_done  # an array in memory is not sent to workers
    with executing_on(Elsewhere()):
        found = classifier.predict_details(Lazy(frames))
    np.testing.assert_array_equal(found.nearest, classifier.predict_details(frames).nearest)


def stored(n=2 * SHARD_ROWS + 7):
    rows = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    regular = ArrayShards(rows)
    return rows, StoredShards(ShardStore(), regular.edges, 3, np.float32, regular.read)


def test_a_worker_reads_the_files_of_shards_and_says_which_is_missing(tmp_path):
    with executing_on(Elsewhere()), working_memory(cache_dir=tmp_path):
        rows, shards = stored()
        assert shards.is_remote
        shards.prepare()
        shards.prepare()
        kind, arguments = shards.__reduce__()
        files = kind(*arguments)
        assert isinstance(files, FileShards)
        np.testing.assert_array_equal(files[:], rows)
        path = files.path(1)
        path.write_bytes(path.read_bytes()[:-1])
        message = r"^features: expected those of shard 1 in '.*', got no file, or a damaged one; repeat the run, which"
        for _ in range(2):
            with pytest.raises(MachineError, match=message):
                files.read(1)
            assert not path.exists()
        np.testing.assert_array_equal(shards[:], rows)
        del shards, files
    assert not list(tmp_path.rglob("*.safetensors"))


def test_rows_that_are_asked_for_come_from_tasks_in_their_order(monkeypatch):
    rows, wanted = np.arange(3000.0)[:, None], [2999, 5, 600, 5, 1024]
    executor = Elsewhere()
    shards = ComputedShards(3000, 1, np.float64, lambda places: rows[places], is_remote=True)
    with executing_on(executor):
        np.testing.assert_array_equal(shards[wanted], rows[wanted])
        assert executor.n_done == 4
        assert shards[7] == 7
        np.testing.assert_array_equal(shards[10:10], rows[:0])
        assert executor.n_done == 4  # one shard is read here
        found = list(shards.map(lambda block, _: 2 * block).each(lambda block, own: (block - own).sum(), rows))
    assert sum(found) == rows.sum()


def test_features_that_never_vary_are_found_in_any_shard(many_tasks):
    x = np.zeros((1500, 3))
    x[1400, 1] = 1
    np.testing.assert_array_equal(sums.varies(ArrayShards(x)), [False, True, False])
