"""The table of predictions: one schema, any name, whole or not there."""

import csv

import numpy as np
import pytest
from pictures import film_folder, scene

from framecnn.data import FrameFolder, Labels
from framecnn.data.labels import FrameFacts
from framecnn.data.prediction_table import PREDICTIONS_MARK, PredictionRow, write_predictions
from framecnn.errors import DataError

SIZE = (24, 32)
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


@pytest.fixture
def corrected(tmp_path):
    """Return a folder of frames, and a table of predictions for it in which one label was corrected."""
    root = film_folder(tmp_path / "films", {"=day": 3, "night": 3})
    scene(9).save(root / "night" / "'quoted'.png")
    rows = [
        PredictionRow(path.relative_to(root).as_posix(), [1, 0], part=part, group=f"g{number}", label=path.parent.name)
        for number, path in enumerate(sorted(root.rglob("*.png")))
        for part in [("training", "films", "test")[number % 3]]
    ]
    write_predictions(tmp_path / "predictions.csv", ["=day", "night"], rows)
    text = (tmp_path / "predictions.csv").read_text()
    path = "'=day/002.png"
    assert f"\n{path},test,,g2,'=day," in text
    (tmp_path / "predictions.csv").write_text(text.replace(f"{path},test,,g2,'=day,", f"{path},test,,g2,night,"))
    return root, tmp_path / "predictions.csv"


def test_a_corrected_table_gives_labels_but_neither_parts_nor_groups_of_that_run(corrected):
    root, table = corrected
    folder = FrameFolder(root, size=SIZE, labels=table)
    assert dict(folder.samples)["=day/002.png"] == folder.classes.index("night")
    assert folder.classes == ["=day", "night"]
    assert (len(folder), folder.warnings) == (7, [])
    assert (folder.parts, folder.given_parts) == (None, [])
    assert folder.group_source.startswith("clusters of near-duplicates")


def test_parts_and_groups_of_that_run_are_used_if_their_columns_are_named(corrected):
    root, table = corrected
    table.write_text(table.read_text().replace(",films,", ",validation,"))
    labels = Labels.from_csv(table, part_column="part", group_column="group")
    assert labels.rows["=day/000.png"] == FrameFacts("=day", "g0", "", "training")
    folder = FrameFolder(root, size=SIZE, labels=labels)
    assert folder.given_parts == ["training", "validation", "test"]
    assert set(folder.groups) == {f"g{number}" for number in range(7)}


def test_as_a_table_of_groups_it_needs_the_name_of_the_column(corrected):
    root, table = corrected
    with pytest.raises(
        DataError, match=r"expected a column group or movie or part in 'predictions.csv', got none .*--group-column"
    ):
        FrameFolder(root, groups=table, size=SIZE)
    groups = Labels.from_csv(table, group_column="group")
    assert len(set(FrameFolder(root, groups=groups, size=SIZE).groups)) == 7


def test_in_tables_of_others_an_apostrophe_is_part_of_the_name(tmp_path):
    rows = "path,label\n'=day/1.png,'=day\n"
    (tmp_path / "t.csv").write_text(rows)
    assert Labels.from_csv(tmp_path / "t.csv").rows == {"'=day/1.png": FrameFacts("'=day")}


def test_names_in_the_manifest_match_too(corrected, tmp_path):
    root, _ = corrected
    FrameFolder(root, size=SIZE).write_manifest(tmp_path / "manifest.csv")
    folder = FrameFolder(root, size=SIZE, labels=tmp_path / "manifest.csv")
    assert (len(folder), folder.warnings, folder.classes) == (7, [], ["=day", "night"])
