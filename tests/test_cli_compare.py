"""``framecnn compare``: one command, figures after every fold, a page, and a second run that goes on."""

import json
import re

import numpy as np
import pytest
from commands import fingerprint, framecnn, refused, write_frames

from framecnn.cli import compare
from framecnn.comparison import CONTESTANTS, child, folds
from framecnn.errors import MissingExtraError
from framecnn.report import comparison as page

ARGUMENTS = ("--folds", "3", "--size", "24x32", "--network-size", "16x16")
TITLES = [contestant.title for contestant in CONTESTANTS.values()]


@pytest.fixture
def films(tmp_path):
    return write_frames(tmp_path / "films")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


class Script:
    """What contestants say instead of learning, and who is asked; it can fail at some asking."""

    def __init__(self):
        self.asked, self.fail_at, self.missing = [], None, ()

    def __call__(self, job):
        if self.fail_at == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append(job["contestant"])
        if job["contestant"] in self.missing:
            return {"missing": "the package keras is not installed; run: pip install 'framecnn[keras]'"}
        rng = np.random.default_rng(len(job["test"]["paths"]))
        probabilities = rng.dirichlet(np.ones(job["n_classes"]), len(job["test"]["paths"]))
        kept = {
            "learning_rate": 0.001,
            "augmented": True,
            "epochs": 9,
            "best_epoch": 7,
            "val_accuracy": 0.875,
            "seconds": 5.0,
        }
        return {
            "predictions": probabilities.argmax(axis=1).tolist(),
            "confidences": probabilities.max(axis=1).tolist(),
            "shown": probabilities[job["shown"]].tolist(),
            "train_seconds": 61.0,
            "frames_per_second": 1234.5,
            "peak_megabytes": 567.8,
            "model_bytes": 4_400_000,
            "device": "CPU",
            "chosen": kept if "network" in job["contestant"] else {"grid": "2x2", "alpha": None},
        }


@pytest.fixture(autouse=True)
def script(monkeypatch):
    script = Script()
    monkeypatch.setattr(folds, "run_apart", script)
    monkeypatch.setattr(compare, "compile_kernels", lambda size: None)
    return script


def test_one_command_gives_figures_and_a_page_and_only_reads_the_folder(films, out, script):
    before = fingerprint(films)
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "figures.json", "--report", out / "page.html")
    assert ended.code == 0, ended.err
    assert fingerprint(films) == before
    assert script.asked == 3 * list(CONTESTANTS)
    for fold in (1, 2, 3):
        assert re.search(rf"^fold {fold} of 3: k-means system \d+\.\d %, plain", ended.out, re.MULTILINE)
    for title in TITLES:
        row = rf"^{title} +\d+\.\d % \(\d+\.\d to \d+\.\d\) +61\.0 s +1,234 +568 MB +4\.4 MB +CPU$"
        assert re.search(row, ended.out, re.MULTILINE)
    figures = json.loads((out / "figures.json").read_text())
    assert figures["settings"]["network_size"] == [16, 16]
    assert [own["title"] for own in figures["contestants"].values()] == TITLES
    assert figures["missing"] == {}
    assert set(figures["machine"]) == {"cpu", "cores", "threads"}
    assert {"framecnn", "keras"} <= set(figures["versions"])
    assert [fold["fold"] for fold in figures["folds"]] == [1, 2, 3]
    text = (out / "page.html").read_text()
    for fold in figures["folds"]:
        assert fold["shown"].split("/")[1] in text
    for words in (
        *TITLES,
        "1 min 01 s",
        "learning rate 0.001, augmented, 87.5 % of the validation frames after epoch 7",
        "grid 2x2",
    ):
        assert words in text


def test_after_an_interruption_the_folds_that_are_done_stay_done(films, out, script):
    figures = out / "figures.json"
    script.fail_at = 2 * len(CONTESTANTS) + 1
    ended = framecnn("compare", films, *ARGUMENTS, "--json", figures)
    assert ended.code == 130
    assert "figures.json: 2 of 3 folds; --resume goes on from them" in ended.out
    assert len(json.loads(figures.read_text())["folds"]) == 2
    script.asked, script.fail_at = [], None
    ended = framecnn("compare", films, *ARGUMENTS, "--json", figures, "--resume")
    assert ended.code == 0
    assert script.asked == list(CONTESTANTS)
    assert len(json.loads(figures.read_text())["folds"]) == 3
    script.asked = []
    assert (
        framecnn("compare", films, *ARGUMENTS, "--json", figures, "--resume", "--report", out / "page.html").code == 0
    )
    assert script.asked == []
    assert (out / "page.html").exists()


def test_without_keras_the_others_are_compared_and_it_is_named(films, out, script):
    script.missing = ("keras_network",)
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "figures.json", "--report", out / "page.html")
    assert ended.code == 0
    said = "same network in Keras did not take part: the package keras is not installed; run: pip install"
    assert f"warning: {said}" in ended.err
    assert "keras_network" not in json.loads((out / "figures.json").read_text())["contestants"]
    assert "The same network in Keras did not take part" in (out / "page.html").read_text()


def test_without_jinja2_the_figures_are_kept(films, out, monkeypatch):
    def missing():
        raise MissingExtraError("framecnn report", "jinja2", "report")

    monkeypatch.setattr(page, "environment", missing)
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "figures.json", "--report", out / "page.html")
    assert ended.code == 0
    assert "no page was written (framecnn report: the package jinja2 is not installed" in ended.err
    assert [path.name for path in out.iterdir()] == ["figures.json"]


def test_what_cannot_be_is_refused_before_any_work(films, out, script):
    figures = out / "figures.json"
    assert "expected --json FILE to go on from, got --resume alone" in refused("compare", films, "--resume")
    assert "expected HEIGHTxWIDTH" in refused("compare", films, "--network-size", "big")
    figures.write_text("my own notes")
    assert "expected no file or one that framecnn wrote" in refused("compare", films, *ARGUMENTS, "--json", figures)
    figures.write_text('"settings" of nothing')
    ended = framecnn("compare", films, *ARGUMENTS, "--json", figures, "--resume")
    assert ended.code == 2
    assert "expected figures of framecnn compare, got no JSON; name another file" in ended.err
    assert script.asked == []


def test_a_contestant_that_fails_is_one_line(films, monkeypatch, out):
    monkeypatch.setattr(folds, "run_apart", child.run_apart)
    monkeypatch.setattr(child.sys, "executable", "false")
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "figures.json")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("error: compare: expected an outcome of the k-means system, but its")
    assert list(out.iterdir()) == []
