"""``--json`` of every command: one head, one schema, and nothing else on standard output with ``-``."""

import json
from functools import partial
from importlib.resources import files

import numpy as np
import pytest
from commands import framecnn, quick, train_quickly
from json_schema import problems
from movies import shots, write_movie
from test_cli_compare import ARGUMENTS, Script

from framecnn import DenseLayer, InputLayer, Sequential
from framecnn.cli import _COMMANDS, compare
from framecnn.cli.outputs import write_json
from framecnn.comparison import Comparison
from framecnn.version import __version__

SCHEMA = json.loads(files("framecnn.cli").joinpath("results.schema.json").read_text("utf-8"))
COMMANDS = {
    "compare": ("films", *ARGUMENTS),
    "doctor": (),
    "evaluate": ("model.safetensors", "films"),
    "export": ("model.safetensors", "model.onnx"),
    "frames": ("film.mp4", "--out", "cut", "--replace"),
    "predict": ("model.safetensors", "films/down", "film.mp4", "gone.jpg"),
    "scan": ("films",),
    "summary": ("model.safetensors",),
    "train": ("films", "--out", "new.safetensors", "--size", "24x32"),
    "warmup": (),
}
EXIT_CODES = {"predict": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = train_quickly(tmp_path_factory.mktemp("trained"))
    write_movie(folder / "film.mp4", shots(30, 30))
    return folder


@pytest.fixture(autouse=True)
def here(trained, monkeypatch):
    quick(monkeypatch)
    monkeypatch.chdir(trained)
    monkeypatch.setattr(compare, "Comparison", partial(Comparison, run=Script()))
    monkeypatch.setattr(compare, "compile_kernels", lambda size: None)


def refuse(constant):
    pytest.fail(f"{constant} is not JSON")


def test_every_command_has_json():
    assert COMMANDS.keys() | {"demo"} == _COMMANDS.keys()
    assert SCHEMA["properties"]["command"]["enum"] == sorted(COMMANDS)
    for command in _COMMANDS:
        assert "--json FILE" in framecnn(command, "-h").out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_json_of_a_command_follows_the_schema_in_a_file_and_alone_on_standard_output(command, tmp_path):
    path = tmp_path / "made" / "figures.json"
    for target in (path, "-", path):
        ended = framecnn(command, *COMMANDS[command], "--json", target)
        assert ended.code == EXIT_CODES.get(command, 0), ended.err
        text = ended.out if target == "-" else path.read_text("ascii")
        found = json.loads(text, parse_constant=refuse)
        assert list(problems(found, SCHEMA, SCHEMA)) == []
        assert list(found)[:4] == ["written_by", "schema", "command", "version"]
        assert (found["written_by"], found["version"]) == (f"framecnn {command} {__version__}", __version__)
        assert (target == "-") == ended.out.startswith("{")


def test_lists_of_numbers_are_one_line_and_texts_stay_as_they_are(tmp_path):
    texts = ["[ 1,\n 2 ]", "[\n", " 3\n]", 'a "[\n 4 ]" b']
    data = {"confusion": np.eye(300, dtype=int).tolist(), "none": [], "mixed": [1.5e-7, None, True, [], {}], "a": texts}
    write_json(tmp_path / "a.json", "scan", data)
    text = (tmp_path / "a.json").read_text("ascii")
    assert data.items() <= json.loads(text).items()
    assert len(text.splitlines()) < 300 + 40
    assert len(text) < 300 * 300 * 2 + 300 * 10


def test_after_an_error_standard_output_is_empty():
    for arguments in (["evaluate", "gone", "films"], ["predict", "gone", "films"]):
        ended = framecnn(*arguments, "--json", "-")
        assert (ended.code, ended.out) == (2, "")


def test_later_commands_print_again():
    assert framecnn("summary", "model.safetensors", "--json", "-").out.startswith("{")
    assert framecnn("summary", "model.safetensors").out.startswith("classes")


def test_the_summary_of_a_network_has_its_layers(tmp_path):
    Sequential([InputLayer((2,)), DenseLayer(1)]).build().save(tmp_path / "m.safetensors")
    found = json.loads(framecnn("summary", tmp_path / "m.safetensors", "--json", "-").out)
    assert list(problems(found, SCHEMA, SCHEMA)) == []
    assert (found["model"], found["classes"], found["facts"]) == ("Sequential", [], {})
    assert [row["name"] for row in found["networks"][0]["layers"]] == ["input_1", "dense_1"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"totals": {"down": -1}}, "$.totals.down: -1 is too small"),
        ({"command": "predictions"}, "$.command: expected one of"),
        ({"movies": [{}]}, "$.movies[0]: label is missing"),
        ({"schema": 2}, "$.schema: expected 1, got 2"),
        ({"skipped": [{"path": 1, "reason": "x"}]}, "$.skipped[0].path: expected ['string'], got 1"),
        ({"pictures": [{"probability": 1.5}]}, "$.pictures[0].probability: 1.5 is too large"),
    ],
)
def test_the_schema_finds_faults(change, problem):
    head = {"written_by": "", "schema": 1, "command": "predict", "version": ""}
    body = {
        "model": "",
        "totals": {},
        "outlier_threshold": 1.5,
        "classes": [],
        "pictures": [],
        "movies": [],
        "skipped": [],
    }
    assert list(problems(head | body, SCHEMA, SCHEMA)) == []
    assert any(problem in found for found in problems(head | body | change, SCHEMA, SCHEMA))
