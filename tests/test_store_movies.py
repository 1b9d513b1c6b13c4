"""The column movie of the table of frames, also in tables that were written without it."""

import csv

import pytest

from framecnn.data.store import FrameStore, file_name
from framecnn.errors import DataError


def add(root, movie, label):
    """Add a movie of one frame."""
    store = FrameStore(root)
    with store.run({movie: {"label": label}}, replace=False), store.staging() as staging:
        (staging / file_name(movie, 0)).touch()
        store.add(movie, {"label": label}, staging, [(0, f"{movie}_shot000")], {})


def movies(root):
    with open(root / "frames.csv", encoding="utf-8", newline="") as file:
        return [row["movie"] for row in csv.DictReader(file)]


def test_a_table_without_movies_gets_them_from_its_groups(tmp_path):
    (tmp_path / "frames.csv").write_text(
        "path,label,group,time_s\na/m_shot1.jpg,a,m_shot1_shot000_block01,0\na/k.jpg,a,k_shot002,1\n"
    )
    add(tmp_path, "orion", "space")
    assert movies(tmp_path) == ["m_shot1", "k", "orion"]
    with pytest.raises(DataError, match="already holds frames of a movie 'k'"):
        add(tmp_path, "k", "a")


def test_a_table_whose_groups_name_no_movie_needs_the_column(tmp_path):
    text = "path,label,group,time_s\na/1.jpg,a,scene 5,0\n"
    (tmp_path / "frames.csv").write_text(text)
    with pytest.raises(
        DataError, match=r"has no column movie, and the group 'scene 5' of 'a/1.jpg' does not begin .*; add a column"
    ):
        add(tmp_path, "orion", "space")
    assert (tmp_path / "frames.csv").read_text() == text
    (tmp_path / "frames.csv").write_text("path,label,group,time_s,movie\na/1.jpg,a,scene 5,0,\n")
    add(tmp_path, "orion", "space")
    assert movies(tmp_path) == ["", "orion"]
