"""The report of a comparison needs no other file and has the figures of every model."""

from dataclasses import replace

import numpy as np
import pytest
from pictures import scene
from reports import Report, predicting

from framecnn.evaluation import EvaluationResult
from framecnn.report import Choice, ComparisonData, ShownFrame, draw_prediction, write_comparison

CLASSES = ("day", "<b>night</b>", "dusk")
TITLES = ("one & only", "other")


@pytest.fixture
def frames(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        scene(number).save(path)
    return list(map(str, paths))


def result(title, predictions, paths):
    return EvaluationResult(title, CLASSES, [0, 0, 1, 1, 2, 2], predicting(predictions, 0.9, 3), list("aabbcc"), paths)


def data(frames, **settings):
    figures = {
        "accuracies": [0.75, 0.5],
        "accuracy": 0.625,
        "train_seconds": 75.0,
        "final_training_seconds": None,
        "frames_per_second": 1234.0,
        "peak_megabytes": 567.0,
        "model_bytes": 2_500_000,
        "device": "GPU: card",
    }
    shown = ShownFrame(frames[0], "day", 1, {TITLES[0]: [0.7, 0.2, 0.1], TITLES[1]: [0.1, 0.8, 0.1]})
    return ComparisonData(
        title="films",
        classes=CLASSES,
        about=dict.fromkeys(TITLES, "what it is"),
        figures={TITLES[0]: figures, TITLES[1]: figures | {"accuracy": 0.9, "final_training_seconds": 30.0}},
        results=[result(TITLES[0], [0, 0, 1, 1, 2, 0], frames), result(TITLES[1], [0, 1, 1, 1, 2, 2], frames)],
        shown=[shown],
        **settings,
    )


def written(tmp_path, shown):
    write_comparison(tmp_path / "report.html", shown)
    return Report((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_the_report_shows_all_figures_and_needs_no_other_file(tmp_path, frames):
    report = written(tmp_path, data(frames, warnings=["Keras was not run"], choices=[Choice("other", 1, "rate 1")]))
    for words in (
        "The other classifies 90.0 % of the frames correctly, the one & only 62.5 % (test frames of all folds).",
        "one & only 75.0 % 50.0 % 62.5 %",
        "one & only 1 min 15 s – 1,234 567 MB 2.5 MB GPU: card",
        "other 1 min 15 s 30.0 s 1,234 567 MB 2.5 MB GPU: card",
        "one & only 70 % 20 % 10 % other 10 % 80 % 10 %",
        "one & only: 5 of 6 frames correct",
        "Keras was not run",
        "other 1 rate 1",
    ):
        assert words.replace(" ", "") in report.words.replace(" ", "")  # cells have none between them
    assert "<b>night" not in report.source
    assert all(address.startswith("data:") for address in report.addresses)
    assert {link.removeprefix("#") for link in report.links} <= set(report.ids)
    assert len(set(report.ids)) == len(report.ids)
    assert "script" not in report.tags


def test_a_class_of_probability_zero_has_no_tint(tmp_path, frames):
    shown = ShownFrame(frames[0], "day", 1, {title: [1, 0, 0] for title in TITLES})
    report = written(tmp_path, replace(data(frames), shown=[shown]))
    assert report.source.count('<td class="wrong" style="--share: 0.000">0 %</td>') == 4
    assert ".matrix td.wrong { --tint: rgb(var(--bad) / calc(var(--share) * .6)); }" in report.source


def test_a_frame_that_is_gone_leaves_a_placeholder(tmp_path, frames):
    (tmp_path / "0.png").unlink()
    assert "no picture: vanished while framecnn was running" in written(tmp_path, data(frames)).words


def test_a_prediction_is_drawn_with_a_bar_per_class_the_longest_first(frames):
    shares = {f"class {number} " + "x" * 50: 0.5**number for number in range(1, 20)}
    picture = np.asarray(draw_prediction(frames[0], "class 1", shares)).astype(int)
    teal = np.abs(picture - [20, 128, 130]).sum(axis=2) < 10
    lengths = teal.sum(axis=1)
    lengths = lengths[(lengths > 0) & (np.append(0, lengths[:-1]) == 0)]
    assert len(lengths) == 12
    assert sorted(lengths, reverse=True) == lengths.tolist()
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=2)
