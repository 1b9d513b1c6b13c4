"""``framecnn predict``, ``evaluate``, ``summary`` and ``scan``, on a trained model and a folder."""

import csv
import io
import json
import os
import re
import sys
from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from commands import fingerprint, framecnn, refused, train_quickly, write_frames
from PIL import Image
from textures import textures

from framecnn import DenseLayer, FrameClassifier, FrameFolder, InputLayer, Sequential, save
from framecnn.cli import console, predict
from framecnn.cli.options import frame_size
from framecnn.cli.predictions import Predictions
from framecnn.estimators import features


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_quickly(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def model(trained):
    return trained / "model.safetensors"


@pytest.fixture
def films(trained):
    return trained / "films"


@pytest.fixture
def pictures(tmp_path):
    """Return a folder of new frames, of files that cannot be read, and of names with markup and control characters."""
    folder = write_frames(tmp_path / "new", n_groups=1, with_groups=False)
    (folder / "across" / "empty.jpg").touch()
    (folder / "down" / "text.jpg").write_text("no picture")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.jpg").write_text("not looked at")
    return folder


def predictions(*arguments):
    """Return the JSON of predictions, for which standard output is kept."""
    return json.loads(framecnn("predict", *arguments, "--json", "-").out)


def copy(frame, path):
    path.write_bytes(frame.read_bytes())
    return path


def test_pictures_are_classified_and_unreadable_files_are_named(model, pictures):
    before = fingerprint(pictures)
    ended = framecnn("predict", model, pictures)
    assert fingerprint(pictures) == before
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert re.fullmatch(r"picture +label +probability", lines[0])
    right = [re.match(rf"{pictures}/(\w+)/\d+\.jpg +\1 +\d+\.\d %", line) for line in lines[1:7]]
    assert sum(map(bool, right)) >= 5
    assert ended.err.splitlines() == [
        f"warning: skipped {pictures}/across/empty.jpg: the file has no bytes",
        f"warning: skipped {pictures}/down/text.jpg: not a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC file",
    ]


def test_a_picture_has_the_same_label_alone_and_in_a_batch(model, films):
    frames = sorted((films / "blobs").iterdir())[:3]
    together = predictions(model, *frames)["pictures"]
    alone = [predictions(model, frame)["pictures"][0] for frame in frames]
    assert alone == together


def test_totals_are_printed_for_folders_and_a_folder_of_classes_is_pointed_out(model, films):
    ended = framecnn("predict", model, films)
    table = re.findall(r"^(across|blobs|down|none of these .*\)) +(\d+) +[\d.]+ %$", ended.out, re.MULTILINE)
    rows = predictions(model, films)["pictures"]
    far = "none of these (out-of-distribution)"
    expected = Counter(far if row["out_of_distribution"] else row["label"] for row in rows)
    assert {name: int(n) for name, n in table} == expected
    assert "\n36 pictures\n" in ended.out
    assert ended.out.endswith(f"{films} has a folder for each class: framecnn evaluate measures the accuracy on it\n")
    assert "1 picture" not in framecnn("predict", model, next((films / "down").iterdir())).out


def test_a_picture_that_is_named_twice_is_predicted_once(model, films, monkeypatch):
    monkeypatch.chdir(films)
    frame = next((films / "down").iterdir())
    (films / "model.safetensors").symlink_to(model)
    rows = predictions(model, films, films / "down", "down", frame)["pictures"]
    assert len(rows) == len({row["path"] for row in rows}) == 36
    (films / "model.safetensors").unlink()


def test_models_beside_pictures_are_no_pictures(model, films, tmp_path):
    (tmp_path / "new").mkdir()
    copy(next((films / "down").iterdir()), tmp_path / "new" / "1.jpg")
    for name in ("m.safetensors", "m.onnx", "m.keras"):
        (tmp_path / "new" / name).write_bytes(b"x")
    assert framecnn("predict", model, tmp_path / "new").err == ""


def test_why_a_file_cannot_be_read_is_said_in_words(model, pictures):
    said = refused("predict", model, pictures / "down" / "text.jpg")
    assert said == f"predict: {pictures}/down/text.jpg: not a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC file"


def test_a_missing_file_is_named_and_the_others_are_predicted(model, films, tmp_path):
    frames = sorted((films / "down").iterdir())
    ended = framecnn("predict", model, frames[0], tmp_path / "gone.jpg", frames[1])
    assert (ended.code, ended.out.count("down/")) == (1, 2)
    assert ended.err == f"warning: skipped {tmp_path}/gone.jpg: there is no such file; check the path\n"
    assert framecnn("predict", model, films / "down").code == 0


@pytest.mark.parametrize("names", [["gone.jpg"], ["gone.jpg", "gone.png"]])
def test_the_json_lists_missing_files_also_if_there_are_no_others(model, tmp_path, monkeypatch, names):
    monkeypatch.chdir(tmp_path)
    ended = framecnn("predict", model, *names, "--json", "f.json", "--predictions", "p.csv")
    assert ended.code == 2
    found = json.loads((tmp_path / "f.json").read_text())
    assert [row["path"] for row in found["skipped"]] == names
    assert (tmp_path / "p.csv").read_text().startswith("path,part,")
    assert predictions(model, *names) == found


def test_the_table_of_predictions_has_every_probability(model, films, tmp_path):
    table = tmp_path / "predictions.csv"
    for _ in range(2):
        ended = framecnn("predict", model, films / "down", "--predictions", table)
        assert (ended.code, ended.err) == (0, f"wrote {table}\n")
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    for row, expected in zip(rows, predictions(model, films / "down")["pictures"], strict=True):
        assert (row["path"], row["prediction"]) == (expected["path"], expected["label"])
        assert {name: float(row[f"probability:{name}"]) for name in ("across", "blobs", "down")} == pytest.approx(
            expected["probabilities"], abs=1e-5
        )


def test_folders_without_a_readable_picture_are_refused(model, films, tmp_path):
    (tmp_path / "empty").mkdir()
    frame = next((films / "down").iterdir())
    assert f"got only {str(frame)!r}, taken as MODEL" in refused("predict", frame)
    assert "expected PATH or --random-from FOLDER, got both" in refused("predict", model, frame, "--random-from", films)
    assert "expected a folder to draw from" in refused("predict", model, "--random-from", frame)
    assert "expected at least one picture or movie, got folders without a file; check the paths" in refused(
        "predict", model, "--random-from", tmp_path / "empty"
    )


def test_json_has_all_results(model, pictures):
    found = predictions(model, pictures)
    assert (found["model"], found["classes"]) == (str(model), ["across", "blobs", "down"])
    assert sum(found["totals"].values()) == len(found["pictures"]) == 6
    for row in found["pictures"]:
        assert set(row["probabilities"]) == {"across", "blobs", "down"}
        assert row["probability"] == max(row["probabilities"].values()) == row["probabilities"][row["label"]]
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["out_of_distribution"] is (row["outlier_score"] > found["outlier_threshold"])
    assert [row["reason"].split(":")[0] for row in found["skipped"]] == ["empty", "not-an-image"]


def test_csv_has_one_row_per_picture(model, pictures):
    rows = list(csv.DictReader(io.StringIO(framecnn("predict", model, pictures, "--csv").out)))
    told = predictions(model, pictures)
    for row, expected in zip(rows, told["pictures"] + told["skipped"], strict=True):
        assert row["path"] == expected["path"]
        assert row["label"] == expected.get("label", "")
        assert row["probability"] == str(expected.get("probability", ""))
        for column in ("outlier_score", "out_of_distribution"):
            assert row[column] == str(expected.get(column, ""))
        assert row["skipped"] == expected.get("reason", "")


def test_names_of_any_kind_are_kept_and_never_interpreted(model, films, tmp_path, monkeypatch):
    names = [
        "日本 🎬.jpg",
        "two\nlines.jpg",
        'quote",".jpg',
        "\x1b[31mred.jpg",
        os.fsdecode(b"caf\xe9.jpg"),
        "=cmd().jpg",
    ]
    for name in names:
        copy(next((films / "down").iterdir()), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    as_json = predictions(model, ".")["pictures"]
    assert {row["path"] for row in as_json} == set(names)
    as_csv = csv.DictReader(io.StringIO(framecnn("predict", model, ".", "--csv").out, newline=""))
    assert {row["path"] for row in as_csv} == {*names[:-1], "'=cmd().jpg"}
    shown = framecnn("predict", model, ".").out
    assert len(shown.splitlines()) == 11
    assert "\x1b" not in shown


def test_csv_on_a_terminal_has_no_control_characters(films, tmp_path, monkeypatch):
    copy(next((films / "down").iterdir()), tmp_path / "\x1b[31mred.jpg")
    found = Predictions([], pictures=[{"path": str(next(tmp_path.iterdir()))}])
    assert b"\x1b" in predict._csv(found)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: True))
    assert rb"\x1b[31mred.jpg" in predict._csv(found)


def test_an_out_of_distribution_picture_is_marked(model, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert framecnn("predict", model, tmp_path / "noise.png").out.rstrip().endswith("far from the training frames")


def test_a_folder_that_cannot_be_listed_is_named(model, films, monkeypatch):
    walk = os.walk

    def forbidden(top, onerror):
        onerror(PermissionError(13, "Permission denied", f"{top}/secret"))
        return walk(top)

    monkeypatch.setattr(os, "walk", forbidden)
    ended = framecnn("predict", model, films / "down")
    assert ended.code == 0
    assert f"warning: skipped the folder {films}/down/secret: Permission denied\n" in ended.err


@pytest.mark.parametrize("options", [[], ["--json", "-"], ["--csv"]])
def test_no_readable_picture_is_an_error(model, tmp_path, options):
    for name in ("text.jpg", "notes.jpg"):
        (tmp_path / name).write_text("no picture")
    ended = framecnn("predict", model, tmp_path, *options)
    assert ended.code == 2
    assert ended.err.endswith(
        "error: predict: expected at least one picture or movie, got 2 files that cannot be read; check the paths\n"
    )
    assert options or ended.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["MODEL", "gone.jpg"],
            "predict: gone.jpg: there is no such file; check the path",
        ),
        (
            ["MODEL", "empty"],
            "predict: expected at least one picture or movie, got folders without a file; check the paths",
        ),
        (["MODEL"], "expected MODEL and PATH, or MODEL and --random-from FOLDER, got only"),
        (["MODEL", "empty", "--json", "-", "--csv"], "Invalid value: expected --json - or --csv, got both"),
        (["MODEL", "empty", "--every", "soon"], "expected a duration such as 1s"),
        (["MODEL", "empty", "--every", "1ms"], "Invalid value for '--every': expected at least 0.01s, got 0.001s"),
        (["a.jpg", "MODEL"], "a.jpg: expected a model first, got a picture or a movie; name the model before it"),
        (["gone", "empty"], "gone: expected a model, but there is no such file; framecnn train writes one"),
        (["empty", "empty"], "empty: expected a model file, got a folder or a device; name the file"),
        (["text", "empty"], "text: expected a framecnn model (.safetensors), got 4 bytes without a complete header"),
        (
            ["network", "empty"],
            "network: expected a classifier of 8-bit colour frames, got a Sequential; framecnn",
        ),
        (
            ["vectors", "empty"],
            "vectors: expected a classifier of 8-bit colour frames, got a classifier of feature vectors",
        ),
        (
            ["grey", "empty"],
            "grey: expected a classifier of 8-bit colour frames, got a classifier of frames with 1 channels",
        ),
        (
            ["float", "empty"],
            "float: expected a classifier of 8-bit colour frames, got a classifier of frames whose values are not 0",
        ),
        (
            ["deep", "empty"],
            "deep: expected a classifier of 8-bit colour frames, got a classifier of frames whose values are not 0",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_line(models, model, arguments, message, monkeypatch):
    monkeypatch.chdir(models)
    arguments = [model if argument == "MODEL" else argument for argument in arguments]
    assert message in refused("predict", *arguments)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return a folder with models of every kind that cannot label pictures, and other files."""
    folder = tmp_path_factory.mktemp("models")
    frames, labels, groups = textures(4)
    (folder / "empty").mkdir()
    (folder / "text").write_text("text")
    save(Sequential([InputLayer((2,)), DenseLayer(1)]).build(), folder / "network")
    inputs = {
        "vectors": np.random.default_rng(0).normal(size=(len(frames), 3)),
        "grey": frames[..., :1],
        "float": frames / 255,
        "deep": frames.astype(np.uint16) * 256,
    }
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(features, "PATCHES", 2000)
        for name, x in inputs.items():
            FrameClassifier(n_filters=4, random_state=0).fit(x, labels, groups).save(folder / name)
        FrameClassifier(n_filters=4, random_state=0, projection=None).fit(frames, labels, groups).save(folder / "plain")
    return folder


def test_a_plain_head_classifies_pictures_too(models, films):
    assert framecnn("predict", models / "plain", films / "down").code == 0


def test_progress_is_plain_lines_without_a_terminal(model, films, monkeypatch):
    monkeypatch.setattr(console, "progress", partial(console.progress, show_after=0.0))
    assert framecnn("predict", model, films / "down").err == "predicting ...\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "gone"], "expected a folder of frames, got 'gone', which does not exist"),
        (["gone", "FILMS"], "gone: expected a model, but there is no such file; framecnn train writes one"),
        (["text", "FILMS"], "text: expected a framecnn model"),
        (["network", "FILMS"], "network: expected a classifier of 8-bit colour frames, got a Sequential"),
        (["MODEL", "FILMS", "--json", "text/f.json"], "text' is none; choose another"),
        (["MODEL", "FILMS", "--json", "empty"], "empty: expected a file to write, got a folder or a device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_of_evaluate_are_one_line(models, model, films, arguments, message, monkeypatch):
    monkeypatch.chdir(models)
    places = {"MODEL": model, "FILMS": films}
    assert message in refused("evaluate", *(places.get(argument, argument) for argument in arguments))


def test_summary_prints_the_contents_of_a_model(model, models):
    said = framecnn("summary", model).out
    assert "classes                                    3: across, blobs, down\n" in said
    assert "24x32 pixels, 3 channels, each also flipped left to right\n" in said
    assert re.search(r"^head +3 clusters in 3 dimensions$", said, re.MULTILINE)
    assert re.search(r"^filter_bank_1 +19 x 27 x 24 ", said, re.MULTILINE)
    assert "\n\nnetwork 1 of 1, for frames of 24x32 pixels\nlayer " in said
    said = framecnn("summary", models / "network").out
    assert said.startswith("layer ")
    assert "dense_1" in said
    assert re.match("classes +3: across, blobs, down\nfeatures +3\n", framecnn("summary", models / "vectors").out)
    assert "alpha" not in framecnn("summary", models / "plain").out
    assert "no such file" in refused("summary", models / "gone")


def test_scan_finds_the_groups_of_a_training_at_the_same_size(tmp_path):
    films = write_frames(tmp_path / "films", with_groups=False)
    for size in ("8x8", "24x32"):
        line = f"groups   {len(np.unique(FrameFolder(films, size=frame_size(size)).groups))} (no groups given"
        assert line in framecnn("scan", films, "--size", size).out


def test_scan_lists_classes_and_what_cannot_be_used(tmp_path):
    films = write_frames(tmp_path / "films", n_groups=4)
    empty, png = min((films / "down").iterdir()), max((films / "down").iterdir())
    empty.write_bytes(b"")
    Image.new("RGB", (32, 24)).save(png, "PNG")
    before = fingerprint(films)
    ended = framecnn("scan", films, "--manifest", tmp_path / "m.csv")
    assert (ended.code, ended.err, fingerprint(films)) == (0, "", before)
    assert (
        "\n\nclass   frames  groups\nacross       8       4\nblobs        8       4\ndown         7       4\n"
        in ended.out
    )
    assert re.search(rf"^skipped +reason\ndown/{empty.name}  empty +the file has no bytes$", ended.out, re.MULTILINE)
    assert re.search(rf"^used +note\ndown/{png.name}  extension-mismatch$", ended.out, re.MULTILINE)
    assert ended.out.endswith(f"\n\nwrote  {tmp_path / 'm.csv'}\n")
    with open(tmp_path / "m.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)].count("used") == 23
    assert "m.csv: expected a file outside " in refused("scan", films, "--manifest", films / "m.csv")


def test_scan_lists_ten_skipped_files_and_counts_the_others(tmp_path):
    films = write_frames(tmp_path / "films")
    for number in range(12):
        (films / "down" / f"{number}.txt").write_text("x")
    said = framecnn("scan", films, "--size", "24x32").out
    assert said.count("files called .txt are not pictures\n") == 10
    assert "and 2 more; --manifest FILE lists all\n" in said
    said = framecnn("scan", films, "--size", "24x32", "--manifest", tmp_path / "m.csv").out
    assert f"and 2 more, in {tmp_path / 'm.csv'}\n" in said
