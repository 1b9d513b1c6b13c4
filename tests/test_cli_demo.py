"""``framecnn demo``: three real clips become a page in the current folder."""

import pytest
from commands import framecnn, quick, refused

from framecnn import load
from framecnn.cli.demo import CAUTION

quickly = pytest.fixture(autouse=True)(quick)


def test_the_demo_goes_the_whole_way_and_again(tmp_path, monkeypatch):
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
        *("frames", "manifest.csv", "model.safetensors", "report.html")
    ]
    page = (tmp_path / "demo" / "report.html").read_text()
    assert CAUTION in page
    assert "<title>demo" in page
    assert load(tmp_path / "demo" / "model.safetensors").classes_.tolist() == [
        *("bigbuckbunny", "bikes", "carphone_pristine")
    ]
    picture = next((tmp_path / "demo" / "frames" / "bikes").iterdir())
    assert " bikes " in framecnn("predict", "demo/model.safetensors", picture).out


def test_a_folder_demo_of_somebody_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "report.html").write_text("mine")
    assert "got other files in it; run it elsewhere" in refused("demo")
    assert (tmp_path / "demo" / "report.html").read_text() == "mine"


def test_a_file_called_demo_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text("mine")
    assert "demo" in refused("demo")
    assert (tmp_path / "demo").read_text() == "mine"
