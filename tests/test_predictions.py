"""The table of predictions: one schema, any name, whole or not there."""

import csv

import numpy as np
import pytest

from framecnn.data.prediction_table import PREDICTIONS_MARK, PredictionRow, write_predictions

COLUMNS = [
    *("path", "part", "fold", "group", "label", "prediction", "out_of_distribution", "nearest_training_path"),
    *("suspected_label", "suspect_rank", "probability:day", "probability:night"),
]


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_a_row_holds_everything(tmp_path):
    row = PredictionRow(
        path="day/1.jpg",
        probabilities=np.array([0.25, 0.75], np.float32),
        out_of_distribution=np.True_,
        nearest_training_path="night/2.jpg",
        part="test",
        fold="3",
        group="shot 1",
        label="day",
        suspected_label="night",
        suspect_rank=7,
    )
    write_predictions(tmp_path / "p.csv", ["day", "night"], [row, PredictionRow("2.jpg", [1, 0], False)])
    header, first, second = read(tmp_path / "p.csv")
    assert header == COLUMNS
    assert first == [
        *("day/1.jpg", "test", "3", "shot 1", "day", "night", "yes", "night/2.jpg", "night", "7"),
        *("0.25", "0.75"),
    ]
    assert second == ["2.jpg", "", "", "", "", "day", "no", "", "", "", "1", "0"]
    assert (tmp_path / "p.csv").read_bytes().startswith(PREDICTIONS_MARK)


@pytest.mark.parametrize("name", ["=cmd()", 'a"b', "a,b", "a\nb", "فيلم", "bad \udcff byte"])
def test_any_name_is_kept(tmp_path, name):
    write_predictions(tmp_path / "p.csv", [name], [PredictionRow(f"{name}.jpg", [1.0], label=name)])
    with open(tmp_path / "p.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, row = csv.reader(file)
    assert header[-1] == f"probability:{name}"
    assert row[5].removeprefix("'") == name


def test_without_frames_there_is_a_header(tmp_path):
    write_predictions(tmp_path / "p.csv", ["day", "night"], [])
    assert read(tmp_path / "p.csv") == [COLUMNS]
