"""How much memory a fit takes, and the setting of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from clouds import clouds

import framecnn
from framecnn import KMeansClassifier, MachineError, SettingError, memory, working_memory
from framecnn.memory import as_bytes, get_working_memory, resident_bytes

MEASURED = """
import json, sys
import numpy as np
from framecnn import FrameClassifier, KMeansClassifier, working_memory
from framecnn.comparison.model_process import peak_megabytes
from framecnn.data.shards import Shards, regular_edges

class Drawn(Shards):
    def read(self, number):
        rows = np.arange(self.edges[number], self.edges[number + 1])
        noise = np.random.default_rng(number).standard_normal((len(rows), self.shape[1]), np.float32)
        return noise + np.eye(4, self.shape[1], dtype=np.float32)[rows % 4]

class Frames:
    def __init__(self, n):
        self.shape, self.dtype = (n, 12, 12, 3), np.dtype(np.uint8)
    def __len__(self):
        return self.shape[0]
    def __getitem__(self, rows):
        drawn = [np.random.default_rng(row).integers(0, 128, (12, 12, 3)) for row in np.atleast_1d(rows)]
        return (np.stack(drawn) * (1 + (np.atleast_1d(rows) % 4 == 0))[:, None, None, None]).astype(np.uint8)

def fit(what, n):
    codes = np.arange(n) % 4
    if what == "head":
        KMeansClassifier(random_state=0).fit(Drawn(regular_edges(n), 256, np.float32), codes)
    else:
        FrameClassifier(features="learned", n_filters=20, grid=(3, 4), random_state=0).fit(Frames(n), codes)

what, n, limit = sys.argv[1], int(sys.argv[2]), sys.argv[3]
fit(what, 300)
with working_memory(None if limit == "none" else limit):
    fit(what, n)
print(json.dumps(peak_megabytes()))
"""


def peak(what, n, limit="none"):
    """Return the peak memory in MB of a process that fits to n samples or frames, drawn when they are read."""
    command = [sys.executable, "-c", MEASURED, what, str(n), limit]
    root = Path(framecnn.__file__).parents[1]
    return json.loads(subprocess.run(command, check=True, capture_output=True, cwd=root, encoding="utf-8").stdout)


def test_the_memory_of_a_head_does_not_grow_with_the_samples_that_are_read():
    few, many = peak("head", 8_000), peak("head", 48_000)
    assert many - few < 20 < 40_000 * 256 * 4 / 1e6


def test_the_least_memory_that_an_error_names_is_enough_and_is_kept():
    with pytest.raises(subprocess.CalledProcessError) as refused:
        peak("frames", 6_000, "100 MB")
    least = re.search(r"MachineError: .* at least ([\d,]+) MB for 6,000 samples of 480", refused.value.stderr)
    limit = 1.02 * float(least[1].replace(",", ""))  # what the process holds before differs a little
    assert peak("frames", 6_000, f"{limit} MB") < 1.1 * limit


@pytest.mark.parametrize("size", [0, -1, "", "GiB", "4 GiBs", "four", None, True, "1e3", "-2 GB", 0.5])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(SettingError, match=r"^max_memory: expected bytes, or text such as '4 GiB' or '500 MB', got"):
        as_bytes(size)


def test_settings_hold_inside_the_block_and_the_inner_ones_count(tmp_path):
    default = get_working_memory()
    assert default.is_default
    assert default.max_memory > 0
    with working_memory("2 GiB"):
        with working_memory(cache_dir=tmp_path):
            assert get_working_memory() == (2**31, tmp_path, False)
        assert get_working_memory() == (2**31, None, False)
        with pytest.raises(SettingError), working_memory("much"):
            raise AssertionError("not reached")
    assert get_working_memory() == default


def test_a_memory_that_is_too_small_for_the_systems_is_refused():
    X, y, groups = clouds(n_samples=900)
    message = (
        r"KMeansClassifier: expected max_memory of at least [\d,]+ MB for 900 samples of 5 features, got 1 MB; raise"
    )
    with working_memory("1 MB"), pytest.raises(MachineError, match=message):
        KMeansClassifier().fit(X, y, groups)


def test_blocks_of_two_threads_may_end_in_any_order():
    first, second = working_memory("1 GiB"), working_memory("2 GiB")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert get_working_memory().max_memory == 2**31
    second.__exit__(None, None, None)
    assert get_working_memory().is_default


def test_memory_is_that_of_the_process_and_at_most_that_of_the_container(monkeypatch, tmp_path):
    before, held = resident_bytes(), np.ones(20_000_000)
    assert 0.9 * held.nbytes < resident_bytes() - before < 1.5 * held.nbytes
    (tmp_path / "memory.max").write_text("1000000")
    monkeypatch.setattr(memory, "Path", lambda path: tmp_path / Path(path).name)
    assert get_working_memory().max_memory == 750_000
    (tmp_path / "memory.max").write_text("max")  # no limit
    assert get_working_memory().max_memory == int(0.75 * psutil.virtual_memory().total)
