"""Groups above shots: the movie is the group where a class holds several, and what an accuracy then says is said."""

import numpy as np
import pytest
from pictures import film_folder

from framecnn.data import FrameFolder, Labels
from framecnn.data.groups import group_frames
from framecnn.errors import DataError

SIZE = (24, 32)


def folder_of(root, movies, **options):
    """Return a folder with 12 frames a class, in two shots of each of these numbers of movies."""
    film_folder(root, dict.fromkeys(movies, 12))
    rows = ["path,label,group,movie"]
    for name, n in movies.items():
        rows += [f"{name}/{i:03d}.png,{name},{name}{i % n}_shot{i // n % 2},{name}{i % n}" for i in range(12)]
    (root / "frames.csv").write_text("\n".join(rows))
    return FrameFolder(root, size=SIZE, **options)


def test_two_labels_that_mean_nothing_over_three_films_each_are_grouped_by_film(tmp_path):
    folder = folder_of(tmp_path, {"left": 3, "right": 3})
    assert (folder.groups == folder.movies).all()
    assert len(set(folder.groups)) == 6
    assert folder.group_source == "movies from frames.csv"
    assert folder.group_note == (
        "each class holds several movies, which stay whole: expect this accuracy on movies that were not seen"
    )
    assert folder.warnings == []
    for seed in range(3):
        parts = folder.split(seed=seed)
        assert [len(set(part.groups)) for part in parts] == [2, 2, 2]
        assert folder.split()[0].warnings == ()


def test_with_one_movie_a_class_the_shot_is_the_group_and_it_is_said_what_is_measured(tmp_path):
    folder = folder_of(tmp_path, {"orion": 1, "sintel": 1})
    assert folder.groups.tolist()[:2] == ["orion0_shot0", "orion0_shot1"]
    assert folder.group_source == "shots from frames.csv"
    assert folder.group_note == (
        "each class holds one movie: expect this accuracy in telling these movies apart, not on movies that were not "
        "seen"
    )


def test_two_classes_of_the_same_movie_are_not_said_to_tell_movies_apart(tmp_path):
    folder_of(tmp_path, {"day": 1, "night": 1})
    text = (tmp_path / "frames.csv").read_text()
    (tmp_path / "frames.csv").write_text(text.replace(",night0", ",day0", 99).replace(",night0_", ",day0_n"))
    note = FrameFolder(tmp_path, size=SIZE).group_note
    assert "each class holds one movie: expect this accuracy on other shots of that movie, not on movies" in note


def test_a_folder_of_both_kinds_of_classes_has_the_rule_for_each_class_and_says_so(tmp_path):
    folder = folder_of(tmp_path, {"alone": 1, "four": 4, "two": 2})
    by_class = {name: set(folder.groups[folder.targets == i]) for i, name in enumerate(folder.classes)}
    assert by_class == {
        "alone": {"alone0_shot0", "alone0_shot1"},
        "four": {f"four{i}" for i in range(4)},
        "two": {"two0", "two1"},
    }
    assert folder.group_source == "movies and shots from frames.csv"
    assert folder.group_note == (
        "each of four, two holds several movies, which stay whole: expect this accuracy on movies that were not seen; "
        "alone holds one movie: expect this accuracy in telling these movies apart, not on movies that were not seen"
    )
    assert folder.warnings == [
        "no evidence how well alone would hold on a movie that was not seen: such a class holds one movie, others hold "
        "several; add frames of at least two other movies"
    ]
    assert (
        "no validation frames for class 'two': it holds 2 movies, which stay whole, and each part needs one; "
        "add frames of other movies"
    ) in folder.split()[0].warnings


def test_a_movie_that_is_whole_in_one_class_is_whole_in_all(tmp_path):
    folder_of(tmp_path, {"a": 3, "b": 1})
    path = tmp_path / "frames.csv"
    path.write_text(path.read_text().replace(",b0", ",a0"))
    folder = FrameFolder(tmp_path, size=SIZE)
    assert set(folder.groups) == {"a0", "a1", "a2"}
    assert (
        "b holds one movie, which stays whole: there is no evidence how well it holds on a movie" in folder.group_note
    )
    assert any(text.startswith("class 'b' has one movie only: all its frames are used for") for text in folder.warnings)


def test_the_group_can_be_forced(tmp_path):
    by_shot = folder_of(tmp_path / "shots", {"a": 3, "b": 3}, group_by="shot")
    assert len(set(by_shot.groups)) == 12
    assert by_shot.group_note == by_shot.warnings[0]
    assert by_shot.group_note.startswith(
        "groups are shots, although classes hold several movies: frames of one movie are on"
    )
    by_movie = folder_of(tmp_path / "movies", {"a": 1, "b": 1}, group_by="movie")
    assert (by_movie.groups == by_movie.movies).all()
    assert by_movie.group_note == (
        "each class holds one movie, which stays whole: there is no evidence how well it holds on a movie that was not "
        "seen"
    )
    assert [len(part) for part in by_movie.split()] == [24, 0, 0]
    assert by_movie.split()[0].warnings == tuple(
        f"class {name!r} has one movie only: all its frames are used for training, none for the test; there is no "
        "evidence how well it holds on a movie that was not seen: add frames of at least two other movies"
        for name in "ab"
    )


def test_frames_without_a_movie_are_grouped_by_shot_with_a_warning(tmp_path):
    folder_of(tmp_path, {"a": 3, "b": 3})
    path = tmp_path / "frames.csv"
    path.write_text(path.read_text().replace("a/000.png,a,a0_shot0,a0", "a/000.png,a,a0_shot0,"))
    folder = FrameFolder(tmp_path, size=SIZE)
    assert len(set(folder.groups[folder.targets == 0])) == 6
    assert set(folder.groups[folder.targets == 1]) == {"b0", "b1", "b2"}
    assert folder.warnings == [
        "frames without a movie in the table of groups: 1 (of a); in these classes the shot is the group"
    ]
    note = folder.group_note
    assert note.endswith("a holds frames of unknown movies: expect this accuracy on groups that were not trained on")
    with pytest.raises(
        DataError, match=r"to group by \(--group-by movie\), got none for 1 of 24 frames; add a column movie"
    ):
        FrameFolder(tmp_path, size=SIZE, group_by="movie")


def test_movies_cannot_be_groups_without_movies_and_other_groups_are_refused(tmp_path):
    root = film_folder(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(
        DataError, match=r"expected a movie for each frame to group by \(--group-by movie\), got none for 4 of"
    ):
        FrameFolder(root, size=SIZE, group_by="movie")
    with pytest.raises(ValueError, match="expected group_by='movie' or group_by='shot', got group_by='film'"):
        FrameFolder(root, size=SIZE, group_by="film")
    with pytest.raises(
        DataError,
        match=r"expected a shot for each frame to group by \(--group-by shot\), got none for 4 of 4 frames; add a "
        "column group to the table of groups, as framecnn frames writes it",
    ):
        FrameFolder(root, size=SIZE, group_by="shot")
    folder = FrameFolder(root, size=SIZE)
    assert folder.movies is None
    assert folder.group_note == (
        "expect this accuracy on pictures that are no near-duplicates of training pictures; on new films, places or "
        "series it will be lower"
    )


def test_movies_without_groups_keep_near_duplicates_together_in_classes_of_one_movie(tmp_path):
    folder_of(tmp_path, {"a": 2, "b": 1})
    path = tmp_path / "frames.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(f"{row[0]},{row[3]}" for row in rows))
    folder = FrameFolder(tmp_path, size=SIZE)
    assert set(folder.groups[folder.targets == 0]) == {"a0", "a1"}
    assert all(group.startswith("near-duplicates-") for group in folder.groups[folder.targets == 1])
    assert folder.group_source == ("movies from frames.csv and clusters of near-duplicates")
    assert folder.group_note.endswith(LEAK)


LEAK = (
    "; groups are clusters of near-duplicates, not shots: the accuracy is too high if frames of one shot are on both "
    "sides of the split"
)


def test_clusters_of_near_duplicates_are_not_called_shots(tmp_path):
    for name in "ab":
        film_folder(tmp_path / "films", {name: 4})
    (tmp_path / "films" / "labels.csv").write_text(
        "path,label,movie\n" + "".join(f"{name}/{i:03d}.png,{name},m{name}\n" for name in "ab" for i in range(4))
    )
    pattern = Labels.from_names(r"(?P<movie>\w)/.*")
    for labels, table in ((tmp_path / "films" / "labels.csv", "labels.csv"), (pattern, "file names")):
        groups, labels = (labels, None) if labels is pattern else (None, labels)
        folder = FrameFolder(tmp_path / "films", groups, SIZE, labels=labels)
        assert folder.movies is not None, table
        assert all(group.startswith("near-duplicates-") for group in folder.groups)
        assert folder.group_source == "clusters of near-duplicates"
        assert folder.group_note.endswith(LEAK)


def test_the_words_about_shots_are_right_for_clusters_of_near_duplicates():
    targets, movies = np.array([0, 0, 1, 1]), np.array(["m1", "m2", "m3", ""])
    shots = np.array(["n1", "n2", "n3", "n4"])
    assert (
        "in these classes the cluster of near-duplicates is the group"
        in (group_frames("ab", targets, shots, movies, None, False).warnings[0])
    )
    by_shot = group_frames("ab", targets, shots, np.array(["m1", "m2", "m3", "m3"]), "shot", False)
    assert by_shot.note.startswith("groups are clusters of near-duplicates, although classes hold several movies")
    same = group_frames("ab", targets, shots, np.array(["m1", "m1", "m1", "m1"]), None, False)
    assert "expect this accuracy on other frames of that movie" in same.note


def test_groups_and_movies_of_two_tables_are_both_named(tmp_path):
    root = film_folder(tmp_path / "films", {"a": 4, "b": 4})
    rows = [f"{name}/{i:03d}.png,{name},{name}{i % 2 if name == 'a' else ''}" for name in "ab" for i in range(4)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,movie", *rows]))
    rows = [f"{name}/{i:03d}.png,{name}{i // 2}" for name in "ab" for i in range(4)]
    (root / "frames.csv").write_text("\n".join(["path,group", *rows]))
    folder = FrameFolder(root, size=SIZE, labels=tmp_path / "labels.csv")
    assert folder.group_source == "movies from labels.csv and shots from frames.csv"
    assert folder.groups.tolist() == ["a0", "a1", "a0", "a1", "b0", "b0", "b1", "b1"]


def test_frames_that_are_left_out_keep_the_others_movies_and_parts(tmp_path):
    folder = folder_of(tmp_path, {"a": 3, "b": 3})
    rest = folder.without([folder.samples[0][0]])
    assert (rest.movies == folder.movies[1:]).all()
    assert rest.parts is None
    parts = np.array(["train/a/000.png", "train/a/001.png"])
    root = film_folder(tmp_path / "given", {"train/a": 3, "train/b": 3, "test/a": 3, "test/b": 3})
    assert FrameFolder(root, size=SIZE).without(parts.tolist()).given_parts == ["training", "test"]
