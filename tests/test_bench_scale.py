"""The benchmark of scale draws the same frames again, and measures fits in processes of their own."""

import numpy as np

from benchmarks.bench_scale import CLASSES, GROUP, RenderedFrames, fit, markdown, workers_markdown


def test_a_frame_is_drawn_from_its_number_and_alike_frames_have_one_group():
    frames = RenderedFrames(400, (12, 16))
    whole = frames[:]
    assert (whole.shape, whole.dtype, len(frames)) == (frames.shape, frames.dtype, 400)
    np.testing.assert_array_equal(frames[[7, 399, 7]], whole[[7, 399, 7]])
    assert len(np.unique(whole.reshape(400, -1), axis=0)) == 400
    assert np.bincount(frames.groups).tolist() == [GROUP] * (400 // GROUP)
    assert np.unique(frames.labels).tolist() == list(range(CLASSES))
    assert all(len(np.unique(frames.labels[frames.groups == group])) == 1 for group in range(400 // GROUP))


def test_a_row_tells_the_time_and_memory_of_a_fit_and_the_next_what_further_frames_take():
    rows = [fit(n, (12, 16), 8, None) for n in (300, 450)]
    assert [row["frames"] for row in rows] == [300, 450]
    assert all(row["peak_megabytes"] >= row["before_megabytes"] > 50 for row in rows)
    rows[0]["seconds"], rows[1]["seconds"] = 2.0, 5.0
    lines = markdown(rows).splitlines()
    assert lines[2].split(" | ")[2:5] == ["2.0", "6.67", ""]
    assert lines[3].split(" | ")[2:5] == ["5.0", "11.11", "20.00"]


def test_the_table_of_workers_tells_the_speed_of_features_and_what_a_fit_takes_longer():
    row = {"frames": 10000, "workers": 2, "features_here": 2.0, "features_on_workers": 1.6, "fit_here": 10.0}
    line = workers_markdown([row | {"fit_on_workers": 10.5}]).splitlines()[2]
    assert line == "| 10,000 | 2 | 2.00 | 1.60 | 10.00 | 10.50 | 1.25 | +5.0 |"
