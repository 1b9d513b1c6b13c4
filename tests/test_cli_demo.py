"""``framecnn demo``: three real clips become a report in the current folder."""

import pytest
from commands import framecnn, quick, refused

from framecnn import load
from framecnn.cli.demo import CAUTION

quickly = pytest.fixture(autouse=True)(quick)


def test_the_demo_runs_all_steps_and_can_be_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        ended = framecnn("demo")
        assert ended.code == 0, ended.err
        assert [line.split(":")[0] for line in ended.out.splitlines()[:3]] == [
            *("bigbuckbunny", "bikes", "carphone_pristine")
        ]
        assert f"warning: {CAUTION}\n" in ended.err
        assert "test accuracy" in ended.out
        assert ended.out.endswith("  framecnn predict demo/model.safetensors PICTURE.jpg\n")
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [
        *("frames", "manifest.csv", "model.safetensors", "predictions.csv", "report.html")
    ]
    report = (tmp_path / "demo" / "report.html").read_text()
    assert CAUTION in report
    assert "<title>demo" in report
    assert load(tmp_path / "demo" / "model.safetensors").classes_.tolist() == [
        *("bigbuckbunny", "bikes", "carphone_pristine")
    ]
    picture = next((tmp_path / "demo" / "frames" / "bikes").iterdir())
    assert " bikes " in framecnn("predict", "demo/model.safetensors", picture).out


def test_a_folder_named_demo_of_the_user_is_not_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "report.html").write_text("mine")
    assert "the folder 'demo' exists and holds other files; run the demo in another folder" in refused("demo")
    assert (tmp_path / "demo" / "report.html").read_text() == "mine"


def test_a_file_named_demo_is_not_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("mine")
    assert "demo" in refused("demo")
    assert (tmp_path / "demo").read_text() == "mine"
