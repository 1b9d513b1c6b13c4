"""No command overwrites a file of the user, writes into a folder that it reads, or replaces a link."""

import errno
import json

import pytest
from commands import fingerprint, framecnn, quick, refused, train_quickly, write_frames

from framecnn.cli.outputs import OutputSet
from framecnn.errors import DataError
from framecnn.storage import output_set
from framecnn.storage.atomic import hidden_path
from framecnn.storage.output_lock import lock_outputs

TRAIN = ("train", "FILMS", "--out", "new/m.safetensors", "--size", "24x32")
OPTIONS = {
    "train --out": ("train", "FILMS", "--size", "24x32", "--out"),
    "train --report": (*TRAIN, "--report"),
    "train --json": (*TRAIN, "--json"),
    "evaluate --json": ("evaluate", "model.safetensors", "FILMS", "--json"),
    "predict --json": ("predict", "model.safetensors", "FILMS", "--json"),
    "predict --predictions": ("predict", "model.safetensors", "FILMS", "--predictions"),
    "scan --json": ("scan", "FILMS", "--json"),
    "scan --manifest": ("scan", "FILMS", "--manifest"),
    "compare --json": ("compare", "FILMS", "--json"),
    "compare --report": ("compare", "FILMS", "--report"),
    "export": ("export", "model.safetensors"),
    "export --json": ("export", "model.safetensors", "new/m.onnx", "--json"),
    "summary --json": ("summary", "model.safetensors", "--json"),
    "demo --json": ("demo", "--json"),
    "doctor --json": ("doctor", "--json"),
    "warmup --json": ("warmup", "--json"),
}
"""Every option, or argument, that names a file to write; it is last, and its value follows."""

READING_A_FOLDER = sorted(option for option, arguments in OPTIONS.items() if "FILMS" in arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_quickly(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def here(tmp_path, monkeypatch, trained):
    """A working directory with films, a model, a folder for outputs, and links to and from them."""
    quick(monkeypatch)
    write_frames(tmp_path / "films")
    (tmp_path / "model.safetensors").write_bytes((trained / "model.safetensors").read_bytes())
    (tmp_path / "new").mkdir()
    (tmp_path / "notes").write_text("my own notes")
    (tmp_path / "films/link").symlink_to(tmp_path / "new/target")
    (tmp_path / "into").symlink_to(tmp_path / "films/across")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(option, value):
    return framecnn(*("films" if argument == "FILMS" else argument for argument in OPTIONS[option]), value)


def refusal(option, value):
    return refused(*("films" if argument == "FILMS" else argument for argument in OPTIONS[option]), value)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_file_that_framecnn_did_not_write_is_refused(here, option):
    assert refusal(option, "notes") == (
        "notes: the file exists and was not written by this command; move it or choose another name"
    )
    assert (here / "notes").read_text() == "my own notes"


@pytest.mark.parametrize("value", ["films/new.file", "films/../films/across/new.file", "films/link", "into/new.file"])
@pytest.mark.parametrize("option", READING_A_FOLDER)
def test_a_file_in_the_folder_that_is_read_is_refused_however_it_is_spelled(here, option, value):
    before = fingerprint(here)
    assert f"{value}: expected a file outside {str(here / 'films')!r}" in refusal(option, value)
    assert fingerprint(here) == before


@pytest.mark.parametrize("option", ["evaluate --json", "predict --json", "summary --json", "export"])
def test_the_model_that_is_read_is_not_replaced(here, option):
    before = fingerprint(here)
    (here / "same").symlink_to("model.safetensors")
    for value in ("model.safetensors", "./model.safetensors", "same"):
        assert "the command reads this file; choose another name to write to" in refusal(option, value)
    (here / "same").unlink()
    assert fingerprint(here) == before


def test_the_table_of_groups_that_is_read_is_not_replaced(here):
    table = (here / "films/frames.csv").rename(here / "groups.csv")
    assert "the command reads this file" in refused("scan", "films", "--groups", table, "--manifest", table)
    assert table.read_text().startswith("path,label,group\n")


@pytest.mark.parametrize(
    "option", ["train --json", "evaluate --json", "predict --predictions", "scan --manifest", "export"]
)
def test_the_target_of_a_link_is_written_and_the_link_kept_and_replaced_only_by_the_same_kind(here, option):
    (here / "out").symlink_to(here / "new/target")
    for _ in range(2):
        ended = run(option, "out")
        assert ended.code == 0, ended.err
        assert (here / "out").is_symlink()
        assert (here / "new/target").is_file()


@pytest.mark.parametrize("option", ["train --out", "evaluate --json", "predict --json", "scan --manifest", "export"])
def test_folders_of_outputs_are_made(here, option):
    assert run(option, "made/if/needed/file").code == 0
    assert (here / "made/if/needed/file").is_file()


def test_a_refused_command_makes_no_folder(here):
    assert "choose another name to write to" in refused(
        "evaluate", "model.safetensors", "films", "--json", "model.safetensors"
    )
    assert "expected a file outside" in refused("train", "films", "--out", "made/m", "--report", "films/report.html")
    assert not (here / "made").exists()


TWO_FILES = {
    "export": ("export", "model.safetensors", "new/other", "--json", "new/json"),
    "predict": ("predict", "model.safetensors", "films", "--json", "new/json", "--predictions", "new/other"),
    "scan": ("scan", "films", "--json", "new/json", "--manifest", "new/other"),
}


@pytest.mark.parametrize("command", TWO_FILES)
def test_two_files_of_a_command_are_written_together_under_their_locks(here, command, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "new/other")

    for name in ("json", "other"):
        with lock_outputs([here / "new" / name]):
            assert "expected no other run to write here" in framecnn(*TWO_FILES[command]).err
    with monkeypatch.context() as full:
        full.setattr(output_set, "switch", fail)
        ended = framecnn(*TWO_FILES[command])
        assert (ended.code, "No space left on device" in ended.err) == (2, True)
    assert list((here / "new").iterdir()) == []
    assert framecnn(*TWO_FILES[command]).code == 0
    assert {path.name for path in (here / "new").iterdir()} == {"json", "other"}


def two_files(folder):
    return OutputSet("scan", folder / "json", [], table=(folder / "table", b"path"))


def test_all_files_of_a_set_are_replaced_or_none(tmp_path):
    outputs = two_files(tmp_path)
    assert outputs.files == [tmp_path / "table", tmp_path / "json"]
    with outputs.held():
        outputs.write({"n": 1}, table=lambda path: path.write_text("path,1"))
        with pytest.raises(ZeroDivisionError):
            outputs.write({"n": 2}, table=lambda path: path.write_text(f"path,{1 / 0}"))
    assert json.loads((tmp_path / "json").read_text())["n"] == 1
    assert (tmp_path / "table").read_text() == "path,1"
    (tmp_path / "table").write_text("my notes")
    with pytest.raises(DataError, match=r"table: the file exists and was not written by this command"), outputs.held():
        pass


def test_what_a_killed_run_was_writing_is_settled_beside_whichever_file_its_journal_is(tmp_path, monkeypatch):
    def killed(change):
        raise SystemExit

    outputs = two_files(tmp_path)
    for name in ("table", "json"):
        (tmp_path / name).write_text('path "written_by": "framecnn scan 1')
    with monkeypatch.context() as run:
        run.setattr(output_set._Change, "do", killed)
        run.setattr(output_set._Change, "undo", killed)
        with pytest.raises(SystemExit), outputs.held():
            outputs.write({"n": 1}, table=lambda path: path.write_text("path,new"))
    (journal,) = tmp_path.glob("*.journal")
    journal.rename(hidden_path(tmp_path / "json", ".journal"))
    with outputs.held():
        assert (tmp_path / "table").read_text() == "path,new"
        assert json.loads((tmp_path / "json").read_text())["n"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"table", "json"}
