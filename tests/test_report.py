"""The report needs no other file, shows the figures, and holds any name."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from PIL import Image
from reports import Report, predicting

from framecnn.data.reasons import REASONS, Reason
from framecnn.errors import MissingExtraError, ShapeError
from framecnn.evaluation import EvaluationResult
from framecnn.report import Prototype, ReportData, write_report


@pytest.fixture
def frames(tmp_path):
    """Return the paths of twelve small pictures, all different."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(12):
        paths.append(str(tmp_path / f"frame_{number:02d}.jpg"))
        Image.fromarray(rng.integers(0, 256, (18, 32, 3), dtype=np.uint8)).resize((64, 36)).save(paths[-1])
    return paths


@pytest.fixture
def data(frames):
    """Return the data of four test frames of two groups, one of them wrong, and eight training frames."""
    classes = ("day", "night")
    said = predicting([0, 0, 1, 0], [0.9, 0.8, 0.95, 0.7])
    test = EvaluationResult("test", classes, [0, 0, 1, 1], said, ["a", "a", "b", "b"], frames[:4])
    groups = [f"t{i}" for i in range(8)]
    training = EvaluationResult("training", classes, [0, 1] * 4, predicting([0, 1] * 4, 1), groups, frames[4:])
    return ReportData(
        title="Films",
        results=[test, training],
        prototypes=[Prototype("day", 0, 4, tuple(frames[4:7])), Prototype("night", 1, 4, tuple(frames[7:10]))],
        filters={"36x64": np.random.default_rng(0).normal(size=(5, 6, 6, 3))},
        skipped=[SimpleNamespace(path="day/half.jpg", reason="truncated", detail="7 bytes are missing")],
        found=13,
        split="by group, seed 0",
        split_table=[{"part": "test", "class": "day", "frames": 2, "groups": 1}],
        chosen={"grid": "2x2"},
        versions={"framecnn": "0.1.0"},
        timings={"fit": 125.4},
        warnings=["class night has one group"],
    )


@pytest.fixture
def read(tmp_path):
    """Return a function that writes the report of some data and reads it again."""

    def read(data):
        write_report(tmp_path / "report.html", data)
        return Report((tmp_path / "report.html").read_text(encoding="utf-8"))

    return read


def test_the_report_needs_no_other_file_and_runs_no_script(data, read):
    report = read(data)
    assert {"script", "iframe", "object", "form"}.isdisjoint(report.tags)
    assert report.addresses
    assert all(address.startswith("data:") for address in report.addresses)
    assert "url(" not in report.source
    assert "@import" not in report.source
    assert "default-src 'none'" in report.source


def test_every_link_and_every_picture_is_in_the_report(data, read):
    report = read(data)
    assert len(report.links) > 20
    assert set(report.links) <= {f"#{name}" for name in report.ids}
    assert report.popovers
    assert set(report.popovers) <= set(report.ids)
    assert len(report.ids) == len(set(report.ids))


def test_the_report_shows_all_data(data, read):
    words = read(data).words.replace(" ", "")
    for text in (
        "75.0%",
        "The model classifies 3 of 4 frames correctly.",
        "Class night has one group",
        "The frames are split by group, seed 0.",
        "night is classified as day",
        "Predicted day, 70 %",
        "4 training frames",
        "5 filters of 6 × 6 pixels",
        "13 files found: 12 used, 1 skipped.",
        "1 skipped: the file is cut off (truncated)",
        "day/half.jpg – 7 bytes are missing",
        "grid 2x2",
        "framecnn 0.1.0",
        "fit 2 min 05 s",
    ):
        assert text.replace(" ", "") in words, text


def test_a_dot_at_the_end_of_its_scale_stays_inside(data, read, frames):
    assert 'style="left: clamp(.475rem, 100.0%, 100% - .475rem)"' in read(data).source


def test_the_frames_and_the_columns_of_a_confusion_matrix_are_named(data, read):
    words = read(data).words
    assert "Confusion matrix of the test frames" in words
    assert "Classified as True class" in words
    assert "Training: 100.0 % of 8 frames correct" in words
    assert "Most frequent mistake: night is classified as day (1 frame)." in words


def test_without_mistakes_in_the_test_frames_those_of_other_parts_are_linked(data, read, frames):
    test = replace(data.results[0], probabilities=predicting(data.results[0].targets, 0.9))
    validation = replace(data.results[0], part="validation")
    report = read(replace(data, results=[test, validation]))
    text = "all test frames are classified correctly. 1 of 4 validation frames are misclassified: see their confusion"
    assert text in report.words
    assert '<a href="#part1-1-0">see their' in report.source


@pytest.mark.parametrize(("size", "ratio"), [((48, 32), "48 / 32"), ((320, 180), "224 / 126")])
def test_tiles_have_the_proportions_of_most_frames(data, read, frames, size, ratio):
    for path in frames[1:]:
        Image.new("RGB", size).save(path)
    assert f'<body style="--tile-ratio: {ratio}">' in read(data).source


def test_the_same_data_gives_the_same_bytes(data, read):
    assert read(data).source == read(data).source


def test_a_cell_opens_the_frames_behind_it(data, read, frames):
    source = read(data).source
    panel = source[source.index('id="part0-1-0"') :]
    panel = panel[: panel.index("</ul>")]
    assert panel.count("<use") == 1
    assert 'href="./frame_03.jpg"' in panel


def test_a_frame_shown_in_several_places_is_stored_once(data, read, frames):
    report = read(data)
    assert report.tags.count("image") == 2 * len(frames)  # small and at full size
    assert report.tags.count("use") > 2 * len(frames)


def test_a_file_that_vanished_leaves_a_placeholder(data, read, frames):
    Path(frames[3]).unlink()
    report = read(data)
    assert "no picture: vanished while framecnn was running" in report.text
    assert report.tags.count("image") == 2 * (len(frames) - 1)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("\" onload='alert(1)", "\" onload='alert(1)"),
        ("{{ 7 * 7 }}", "{{ 7 * 7 }}"),
        ("فيلم", "فيلم"),
        ("x" * 255, "x" * 255),
        ("two\nlines\x1b[31m\x00", r"two\nlines\x1b[31m\x00"),
        ("bad \udcff byte", r"bad \udcff byte"),
        ("=cmd()", "=cmd()"),
    ],
)
def test_any_name_is_shown_and_never_interpreted(data, read, frames, name, shown):
    results = [replace(result, classes=(name, "night")) for result in data.results]
    skip = SimpleNamespace(path=name, reason=name, detail=name)
    table = [{"part": name, "class": name, "frames": 1, "groups": 1}]
    report = read(
        replace(
            data,
            title=name,
            results=results,
            prototypes=[Prototype(name, 0, 1, (name,))],
            filters={name: np.ones((1, 2, 2, 3))},
            skipped=[skip],
            split=name,
            split_table=table,
            chosen={name: name},
            versions={name: name},
            timings={name: 1},
            warnings=[name],
        )
    )
    assert report.text.count(shown) > 8
    assert {"script", "iframe"}.isdisjoint(report.tags)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", report.source)


def test_part_names_are_shown_and_never_interpreted(data, read, frames):
    name = "<b>holiday</b>"
    result = replace(data.results[0], part=name)
    assert f"These are the frames of “{name}”." in read(replace(data, results=[result])).words


def test_the_accuracy_of_the_test_frames_comes_first(data, read):
    report = read(data)
    assert report.words.index("75.0%") < report.words.index("100.0 %")
    assert "These are the test frames; the model was not trained on them." in report.words


def test_an_accuracy_on_training_frames_is_named_as_such(data, read):
    report = read(replace(data, results=data.results[1:]))
    assert "These are the training frames: expect a lower accuracy on new frames." in report.words


def test_an_empty_validation_part_is_in_the_table_and_nowhere_else(data, read):
    empty = EvaluationResult("validation", ("day", "night"), [], [], [])
    report = read(replace(data, results=[*data.results, empty]))
    assert "Validation –– 0 0".replace(" ", "") in report.words.replace(" ", "")
    assert "nan" not in report.words


def test_a_class_without_test_frames_is_reported(data, read, frames):
    one = EvaluationResult("test", ("day", "night"), [0, 0], predicting([0, 0], 1), ["a", "b"], frames[:2])
    report = read(replace(data, results=[one]))
    assert "1 of the 2 classes has no frame here: the accuracy does not cover it." in report.words
    assert "The interval is wide because there are only 2 groups." in report.words
    assert "None: all test frames are classified correctly." in report.words


def test_a_report_without_data_is_a_report(read):
    report = read(ReportData(title="Nothing"))
    assert "No accuracy: no frames were evaluated." in report.words
    assert "0 files found: 0 used, 0 skipped." in report.words
    assert set(report.links) <= {f"#{name}" for name in report.ids}


def test_mistakes_of_one_group_are_one_entry_the_most_confident_first(data, read, frames):
    groups = ["shot 1", "shot 1", "shot 1", "shot 2"]
    said = predicting([1] * 4, [0.55, 0.6, 0.9, 0.7])
    report = read(
        replace(data, results=[EvaluationResult("test", ("day", "night"), [0] * 4, said, groups, frames[:4])])
    )
    mistakes = report.words[report.words.index("Most confident mistakes", 200) :]
    assert mistakes.index("Predicted night, 90 %True class dayand 2 more of its group") < mistakes.index(
        "Predicted night, 70 %"
    )
    assert "60 %" not in mistakes


def test_fifty_classes_fit_and_beyond_a_hundred_the_most_confused_are_shown(data, read, frames):
    for n_classes, n_shown in ((50, 50), (120, 100)):
        classes = [f"class {number:03d}" for number in range(n_classes)]
        said = predicting([n_classes - 2], 1, n_classes)
        result = EvaluationResult("test", classes, [n_classes - 1], said, ["a"], frames[:1])
        report = read(replace(data, results=[result], prototypes=[]))
        assert report.source.count('<tr><th scope="row"><span class="clamp">') == n_shown
        assert f"class {n_classes - 1:03d} is classified as class {n_classes - 2:03d}" in report.words
    assert "The table shows the 100 of 120 classes with the most mistakes." in report.words


def test_ten_thousand_skipped_files_are_counted_by_reason_and_the_first_are_listed(data, read):
    skipped = [SimpleNamespace(path=f"{i}.jpg", reason=("empty", "odd")[i % 4 == 0], detail="") for i in range(10_000)]
    report = read(replace(data, skipped=skipped, found=10_012))
    assert "10,012 files found: 12 used, 10,000 skipped." in report.words
    assert report.words.index("7,500 skipped: the file is empty") < report.words.index("2,500 skipped: odd")
    assert "and 7,480 more" in report.words
    assert report.source.count(".jpg</bdi>") < 100


def test_every_reason_to_skip_a_file_has_a_description(data, read):
    assert set(REASONS) == set(get_args(Reason))
    skipped = [SimpleNamespace(path="1.jpg", reason=reason, detail="") for reason in REASONS]
    words = read(replace(data, skipped=skipped)).words
    assert all(f"1 skipped: {description} ({reason})" in words for reason, description in REASONS.items())


def test_pictures_beyond_the_budget_are_links_to_their_files(data, tmp_path, frames):
    for budget, n_small, n_full in ((10**6, 12, 12), (0, 0, 0)):
        write_report(tmp_path / "report.html", data, picture_budget=budget)
        report = Report((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert report.tags.count("image") == n_small + n_full
        assert {f"./{Path(frame).name}" for frame in frames} <= set(report.files)
        assert "1 frame, without a picture here" in report.words or n_small
    write_report(tmp_path / "report.html", data, picture_budget=12_000)
    report = Report((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert 0 < report.source.count('<image id="v') < report.source.count('<image id="f') < 12
    assert report.source.count('<a class="open" href="./frame_') > 0


def test_a_cell_shows_one_frame_of_each_group_before_the_second_of_any(data, read, frames):
    groups = ["long shot"] * 29 + ["short shot"]
    said, paths = predicting([1] * 30, np.linspace(1, 0.51, 30)), frames[:1] * 29 + frames[1:2]
    report = read(replace(data, results=[EvaluationResult("test", ("day", "night"), [0] * 30, said, groups, paths)]))
    panel = report.source[report.source.index('id="part0-0-1"') :]
    assert re.findall(r'<a href="./frame_(\d\d)', panel)[:3] == ["00", "01", "00"]
    assert "and 6 more, without a picture here 1 to 6" in report.words


def test_the_report_of_the_films_is_under_five_megabytes(shared_data, tmp_path):
    files = sorted((shared_data / "films").glob("*/*.jpg"))
    assert len(files) == 1136
    classes = sorted({file.parent.name for file in files})
    rng = np.random.default_rng(0)
    part = rng.integers(0, 3, len(files))
    results = []
    for number, name in enumerate(("training", "validation", "test")):
        mine = [file for file, of in zip(files, part, strict=True) if of == number]
        targets = [classes.index(file.parent.name) for file in mine]
        said = np.where(rng.random(len(mine)) < 0.8, targets, rng.integers(0, len(classes), len(mine)))
        probabilities = predicting(said, rng.uniform(0.2, 1, len(mine)), len(classes))
        results.append(EvaluationResult(name, classes, targets, probabilities, range(len(mine)), mine))
    write_report(tmp_path / "report.html", ReportData("films", results))
    assert 1_000_000 < (tmp_path / "report.html").stat().st_size < 5_000_000


def test_more_filters_than_fit_are_counted(data, read):
    report = read(replace(data, filters={"36x64": np.random.default_rng(0).normal(size=(450, 2, 2, 9))}))
    assert (
        "450 filters of 2 × 2 pixels, mean over 9 channels; 400 of them are shown, from grey to coloured"
        in report.words
    )


def test_every_frame_of_a_result_needs_a_path_and_the_old_report_stays(data, read, tmp_path, frames):
    before = read(data).source
    with pytest.raises(ShapeError, match="the paths of the 4 frames of the part 'test', got none"):
        write_report(tmp_path / "report.html", replace(data, results=[replace(data.results[0], paths=())]))
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_without_jinja2_the_message_says_how_to_get_it(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'framecnn\[report\]'"):
        write_report(tmp_path / "report.html", data)
