"""Folders that are the parts of a split that is given, and folders that only look like it."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import film_folder, scene

from framecnn.data import FrameFolder, Labels
from framecnn.data.layout import find_layout, part_named
from framecnn.errors import DataError

SIZE = (24, 32)


def reasons(folder):
    return Counter(skip.reason for skip in folder.skipped)


def paths(subset):
    return set(subset.paths)


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("Training", "VALID", "Testing"), ("training_set", "validation", "eval")],
)
@pytest.mark.parametrize("template", ["{part}/{label}", "{label}/{part}"])
def test_folders_of_parts_at_either_level_are_the_split(tmp_path, template, train, val, test):
    counts = {train: 6, val: 2, test: 3}
    folders = {template.format(part=part, label=label): n for label in "ab" for part, n in counts.items()}
    folder = FrameFolder(film_folder(tmp_path / "films", folders), size=SIZE)
    assert folder.classes == ["a", "b"]
    assert folder.given_parts == ["training", "validation", "test"]
    assert Counter(folder.parts.tolist()) == {"training": 12, "validation": 4, "test": 6}
    parts = folder.split(seed=1)
    assert [len(part) for part in parts] == [12, 4, 6]
    for part, name in zip(parts, (train, val, test), strict=True):
        assert all(name in path.split("/") for path in part.paths)
        assert part.split_note == "as given (names of folders): training, validation, test"
    assert folder.warnings == [] == list(parts[0].warnings)


def test_a_folder_with_train_and_test_is_no_classifier_of_train_against_test(tmp_path):
    folder = FrameFolder(
        film_folder(tmp_path / "films", {"train/cats": 5, "train/dogs": 5, "test/cats": 2, "test/dogs": 2}), size=SIZE
    )
    assert folder.classes == ["cats", "dogs"]
    train, val, test = folder.split(0.6, 0.2, 0.2)
    assert {path.split("/")[0] for path in [*train.paths, *val.paths]} == {"train"}
    assert {path.split("/")[0] for path in test.paths} == {"test"}


@pytest.mark.parametrize("missing", ["val", "test"])
def test_a_part_that_is_missing_is_cut_from_the_training_part(tmp_path, missing):
    folders = {f"{part}/{label}": n for label in "ab" for part, n in (("train", 9), ("val", 2), ("test", 2))}
    root = film_folder(tmp_path / "films", {name: n for name, n in folders.items() if not name.startswith(missing)})
    parts = FrameFolder(root, size=SIZE).split(0.8, 0.1, 0.1)
    assert [len(part) for part in parts] == ([16, 2, 4] if missing == "val" else [16, 4, 2])
    cut, given_part = (parts[1], parts[2]) if missing == "val" else (parts[2], parts[1])
    assert all(path.startswith("train/") for path in cut.paths)
    assert not any(path.startswith("train/") for path in given_part.paths)
    shares = "89 % training, 11 % validation" if missing == "val" else "89 % training, 11 % test"
    assert "; the training part is divided by group (clusters of near-duplicates" in parts[0].split_note
    assert f"seed 0: {shares} of each class" in parts[0].split_note
    seeds = {tuple(FrameFolder(root, size=SIZE).split(0.8, 0.1, 0.1, seed=seed)[0].paths) for seed in range(4)}
    assert len(seeds) > 1


def test_a_given_part_stays_even_if_no_share_is_asked_for_it_and_folds_say_that_they_ignore_it(tmp_path):
    folder = FrameFolder(
        film_folder(tmp_path, {f"{part}/{name}": 4 for part in ("train", "test") for name in "ab"}), size=SIZE
    )
    assert [len(part) for part in folder.split(0.75, 0.25, 0)] == [6, 2, 8]
    assert [len(part) for part in folder.split(1, 0, 0)] == [8, 0, 8]
    assert folder.split(1, 0, 0)[0].split_note == "as given (names of folders): training, test"
    with pytest.raises(
        DataError,
        match=r"expected parts to draw at random \(--split random\), but all are given \(names of folders\); leave the "
        r"option out, or use parts='none' \(--parts none\) for folders",
    ):
        folder.split(1, 0, 0, by="random")
    train, _ = folder.folds(2)[0]
    assert train.split_note.endswith("seed 0; the given parts (names of folders) are not used")


@pytest.mark.parametrize(
    ("folders", "why"),
    [
        ({"train": 2, "car": 2}, "'car/000.png' lies beside them"),
        ({"test": 2, "cats": 2, "dogs": 2}, "'cats/000.png' lies beside them"),
        ({"train": 2, "test": 2}, "'test/000.png' lies in no class folder"),
        ({"train/a": 2, "train/b": 2, "test": 2}, "'test/000.png' lies in no class folder"),
        ({"train/a": 2, "train/b": 2}, "there is no other part than training"),
        ({"val/a": 2, "test/b": 2}, "there is no training part"),
        ({"train/a": 2, "val/a": 2, "valid/b": 2}, "'val' and 'valid' name the same part"),
        ({"city/train": 2, "city/car": 2, "land": 2}, "'city/car/000.png' lies beside them"),
        ({"a/train": 2, "a/test": 2, "b": 2}, "'b/000.png' lies beside them"),
    ],
)
def test_where_it_is_not_clear_what_folders_are_the_message_names_the_option(tmp_path, folders, why):
    root = film_folder(tmp_path / "films", folders)
    with pytest.raises(DataError) as error:
        FrameFolder(root, size=SIZE)
    assert "and it is not clear whether they are the parts of a split" in str(error.value)
    assert f"({why}); give --parts folders (parts='folders') if they are, or --parts none (parts='none') if" in str(
        error.value
    )
    if {name.split("/")[0] for name in folders} > {"train"}:
        classes = sorted({name.split("/")[0] for name in folders})
        assert FrameFolder(root, size=SIZE, parts="none").classes == classes


def test_parts_can_be_forced_and_what_lies_beside_them_is_skipped(tmp_path):
    root = film_folder(tmp_path / "films", {"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 2, "unlabelled": 3})
    folder = FrameFolder(root, size=SIZE, parts="folders")
    assert (folder.given_parts, folder.classes, reasons(folder)) == (
        ["training", "test"],
        ["a", "b"],
        {"not-in-class": 3},
    )
    with pytest.raises(
        DataError, match=r"expected folders called train, validation or test for --parts folders, got a, b"
    ):
        FrameFolder(film_folder(tmp_path / "plain", {"a": 1, "b": 1}), size=SIZE, parts="folders")
    with pytest.raises(ValueError, match="expected parts='folders', parts='none' or no parts, got parts='maybe'"):
        FrameFolder(root, size=SIZE, parts="maybe")
    only_test = FrameFolder(film_folder(tmp_path / "t", {"test/a": 2, "test/b": 2}), size=SIZE, parts="folders")
    with pytest.raises(DataError, match=r"FrameFolder.split: expected a training part, got only test; add one"):
        only_test.split()
    assert only_test.unseen.tolist() == [0, 1, 2, 3]


def test_names_that_only_contain_the_name_of_a_part_are_classes(tmp_path):
    assert [part_named(name) for name in ("trains", "contest", "my train", "test 1", "set", "")] == [None] * 6
    folder = FrameFolder(film_folder(tmp_path, {"trains": 2, "contest": 2}), size=SIZE)
    assert (folder.classes, folder.parts) == (["contest", "trains"], None)


def test_companions_beside_the_parts_do_not_make_them_unclear(tmp_path):
    root = film_folder(tmp_path / "films", {f"{part}/{name}": 2 for part in ("train", "test") for name in "ab"})
    (root / "annotations").mkdir()
    for name in ("LICENSE", "data.yaml", "annotations/1.xml", "train/labels.txt"):
        (root / name).write_text("x")
    folder = FrameFolder(root, size=SIZE)
    assert (folder.given_parts, reasons(folder)) == (["training", "test"], {"not-a-picture": 3, "not-in-class": 1})


@pytest.mark.parametrize("inside", [True, False])
def test_parts_from_elsewhere(tmp_path, inside):
    root = film_folder(tmp_path / "films", {"a": 6, "b": 6})
    first = root if inside else tmp_path / "other place"
    test = film_folder(first / "held out", {"a": 2, "b": 2}, first_seed=50)
    validation = film_folder(first / "tuning", {"a": 1, "b": 1}, first_seed=90)
    (test / "a" / "notes.txt").write_text("x")
    folder = FrameFolder(root, size=SIZE, test=test, validation=validation)
    train, val, held_out = folder.split()
    assert [len(part) for part in (train, val, held_out)] == [12, 2, 4]
    assert {path.rsplit("/", 2)[0] for path in held_out.paths} == {"held out" if inside else "../other place/held out"}
    assert np.asarray(held_out.frames).shape == (4, *SIZE, 3)
    assert held_out.split_note == "as given (--validation tuning, --test held out): training, validation, test"
    assert folder.warnings == []
    with pytest.raises(DataError, match=r"expected a file outside .*, which is only read"):
        folder.write_manifest(test / "manifest.csv")
    folder.write_manifest(tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_text().count("\n") == 1 + folder.found == 20


def test_the_training_folder_may_be_part_of_a_given_split_whose_test_part_is_named(tmp_path):
    root = film_folder(tmp_path / "data", {f"{part}/{name}": 3 for part in ("train", "test") for name in "ab"})
    named = FrameFolder(root / "train", size=SIZE, test=root / "test")
    both = FrameFolder(root, size=SIZE, test=root / "test")
    assert (
        [len(part) for part in named.split(0.5, 0.5, 0)] == [len(part) for part in both.split(0.5, 0.5, 0)] == [4, 2, 6]
    )


def test_folders_that_cannot_be_a_part_are_refused(tmp_path):
    root = film_folder(tmp_path / "data", {f"{part}/{name}": 3 for part in ("train", "test") for name in "ab"})
    other = film_folder(tmp_path / "other", {"a": 1})
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"data' holds a test part already; leave out --test, or name the folder of its tr"
    ):
        FrameFolder(root, size=SIZE, test=other)
    with pytest.raises(
        DataError, match=r"expected class folders in .*data', got parts of a split; name the folder of its test"
    ):
        FrameFolder(film_folder(tmp_path / "films", {"a": 3, "b": 3}), size=SIZE, test=root)
    with pytest.raises(DataError, match=r"expected another folder as validation part, got .*other' twice"):
        FrameFolder(root, size=SIZE, test=other, validation=other)
    with pytest.raises(DataError, match=r"empty': no class folder with a picture, at least one is needed"):
        FrameFolder(tmp_path / "films", size=SIZE, test=tmp_path / "empty")
    with pytest.raises(DataError, match=r"expected an existing folder of frames, got .*gone'; check the path"):
        FrameFolder(tmp_path / "films", size=SIZE, test=tmp_path / "gone")


def test_names_of_classes_match_between_parts_in_any_case_and_blanks_and_others_are_skipped(tmp_path):
    root = film_folder(
        tmp_path, {"train/cats": 3, "train/Dogs": 3, "test/Cats ": 2, "test/dogs": 2, "test/dgos": 1, "test/zebra": 2}
    )
    folder = FrameFolder(root, size=SIZE)
    assert folder.classes == ["Dogs", "cats"]
    assert reasons(folder) == {"unknown-class": 3}
    assert folder.scan_warnings == [
        "classes of the test part whose names differ in case or blanks from the training part: 2 "
        "(first: 'Cats ', taken as 'cats')",
        "classes of the test part that the training part does not have: dgos, zebra; skipped 3 files; "
        "did you mean 'Dogs'?",
    ]
    assert Counter(folder.split()[2].targets.tolist()) == {0: 2, 1: 2}


def test_a_part_without_a_class_of_the_training_part_and_a_class_without_training_frames_are_errors(tmp_path):
    root = film_folder(tmp_path / "one", {"train/a": 2, "train/b": 2, "test/c": 2, "test/d": 2})
    with pytest.raises(
        DataError, match=r"expected classes of the training part \(a, b\) in the test part, got c, d; name"
    ):
        FrameFolder(root, size=SIZE)
    root = film_folder(tmp_path / "two", {"train/a": 2, "train/b": 0, "test/a": 2})
    (root / "train" / "b" / "x.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"the class 'b' holds no usable frame in the training part: 1 not-an-image"):
        FrameFolder(root, size=SIZE)


@pytest.mark.parametrize(("n_files", "text"), [(0, "0 files"), (1, "1 file")])
def test_a_given_part_without_a_usable_frame_is_an_error(tmp_path, n_files, text):
    root = film_folder(tmp_path, {"train/a": 2, "train/b": 2, "test/a": 0})
    for i in range(n_files):
        (root / "test" / "a" / f"{i}.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=rf"FrameFolder: the test part holds no usable frame, of {text}; add some"):
        FrameFolder(root, size=SIZE)


def test_classes_of_one_part_that_differ_only_in_case_stay_apart_with_a_warning(tmp_path):
    folder = FrameFolder(film_folder(tmp_path, {"A": 2, "a": 2}), size=SIZE)
    assert folder.classes == ["A", "a"]
    assert folder.warnings == [
        "classes whose names differ only in case or blanks: 'A', 'a'; they are different classes"
    ]


def test_parts_that_are_forced_may_be_completed_from_elsewhere(tmp_path):
    root = film_folder(tmp_path / "data", {"train/a": 4, "train/b": 4, "other": 1})
    test = film_folder(tmp_path / "held", {"a": 1, "b": 1}, first_seed=60)
    folder = FrameFolder(root, size=SIZE, parts="folders", test=test)
    assert (folder.given_parts, reasons(folder)) == (["training", "test"], {"not-in-class": 1})
    assert folder.part_source == "names of folders, --test held"


def test_near_duplicates_and_groups_across_given_parts_are_warned_of(tmp_path):
    root = film_folder(tmp_path, {"train/a": 2, "train/b": 2, "test/a": 2, "test/b": 2})
    scene(0).resize((60, 50)).save(root / "test" / "a" / "000.png")
    train, _, _ = FrameFolder(root, size=SIZE).split(1, 0, 0)
    assert train.warnings == (
        "near-duplicates of training frames: 1 of 4 test frames (first: 'test/a/000.png'); "
        "their accuracy may be too high",
    )
    rows = [f"{part}/{name}/00{i}.png,{name}{i}" for part in ("train", "test") for name in "ab" for i in range(2)]
    (root / "frames.csv").write_text("\n".join(["path,group", *rows]))
    folder = FrameFolder(root, size=SIZE)
    assert folder.split(1, 0, 0)[0].warnings[1:] == (
        "groups with frames both in the training part and in a part that is given: 3 (first: 'a1'); "
        "the accuracy may be too high",
    )
    assert folder.group_note == (
        "the parts are given and have groups in common: expect this accuracy on frames like these 4, not on "
        "groups or movies that were not trained on"
    )


def tabled(folder, movie, first_seed):
    """Return a folder of two classes with a table in which the shots of a movie are called shot0 and shot1."""
    film_folder(folder, {"a": 4, "b": 4}, first_seed=first_seed)
    rows = [f"{name}/00{i}.png,shot{i // 2} of {name},{movie}" for name in "ab" for i in range(4)]
    (folder / "frames.csv").write_text("\n".join(["path,group,movie", *rows]))
    return folder


@pytest.mark.parametrize(
    ("movie", "other", "shared"), [("", "", False), ("m", "n", False), ("m", "", False), ("m", "m", True)]
)
def test_groups_of_two_folders_are_the_same_only_if_they_are_of_the_same_movie(tmp_path, movie, other, shared):
    root, test = tabled(tmp_path / "data", movie, 0), tabled(tmp_path / "held", other, 50)
    folder = FrameFolder(root, size=SIZE, test=test, group_by="shot" if movie and other else None)
    warned = [text for text in folder.split(1, 0, 0)[0].warnings if text.startswith("groups with frames both in")]
    assert (len(warned), "have groups in common" in folder.group_note) == (shared, shared)
    assert len(set(folder.groups)) == (4 if shared else 8)
    assert {"shot0 of a"} < set(folder.groups)
    assert ("../held/shot0 of a" in folder.groups) == (not shared)


def test_a_pattern_names_the_groups_of_all_folders(tmp_path):
    root, test = film_folder(tmp_path / "data", {"a": 4, "b": 4}), film_folder(tmp_path / "held", {"a": 2}, 50)
    folder = FrameFolder(root, size=SIZE, test=test, labels=Labels.from_names(r"(?P<label>\w)/(?P<group>.*)"))
    assert len(set(folder.groups)) == 4
    assert folder.split(1, 0, 0)[0].warnings[1].startswith("groups with frames both in the training part and in a part")


PARTS = ["", "train/", "Test/", "val/"]
LABELS = ["", "a", "B", "b", "a b"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_file_is_used_once_or_skipped_once_and_no_group_is_on_two_sides(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("random")
    names = st.sampled_from(["1.png", "2.PNG", "x.txt", "Thumbs.db", "._3.png", "noext", "bad.jpg"])
    folders = st.tuples(st.sampled_from(PARTS), st.sampled_from(LABELS), st.sampled_from(["", "/reel", "/train"]))
    written = set()
    for number, ((part, label, below), name) in enumerate(data.draw(st.lists(st.tuples(folders, names), max_size=14))):
        path = root / f"{part}{label}{below if label else ''}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".png" or name == "noext":
            scene(number % 5).save(path, "PNG")
        else:
            path.write_text("x")
        written.add(path.relative_to(root).as_posix())
    choice = data.draw(st.sampled_from([None, "folders", "none"]))
    labels = data.draw(st.sampled_from([None, Labels.from_names(r"(?P<label>\w+)")]))
    try:
        folder = FrameFolder(root, size=(8, 8), parts=choice, labels=labels)
    except DataError:
        return
    listed = [path for path, _ in folder.samples] + [skip.path for skip in folder.skipped]
    assert sorted(listed) == sorted(written)
    if folder.given_parts and "training" not in folder.given_parts:
        return
    parts = folder.split(0.6, 0.2, 0.2)
    assert sorted(path for part in parts for path in part.paths) == sorted(path for path, _ in folder.samples)
    if not folder.given_parts:
        groups = [set(part.groups) for part in parts]
        assert sum(map(len, groups)) == len(set().union(*groups))


def test_a_folder_without_files_has_no_parts(tmp_path):
    assert find_layout(tmp_path, [], ["a", "b"]).part_level is None
