"""Predictions of many pictures: written to the table while they are made, in the order of the pictures."""

from commands import framecnn, refused, train_quickly

from framecnn.cli import predict
from framecnn.data import prediction_table


def test_many_pictures_are_written_to_the_table_while_they_are_predicted(tmp_path, monkeypatch):
    films, expected, table = tmp_path / "films", tmp_path / "expected.csv", tmp_path / "table.csv"
    model = train_quickly(tmp_path) / "model.safetensors"
    broken = films / "across" / "broken.jpg"
    broken.write_bytes(b"no picture")
    listed = framecnn("predict", model, films, broken, "--predictions", expected)
    monkeypatch.setattr(predict, "LISTED", 1)
    monkeypatch.setattr(prediction_table, "AT_ONCE", 7)
    ended = framecnn("predict", model, films, broken, "--predictions", table)
    assert (ended.code, listed.code) == (1, 1)  # a path that was given was skipped
    assert table.read_bytes() == expected.read_bytes()
    counts = listed.out.splitlines()
    assert ended.out.splitlines() == counts[counts.index("", 1) + 1 :][: len(ended.out.splitlines())]
    assert [line for line in ended.err.splitlines() if "broken" in line] == [
        line for line in listed.err.splitlines() if "broken" in line
    ]
    (tmp_path / "none").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "none" / name).write_bytes(b"no picture")
    told = refused("predict", model, tmp_path / "none", "--predictions", table)
    assert told.startswith("predict: expected at least one picture or movie, got 2 files that cannot be read")
    assert table.read_bytes() == expected.read_bytes()
