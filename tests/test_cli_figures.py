"""What ``framecnn train`` says about accuracy: the main figure, the verdict, the table of predictions."""

import csv
import json
import re

import pytest
from commands import framecnn, new_films, quick, write_frames
from reports import Report

SIZE = ("--size", "24x32")
quickly = pytest.fixture(autouse=True)(quick)
films = pytest.fixture(new_films)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "model.safetensors"


def test_the_main_figure_of_a_small_folder_is_the_out_of_fold_estimate(films, out):
    figures = out.with_name("figures.json")
    said = framecnn("train", films, "-o", out, *SIZE, "--json", figures).out
    pattern = (
        r"\n\nout-of-fold accuracy +[\d.]+ % \(95 % interval .*; 30 frames of 15 groups, 3 repeats of 4 folds\)\ntest "
    )
    assert re.search(pattern, said)
    assert json.loads(figures.read_text())["main"] == "out-of-fold"
    words = Report(out.with_name("report.html").read_text(encoding="utf-8")).words
    assert "This is the out-of-fold estimate: in each of 3 repeats, the 15 groups are divided into 4 folds" in words


def test_labels_that_mean_nothing_are_said_to_mean_nothing(tmp_path, out):
    films = write_frames(tmp_path / "films", n_groups=12)
    lines = (films / "frames.csv").read_text().splitlines()
    table = [lines[0]]
    for line in lines[1:]:
        path, _, group = line.split(",")
        label = ("heads", "tails")[int(group.split()[1]) % 2]
        target = films / label / path.replace("/", "_")
        target.parent.mkdir(exist_ok=True)
        (films / path).rename(target)
        table.append(f"{label}/{target.name},{label},{group}")
    (films / "frames.csv").write_text("\n".join(table))
    for name in ("across", "blobs", "down"):
        (films / name).rmdir()
    figures = out.with_name("figures.json")
    ended = framecnn("train", films, "-o", out, *SIZE, "--json", figures)
    assert ended.code == 0, ended.err
    found = json.loads(figures.read_text())
    assert re.match("(Not better|Worse|No evidence that the model is better) than", found["verdict"])
    assert found["reasons"]
    assert found["suspects"] == []
    lines = ended.out.splitlines()
    first = lines.index(found["verdict"])
    assert lines[first + 1] == f"  - {found['reasons'][0]}"
    assert any(line.startswith("out-of-fold accuracy") for line in lines[first:])
    report = Report(out.with_name("report.html").read_text(encoding="utf-8")).words
    assert 0 < report.index(found["verdict"]) < report.index("out-of-fold estimate")


def test_classes_that_the_main_figure_does_not_cover_are_named_and_one_class_alone_is_no_evidence(tmp_path):
    films = write_frames(tmp_path / "films", n_groups=6)
    table = films / "frames.csv"
    only = {name: f"{name} 0" for name in ("blobs", "down")}
    rows = [row.split(",") for row in table.read_text().splitlines()]
    table.write_text("\n".join(",".join([path, label, only.get(label, group)]) for path, label, group in rows))
    ended = framecnn("train", films, "-o", tmp_path / "m.safetensors", *SIZE, "--json", tmp_path / "f.json")
    assert ended.code == 0, ended.err
    assert "warning: no frames of blobs, down: the accuracy does not cover these classes\n" in ended.err
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["verdict"] == "No evidence that the classes can be told apart: this figure covers only 'across'."
    assert found["reasons"][0].startswith("It has no frames of blobs, down. A class needs at least two groups")
    assert "out-of-fold" not in found["results"]
    assert found["results"]["held-out"]["by_class"]["down"]["support"] == 0
    assert found["suspects"] == []


def test_the_table_of_predictions_may_go_elsewhere(films, out):
    table = out.with_name("elsewhere.csv")
    assert framecnn("train", films, "-o", out, *SIZE, "--predictions", table).code == 0
    assert not out.with_name("predictions.csv").exists()
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert {row["part"] for row in rows} == {"training", "validation", "test"}
    assert {row["fold"] for row in rows} == {"out-of-fold"}
