"""``framecnn train``: a folder of frames becomes a model, a report and a manifest."""

import csv
import json
import os
import re
import subprocess
import sys
from functools import partial

import pytest
from commands import fingerprint, framecnn, new_films, quick, refused, write_frames

from framecnn import FrameFolder, load
from framecnn.cli import console, figures, workflow
from framecnn.estimators import features
from framecnn.kernels import jit

SIZE = ("--size", "24x32")
quickly = pytest.fixture(autouse=True)(quick)
films = pytest.fixture(new_films)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "model.safetensors"


def first_frame(films, name):
    return min((films / name).iterdir())


def manifest(out):
    with open(out.with_name("manifest.csv"), encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_training_writes_a_model_a_report_a_manifest_and_figures(films, out):
    broken = first_frame(films, "across")
    broken.write_bytes(b"\xff\xd8\xff broken")
    ended = framecnn("train", films, "--out", out, *SIZE, "--json", out.with_name("figures.json"))
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in out.parent.iterdir()) == [
        *("figures.json", "manifest.csv", "model.safetensors", "predictions.csv", "report.html")
    ]
    assert load(out).classes_.tolist() == ["across", "blobs", "down"]
    assert load(out).features_.frame_shape_ == (24, 32, 3)
    report = out.with_name("report.html").read_text()
    assert "<html" in report
    assert f"across/{broken.name}" in report
    figures = json.loads(out.with_name("figures.json").read_text())
    assert (figures["found"], figures["used"], len(figures["skipped"])) == (30, 29, 1)
    assert (figures["folder"], figures["size"], figures["seed"]) == ("films", [24, 32], 0)
    assert figures["results"]["test"]["accuracy"] > 0.6
    assert sum(row["frames"] for row in figures["split_table"]) == 29
    assert [row["status"] for row in manifest(out)].count("used") == 29
    assert [row["path"] for row in manifest(out) if row["status"] == "skipped"] == [f"across/{broken.name}"]


def test_every_step_is_printed(films, out):
    first_frame(films, "across").write_bytes(b"")
    said = framecnn("train", films, "-o", out, *SIZE).out
    assert said.startswith(
        "frames   29 of 3 classes: across, blobs, down\n"
        "groups   15 (from frames.csv)\n"
        "meaning  expect this accuracy on groups that were not trained on; if several groups are from one film, add a "
        "column movie, else the model may only recognise the film\n"
        "skipped  1 of 30 files (1 empty)\n"
        "\n"
        "split by group (from frames.csv), seed 0: 70 % training, 20 % validation, 10 % test of each class, as nearly "
        "as whole groups allow\n"
        "\n"
        "frames       training  validation  test\n"
        "across              "
    )
    assert re.search(r"^all classes +\d+ +\d+ +\d+$", said, re.MULTILINE)
    for part in ("training", "validation", "test"):
        line = rf"^{part} accuracy +\d+\.\d % \(95 % interval \d+\.\d to \d+\.\d; \d+ frames of \d groups\)$"
        assert re.search(line, said, re.MULTILINE)
    for line in (
        r"chosen on the training frames:",
        r"  kind of features +learned",
        r"  pooling grid +(whole frame|\dx\d) \(the simplest within the error of the best\)",
        r"  accuracy in cross-validation, whole frame +[\d.]+ %",
        r"  accuracy in cross-validation, 3x4 +[\d.]+ %",
        r"  ridge penalty \(alpha\) +[\d.e-]+",
        r"duration: scan [\d.]+ s, fit [\d.]+ s, evaluate [\d.]+ s, write [\d.]+ s",
        rf"wrote  {re.escape(str(out))} +the model",
        rf"       {re.escape(str(out.parent))}/report\.html +the report; open it in a browser",
        r"class +frames +precision +recall +F1 +frames mistaken for",
        rf"       {re.escape(str(out.parent))}/predictions\.csv +the predictions for all frames, with suspected .*",
        rf"       {re.escape(str(out.parent))}/manifest\.csv +the manifest: all files, used or skipped",
    ):
        assert re.search(f"^{line}$", said, re.MULTILINE), line


def test_the_folder_of_frames_is_only_read(films, out):
    for path in [*films.rglob("*"), films]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = fingerprint(films)
    assert framecnn("train", films, "-o", out, *SIZE).code == 0
    assert fingerprint(films) == before


def test_names_of_any_kind_are_in_the_model_the_manifest_and_the_report(tmp_path, out):
    names = ("日本 🎬 \u202e", "it's\n\"<script>alert(1)\x1b[31m", os.fsdecode(b"=caf\xe9()"))
    films = write_frames(tmp_path / "films\n\x1b[1m", names=names)
    ended = framecnn("train", films, "-o", out, *SIZE, "--json", out.with_name("figures.json"))
    assert ended.code == 0, ended.err
    assert load(out).classes_.tolist() == sorted(names)
    assert {row["label"].removeprefix("'") for row in manifest(out)} == set(names)
    assert set(json.loads(out.with_name("figures.json").read_text())["results"]["test"]["classes"]) == set(names)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\udce9]", ended.out + ended.err)
    assert r"it's\n" in ended.out
    report = out.with_name("report.html").read_text()
    assert "<script>alert" not in report
    assert "日本 🎬" in report


def test_a_random_split_comes_with_a_warning(films, out):
    ended = framecnn("train", films, "-o", out, *SIZE, "--split", "random", "--json", out.with_name("figures.json"))
    assert "split at random, not by group, seed 0: 70 % training" in ended.out
    warning = "The frames were split at random, not by group: near-duplicates of training frames are among the other"
    assert json.loads(out.with_name("figures.json").read_text())["warnings"][0].startswith(warning)
    assert warning in out.with_name("report.html").read_text()


def test_groups_may_come_from_another_file_or_from_the_frames_themselves(films, out):
    table = films.rename(films.with_name("elsewhere")) / "frames.csv"
    films = write_frames(films, with_groups=False)
    assert "groups   15 (from frames.csv)" in framecnn("train", films, "-o", out, *SIZE, "--groups", table).out
    assert (
        "(no groups given: only near-duplicates are kept together; if pictures come in series, give"
        in framecnn("train", films, "-o", out, *SIZE).out
    )


def test_a_class_of_one_group_is_used_for_training_with_a_warning(tmp_path, out):
    films = write_frames(tmp_path / "films")
    text = (films / "frames.csv").read_text()
    (films / "frames.csv").write_text(re.sub(r"across \d", "across 0", text))
    ended = framecnn("train", films, "-o", out, *SIZE)
    assert ended.code == 0
    assert [line for line in ended.err.splitlines() if line.startswith("warning: ")] == [
        "warning: class 'across' has one group only: all its frames are used for training, none for the test",
        "warning: no frames of across: the accuracy does not cover these classes",
    ]


def test_a_frame_that_vanishes_or_changes_is_reported_and_the_run_continues(films, out, monkeypatch):
    vanished, changed = first_frame(films, "across"), first_frame(films, "down")
    split = FrameFolder.split

    def losing(folder, *arguments, **options):
        if vanished.exists():
            vanished.unlink()
            changed.write_bytes(first_frame(films, "blobs").read_bytes())
        return split(folder, *arguments, **options)

    monkeypatch.setattr(FrameFolder, "split", losing)
    ended = framecnn("train", films, "-o", out, *SIZE, "--max-bad", "10")
    assert ended.code == 0, ended.err
    assert re.search(
        "^warning: [12] frames? vanished or changed during the run .*; starting again without them$", ended.err, re.M
    )
    skipped = {row["path"]: row["reason"] for row in manifest(out) if row["status"] == "skipped"}
    assert skipped == {f"across/{vanished.name}": "vanished", f"down/{changed.name}": "changed"}


def test_a_run_that_loses_too_many_frames_stops(films, out, monkeypatch):
    split = FrameFolder.split

    def losing(folder, *arguments, **options):
        for path in list((films / "across").iterdir())[:3]:
            path.unlink()
        return split(folder, *arguments, **options)

    monkeypatch.setattr(FrameFolder, "split", losing)
    ended = framecnn("train", films, "-o", out, *SIZE)
    assert ended.code == 2
    assert "error: films: expected at most 5 % of the files to be unusable, got 10.0 % (3 vanished); " in ended.err
    assert not out.exists()


def test_without_jinja2_the_model_is_written_and_a_warning_names_the_package(films, out, monkeypatch):
    report = out.with_name("report.html")
    report.write_text("<title>an older report – framecnn training report</title>")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    ended = framecnn("train", films, "-o", out, *SIZE)
    assert ended.code == 0
    assert ended.err.startswith(
        "warning: no report will be written (framecnn report: the package jinja2 is not installed; run: pip install "
        f"'framecnn[report]'); {report}, the report of an earlier model, will be removed\n"
    )
    assert "report.html" not in ended.out
    assert not report.exists()
    assert load(out).classes_.tolist() == ["across", "blobs", "down"]
    assert "earlier model" not in framecnn("train", films, "-o", out, *SIZE).err


def test_progress_is_plain_lines_without_a_terminal(films, out, monkeypatch):
    monkeypatch.setattr(console, "progress", partial(console.progress, show_after=0.0))
    err = framecnn("train", films, "-o", out, *SIZE).err
    assert re.search(r"^learning filters \.\.\.$", err, re.MULTILINE)
    assert not re.search("[\r\x1b]", err)


def test_the_first_run_announces_that_it_compiles(films, out, monkeypatch):
    monkeypatch.setattr(jit, "n_compiled", lambda: 0)
    assert "first run on this machine: compiling the kernels takes a few seconds, once\n" in (
        framecnn("train", films, "-o", out, *SIZE).out
    )


def test_a_split_of_many_classes_is_shortened(films, out, monkeypatch):
    for module in (workflow, figures):
        monkeypatch.setattr(module, "SHOWN_CLASSES", 2)
    said = framecnn("train", films, "-o", out, *SIZE).out
    assert "\nacross  " in said
    assert "\n1 more  " in said
    assert "\ndown  " not in said
    assert workflow.listed(["a", "b", "c"], 2) == "a, b and 1 more"


def test_hidden_files_and_notes_beside_the_classes_are_not_bad_frames(films, out):
    for name in (".DS_Store", "across/.DS_Store", "blobs/._001.jpg", "notes.txt"):
        (films / name).write_text("no frame")
    assert "skipped  4 of 34 files (3 hidden, 1 not-a-picture)" in framecnn("train", films, "-o", out, *SIZE).out


def test_files_without_a_row_in_the_table_are_not_unusable_and_the_warning_says_to_add_rows(films, out):
    lines = (films / "frames.csv").read_text().splitlines(keepends=True)
    (films / "frames.csv").write_text("".join(lines[:1] + lines[1::2]))
    ended = framecnn("train", films, "-o", out, *SIZE)
    assert ended.code == 0, ended.err
    assert "skipped  15 of 30 files (15 not-in-csv)" in ended.out
    assert "no row for them: 15 (first: 'across/" in ended.err
    assert "add rows for them to use them" in ended.err
    first_frame(films, "down").write_bytes(b"")
    empty = next(line.split(",")[0] for line in lines[1::2])
    (films / empty).write_bytes(b"")
    assert "expected at most 5 % of the files to be unusable, got 6.7 % (" in framecnn("train", films, "-o", out).err


def test_the_error_for_too_many_bad_files_counts_only_these(films, out):
    for name in (".DS_Store", "notes.txt"):
        (films / name).write_text("no frame")
    for name in ("across", "blobs"):
        first_frame(films, name).write_bytes(b"")
    ended = framecnn("train", films, "-o", out, *SIZE)
    assert "skipped  4 of 32 files (2 empty, 1 hidden, 1 not-a-picture)" in ended.out
    assert "expected at most 5 % of the files to be unusable, got 6.7 % (2 empty); repair" in ended.err


def test_a_second_model_in_a_folder_leaves_the_report_and_the_manifest_of_the_first(films, out):
    assert framecnn("train", films, "-o", out, *SIZE).code == 0
    before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert framecnn("train", films, "-o", out.with_name("other.safetensors"), *SIZE, "--seed", "1").code == 0
    assert {name: out.with_name(name).read_bytes() for name in before} == before
    assert {path.name for path in out.parent.iterdir()} - set(before) == {
        *("other.safetensors", "other.report.html", "other.manifest.csv", "other.predictions.csv")
    }


def test_too_many_bad_files_stop_the_run_unless_they_are_allowed(films, out):
    for name in ("across", "blobs", "down"):
        first_frame(films, name).write_bytes(b"")
    ended = framecnn("train", films, "-o", out, *SIZE)
    assert ended.code == 2
    assert ended.err.endswith(
        "error: films: expected at most 5 % of the files to be unusable, got 10.0 % (3 empty); repair or remove them "
        "(framecnn scan lists them), or raise --max-bad\n"
    )
    assert list(out.parent.iterdir()) == []
    assert framecnn("train", films, "-o", out, *SIZE, "--max-bad", "10").code == 0


def test_only_files_of_an_earlier_run_are_replaced(films, out):
    arguments = ("train", films, "-o", out, *SIZE, "--json", out.with_name("figures.json"))
    names = ("model.safetensors", "report.html", "manifest.csv", "predictions.csv", "figures.json")
    for mine in map(out.with_name, names):
        mine.write_text("my notes")
        assert refused(*arguments) == (
            f"{mine}: the file exists and was not written by this command; move it or choose another name"
        )
        assert mine.read_text() == "my notes"
        mine.write_text("")
    for _ in range(2):
        assert framecnn(*arguments).code == 0
    assert all(out.with_name(name).stat().st_size for name in names)


def test_a_folder_that_cannot_be_written_to_is_refused_before_work_starts(films, out, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # a superuser may write everywhere
    assert "is read-only; choose another" in refused("train", films, "-o", out)


def test_a_file_that_another_program_holds_open_is_refused_before_the_scan(films, out, monkeypatch):
    real, opened = open, []

    def opening(file, mode="r", *arguments, **options):
        opened.append(str(file))
        if str(file).endswith("manifest.csv") and "+" in mode:
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, mode, *arguments, **options)

    out.with_name("manifest.csv").write_text("path,label,group,status,\n")
    monkeypatch.setattr("builtins.open", opening)
    message = r"manifest\.csv: expected a file that can be replaced, but .* \(Permission denied\); close it in other"
    assert re.search(message, refused("train", films, "-o", out))
    assert not any("films" in path for path in opened)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root.mkdir(), "no class folder, at least two are needed"),
        (lambda root: (root / "across").mkdir(parents=True), "only one class folder ('across')"),
        (
            lambda root: write_frames(root).joinpath("left").mkdir(),
            "the class 'left' holds no usable frame",
        ),
    ],
)
def test_the_error_for_a_folder_of_a_wrong_structure_shows_the_expected_one(tmp_path, out, make, message):
    make(tmp_path / "films")
    ended = framecnn("train", tmp_path / "films", "-o", out)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert (
        ". Expected one folder per class, with its frames:\n    films/\n        sintel/\n            001.jpg\n"
        in ended.err
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FRAMECNN_NUM_THREADS", "expected a positive integer, got 'nonsense'; unset it"),
        ("FRAMECNN_ISA", "expected one of avx512, avx2, neon, plain, got 'nonsense'; unset it"),
    ],
)
def test_an_invalid_setting_is_one_line(films, out, name, message):
    command = [sys.executable, "-m", "framecnn", "train", films, "-o", out]
    ended = subprocess.run(command, env=os.environ | {name: "nonsense"}, capture_output=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout.decode()) == (2, "")
    assert ended.stderr.decode() == f"error: {name}: {message}\n"


def test_the_smallest_frames_can_be_trained_on(films, out):
    assert framecnn("train", films, "-o", out, "--size", "8x8").code == 0


def test_a_third_of_the_films_is_classified_correctly(shared_data, tmp_path, out, monkeypatch):
    """Use real frames, every third shot of each of the six films, and a tenth of the default filters."""
    monkeypatch.setattr(features, "SMALL_FRAME_FILTERS", 300)
    monkeypatch.setattr(features, "PATCHES", 20_000)
    with open(shared_data / "films" / "frames.csv", newline="") as file:
        frames = list(csv.DictReader(file))
    kept = set()
    for name in sorted({frame["label"] for frame in frames}):
        kept.update(sorted({frame["group"] for frame in frames if frame["label"] == name})[::3])
    with open(tmp_path / "groups.csv", "w", newline="") as file:
        table = csv.DictWriter(file, frames[0].keys())
        table.writeheader()
        table.writerows(frame for frame in frames if frame["group"] in kept)
    figures = out.with_name("figures.json")
    options = ("--groups", tmp_path / "groups.csv", "--size", "48x72", "--json", figures)
    ended = framecnn("train", shared_data / "films", "-o", out, *options)
    assert ended.code == 0, ended.err
    results = json.loads(figures.read_text())["results"]
    assert len(results["test"]["classes"]) == 6
    right = sum(results[part]["accuracy"] * results[part]["n_frames"] for part in ("validation", "test"))
    assert right / (results["validation"]["n_frames"] + results["test"]["n_frames"]) > 0.6
    assert "<html" in out.with_name("report.html").read_text()
