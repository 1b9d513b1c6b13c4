"""What a report and a drawing show of a prediction's reasons; all frames of a report can be reached."""

import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image, ImageDraw
from reports import Report, predicting

from framecnn.data import SkippedFrame
from framecnn.evaluation import EvaluationResult, Suspect
from framecnn.report import Evidence, Prototype, ReportData, draw_explanation, write_report
from framecnn.report.arrangement import arrange
from framecnn.report.links import link_from

CLASSES = ("day", "<b>night</b>")


def picture(path, seed=0, size=(64, 36)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 16, 3), np.uint8)).resize(size).save(path)
    return str(path)


def result(paths, part="test", wrong=None):
    """Return the result of frames of the class day, of which `wrong` (by default all) are predicted as night."""
    n, n_wrong = len(paths), len(paths) if wrong is None else wrong
    said = predicting([1] * n_wrong + [0] * (n - n_wrong), np.linspace(0.99, 0.6, n))
    return EvaluationResult(part, CLASSES, [0] * n, said, [f"shot {i}" for i in range(n)], paths)


@pytest.fixture
def data(tmp_path):
    """Return the data of three mistakes with evidence, whose first near training frame is gone."""
    paths = [picture(tmp_path / "films" / "day" / f"{i}.jpg", i) for i in range(3)]
    near = picture(tmp_path / "films" / "night" / "near.jpg", 9)
    evidence = {
        path: Evidence(CLASSES[1], CLASSES[0], np.eye(24, 36), ((near, CLASSES[1]), ("gone.jpg", "day")))
        for path in paths
    }
    return ReportData(title="films", results=[result(paths)], evidence=evidence)


@pytest.fixture
def read(tmp_path):
    def read(data, **settings):
        write_report(tmp_path / "report.html", data, **settings)
        return Report((tmp_path / "report.html").read_text(encoding="utf-8"))

    return read


def test_a_mistake_has_a_map_with_a_key_in_words_and_the_training_frames_near_it(data, read):
    report = read(data)
    assert report.words.count("speaks for <b>night</b>speaks for day") == 6  # on three cards and when enlarged
    assert report.words.count("Most similar training frames") == 3
    assert report.source.count('<image id="m') == 3
    assert report.words.count("no picture: vanished") == 3
    assert {"films/night/near.jpg", "films/day/0.jpg"} <= {os.path.normpath(file) for file in report.files}
    assert len(report.ids) == len(set(report.ids))
    assert set(report.popovers) <= set(report.ids)
    assert set(report.links) <= {f"#{name}" for name in report.ids}


def test_every_picture_opens_and_every_opened_picture_has_a_button_that_closes_it(data, read):
    source = read(data).source
    opened = set(re.findall(r' popover id="(\w+)"', source))
    assert len(opened) == 4 + 3
    assert opened == set(re.findall(r'class="open" popovertarget="(\w+)"', source))
    assert opened == set(re.findall(r'popovertarget="(\w+)" popovertargetaction="hide"', source))


def test_a_map_is_shown_without_a_picture_at_full_size(data, read):
    small = sum(len(uri) for uri in re.findall(r'<image id="f\d+"[^>]*href="([^"]+)"', read(data).source))
    report = read(data, picture_budget=round(small / 0.6) + 10)
    assert '<image id="m0"' in report.source
    assert set(re.findall(r"#[mfv]\d+", report.source)) <= {f"#{name}" for name in report.ids}


def test_without_pictures_a_report_with_evidence_is_a_report(data, read):
    report = read(data, picture_budget=0)
    assert "image" not in report.tags
    assert set(report.popovers) <= set(report.ids)


@pytest.mark.parametrize(("n_wrong", "n_right"), [(300, 0), (30, 270)])
def test_all_frames_can_be_reached(read, tmp_path, n_wrong, n_right):
    paths = [str(tmp_path / "films" / f"{i}.jpg") for i in range(n_wrong + n_right)]
    for path in paths[:40]:
        picture(Path(path))
    report = read(ReportData(title="films", results=[result(paths, wrong=n_wrong)]))
    assert {os.path.normpath(unquote(file)) for file in report.files} >= {f"films/{i}.jpg" for i in range(len(paths))}
    assert "1 to 200" in report.words or n_wrong < 200


@pytest.mark.parametrize("table", ["b.predictions.csv", ""])
def test_of_very_many_correct_frames_the_table_of_predictions_is_named_but_all_mistakes_are_listed(
    read, tmp_path, table
):
    paths = [f"{tmp_path}/{i}.jpg" for i in range(4000)]
    report = read(ReportData(title="films", results=[result(paths, wrong=2000)], predictions=table))
    found = {os.path.normpath(file) for file in report.files}
    assert {f"{i}.jpg" for i in range(2000)} <= found
    assert len(found) < 3100
    assert ("more, in the table of predictions b.predictions.csv" in report.words) == bool(table)
    assert re.search(r"and [\d,]+ more", report.words)


def test_suspects_beyond_those_shown_are_in_a_table_of_predictions_only_if_there_is_one(data, read, tmp_path):
    path = picture(tmp_path / "a.jpg")
    suspects = [Suspect("test", "a.jpg", path, "g", "day", CLASSES[1], 0.01, 0.99)] * 30
    words = [read(replace(data, suspects=suspects[:n])).words for n in (24, 30)]
    words.append(read(replace(data, suspects=suspects, predictions="p.csv")).words)
    said = ["in the table of predictions p.csv, column suspected_label", "These are the first 24 of 30 suspects."]
    assert [[text in found for text in said] for found in words] == [[False, False], [False, True], [True, False]]
    assert all("Frames that models which were not fitted on them confidently assign" in found for found in words)


def test_mistakes_of_classes_that_are_not_in_the_matrix_are_listed(read, tmp_path):
    n = 240
    classes = [f"class {i:03d}" for i in range(n)]
    said = predicting(np.arange(n) ^ 1, 0.9, n)
    paths = [f"{tmp_path}/{i}.jpg" for i in range(n)]
    one = EvaluationResult("test", classes, np.arange(n), said, [str(i) for i in range(n)], paths)
    report = read(ReportData(title="classes", results=[one]))
    assert "140 misclassified frames of classes that are not in the matrix" in report.words
    assert "239.jpg class 239 as class 238, 90 %" in report.words
    assert {os.path.normpath(file) for file in report.files} == {f"{i}.jpg" for i in range(n)}


def test_date_command_and_model_are_on_the_page(data, read):
    origin = {"Date": "2026-11-29 12:00", "Model": "b.safetensors", "Command": "framecnn train 'my <films>'"}
    words = read(replace(data, origin=origin, versions={"framecnn": "1.2"})).words
    assert "Date2026-11-29 12:00 Modelb.safetensors Commandframecnn train 'my <films>'" in words
    assert "framecnn1.2" in words


def test_filters_are_shown_with_the_classes_they_speak_for(data, read):
    bank = np.random.default_rng(0).normal(size=(30, 6, 6, 3))
    filters = {"24x36": bank, "12x18": bank[:20]}
    chosen = {scale: {name: list(range(i, i + 10)) for i, name in enumerate(CLASSES)} for scale in filters}
    report = read(replace(data, filters=filters, class_filters=chosen))
    assert report.source.count('aria-label="Filters that speak for day at 24x36"') == 1
    assert report.source.count('<use href="#w') == 4
    assert "These filters add most to the score of each class on its typical frames" in report.words
    assert "more classes" not in report.words
    few = {"12x18": {name: [0, 3, 1, 2] for name in CLASSES}}
    ((_, picture),) = arrange(replace(data, filters=filters, class_filters=few)).class_filters.scales
    assert (picture.width, picture.height) == (4 * 27 - 3, len(CLASSES) * 27 - 3)
    many = {name: list(range(10)) for name in (f"class {i}" for i in range(100))}
    assert "88 more classes" in read(replace(data, filters=filters, class_filters={"24x36": many})).words


@pytest.mark.parametrize(
    "name", ["a'b.jpg", 'a"b.jpg', "50 %.jpg", "#1?.jpg", "ü ö.jpg", "two\nlines.jpg", "a:b.jpg", "bad \udcff.jpg"]
)
def test_any_file_can_be_opened_from_the_report(read, tmp_path, name):
    path = picture(tmp_path / "films & more" / name) if os.name == "posix" else name
    report = read(ReportData(title="films", results=[result([path])]))
    (address,) = set(report.files)
    assert re.fullmatch(r"[\w./%~-]+", address)
    assert os.fsencode(tmp_path / unquote(address, errors="surrogateescape")) == os.fsencode(path)


def test_a_link_is_relative_to_the_real_folder_of_the_report(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "short").symlink_to(tmp_path / "a" / "b")
    assert link_from(tmp_path / "short")(str(tmp_path / "x.jpg")) == "../../x.jpg"
    assert link_from(tmp_path)(str(tmp_path / "short" / "x.jpg")) == "a/b/x.jpg"


def test_on_another_drive_a_link_is_absolute(tmp_path, monkeypatch):
    def fail(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", fail)
    assert link_from(tmp_path)(str(tmp_path / "x.jpg")) == f"{tmp_path.as_uri()}/x.jpg"


def test_a_drawing_has_the_frame_its_map_and_the_training_frames(tmp_path):
    path = picture(tmp_path / "a.png", size=(320, 180))
    near = [picture(tmp_path / f"{i}.png", i) for i in range(2)]
    contributions = np.zeros((24, 36))
    contributions[:, :9], contributions[:, 27:] = 1, -1
    nearest = ((near[0], "day"), (near[1], "n" * 200), ("gone.png", "gone"))
    evidence = Evidence("day", "night", contributions, nearest)
    drawn = np.asarray(draw_explanation(path, "day", {"day": 0.9, "night": 0.1}, evidence)).astype(int)
    with_one = draw_explanation(path, "day", {"day": 0.9, "night": 0.1}, replace(evidence, nearest=nearest[:1]))
    assert drawn.shape == np.asarray(with_one).shape
    top = drawn.shape[0] - 24 - 219
    left, middle, right = (drawn[top + 10 : top + 170, 24 + x : 64 + x].mean(axis=(0, 1)) for x in (5, 140, 275))
    assert left[2] > left[0] + 50  # blue
    assert right[0] > right[2] + 50  # orange
    assert np.ptp(middle) < 5  # grey


def test_a_drawing_says_why_a_training_frame_has_no_picture(tmp_path, monkeypatch):
    (tmp_path / "text.jpg").write_text("no picture")
    path = picture(tmp_path / "a.png")
    nearest = (("", "b/1.jpg"), (str(tmp_path / "gone.jpg"), "b/2.jpg"), (str(tmp_path / "text.jpg"), "b/3.jpg"))
    texts = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda pen, place, text, *rest, **settings: texts.append(text))
    draw_explanation(path, "", {"day": 1.0}, Evidence("day", "night", np.eye(4), nearest))
    assert texts[-6::2] == ["picture not found", "picture not found", "picture unreadable"]
    assert texts[-5::2] == ["b/1.jpg", "b/2.jpg", "b/3.jpg"]
    names = [f"{'film' * 9}/{'shot' * 99}/{number}.jpg" for number in (1, 2)]
    draw_explanation(path, "", {"day": 1.0}, Evidence("day", "night", np.eye(4), tuple(("", name) for name in names)))
    assert [text[:6] + text[-5:] for text in texts[-3::2]] == ["filmfi1.jpg", "filmfi2.jpg"]


def test_a_drawing_of_a_file_that_is_gone_is_refused(tmp_path):
    with pytest.raises(SkippedFrame):
        draw_explanation(str(tmp_path / "gone.png"), "", {"day": 1.0}, Evidence("day", "night", np.eye(4)))


def test_prototypes_and_evidence_share_a_stored_picture(data, read):
    path = data.results[0].paths[0]
    report = read(replace(data, prototypes=[Prototype("day", 0, 1, (path,))]))
    assert report.source.count('<image id="v') == 4
