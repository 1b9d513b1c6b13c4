"""Frames have names that are valid and distinct on Linux, macOS and Windows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framecnn.data.movie import movie_name
from framecnn.data.names import portable_problem
from framecnn.data.store import FrameStore
from framecnn.errors import DataError
from framecnn.storage.file_names import same_name_key

DEVICES = [
    "CON",
    "prn",
    "Aux",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "lpt") for n in "123456789²"),
    "con.old",
    "nul .x",
]


@pytest.mark.parametrize("name", DEVICES)
def test_names_of_devices_are_not_names_of_folders(name):
    assert "for a device" in portable_problem(name)
    assert portable_problem(movie_name(f"{name}.mp4")) is None
    assert portable_problem(f"{name}s" if "." not in name else f"x{name}") is None


@pytest.mark.parametrize("character", [*'<>:"/\\|?*', "\n", "\0", "\x1f", "\x7f"])
def test_characters_that_windows_forbids_are_named(character):
    assert repr(character) in portable_problem(f"night{character}day")


@pytest.mark.parametrize("name", ["night.", "night ", "night. .", ".", "..", ".hidden", "", " ", "x" * 201, "日" * 70])
def test_names_that_a_system_would_change_or_refuse_have_a_problem(name):
    assert portable_problem(name)


@pytest.mark.parametrize("name", ["night", "Night und Tag", "日本", "a.b", "console", "com10", "comet", "lpt", "null"])
def test_ordinary_names_have_no_problem(name):
    assert portable_problem(name) is None


@given(st.text(max_size=40))
def test_every_movie_has_a_name_that_every_system_can_hold(text):
    name = movie_name("folder/" + text.replace("/", "_").replace("\0", "") + ".mp4")
    assert portable_problem(name) is None
    assert portable_problem(f"{name}_0012.500s.jpg") is None


def test_case_and_composed_letters_do_not_make_another_name():
    assert same_name_key("Stra\u00dfe") == same_name_key("STRASSE")
    assert same_name_key("e\u0301t\u00e9") == same_name_key("\u00c9te\u0301")
    assert same_name_key("a") != same_name_key("b")


@pytest.mark.parametrize("replace", [False, True])
def test_a_class_whose_name_differs_in_case_only_is_refused(tmp_path, replace):
    (tmp_path / "Night").mkdir()
    store = FrameStore(tmp_path)
    message = "holds 'Night', which is the same name as 'night' on macOS and Windows"
    with pytest.raises(DataError, match=message):
        store._check_new({"film": "night"}, replace)
    store._check_new({"film": "Night"}, replace)
    with pytest.raises(DataError, match="the same name"):
        store._check_new({"film": "day", "other": "Day"}, replace)


@pytest.mark.parametrize("replace", [False, True])
def test_a_movie_whose_name_differs_in_case_only_is_refused(tmp_path, replace):
    (tmp_path / "frames.csv").write_text("path,label,group,time_s\nx/Film_0.jpg,x,Film_shot001,0.0\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds 'Film', which is the same name as 'film'"):
        FrameStore(tmp_path)._check_new({"film": "y"}, replace)
