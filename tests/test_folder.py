"""A folder of class folders: every file is used or skipped, and none is changed."""

import csv
import hashlib
import json
import os
import shutil
import socket
import sys

import numpy as np
import pytest
from pictures import encoded, film_folder, scene
from PIL import Image

from framecnn import FrameClassifier
from framecnn.data import FrameFolder, FrameLost, Skip
from framecnn.errors import DataError, ShapeError

SIZE = (24, 32)


def skips(folder):
    return {skip.path: skip.reason for skip in folder.skipped}


def tree(root):
    """Return the type, content and time of modification of every file and folder."""
    state = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        state[str(path)] = (status.st_mode, status.st_mtime_ns, hashlib.sha256(content).hexdigest())
    return state


def test_classes_samples_and_frames_follow_the_folders(tmp_path):
    root = film_folder(tmp_path / "films", {"sintel": 3, "orion": 2})
    calls = []
    folder = FrameFolder(root, size=SIZE, progress=lambda done, total: calls.append((done, total)))
    assert folder.root == root
    assert folder.classes == ["orion", "sintel"]
    assert folder.class_to_idx == {"orion": 0, "sintel": 1}
    assert folder.samples == [("orion/000.png", 0), ("orion/001.png", 0)] + [(f"sintel/00{i}.png", 1) for i in range(3)]
    assert folder.targets.dtype == np.int64
    assert folder.targets.tolist() == [0, 0, 1, 1, 1]
    assert folder.size == SIZE
    assert folder.frames.shape == (5, *SIZE, 3)
    assert (len(folder), folder.found, folder.skipped, folder.notes, folder.warnings) == (5, 5, [], [], [])
    assert calls == [(done, 5) for done in range(1, 6)]
    assert repr(folder) == "FrameFolder('films': 5 frames of 2 classes, 5 groups, 0 skipped)"


def test_folders_below_a_class_folder_belong_to_that_class(tmp_path):
    root = film_folder(tmp_path, {"a": 1, "b/reel 1": 1, "b/reel 2/x.jpg": 1})
    folder = FrameFolder(root, size=SIZE)
    assert folder.classes == ["a", "b"]
    assert [path for path, _ in folder.samples] == ["a/000.png", "b/reel 1/000.png", "b/reel 2/x.jpg/000.png"]


def test_every_file_is_used_or_skipped_and_peculiarities_are_noted(tmp_path, monkeypatch):
    root = film_folder(tmp_path / "films", {"a": 2, "b": 2})
    (root / "README.txt").write_text("films")
    (root / ".git").mkdir()
    (root / ".git" / "x.png").write_bytes(b"")
    (root / ".ipynb_checkpoints").mkdir()
    (root / "a" / ".DS_Store").write_bytes(b"x")
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "a" / "notes.jpg").write_text("no picture")
    (root / "a" / "page.jpg").write_bytes(encoded(scene(9), "JPEG")[:300])
    (root / "b" / "png.jpg").write_bytes(encoded(scene(8), "PNG"))
    os.mkfifo(root / "b" / "pipe.jpg")
    monkeypatch.chdir(root / "b")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    folder = FrameFolder(root, size=SIZE)
    assert skips(folder) == {
        ".git": "hidden",
        ".ipynb_checkpoints": "hidden",
        "README.txt": "not-a-picture",
        "a/.DS_Store": "hidden",
        "a/empty.jpg": "empty",
        "a/notes.jpg": "not-an-image",
        "a/page.jpg": "truncated",
        "b/pipe.jpg": "not-a-file",
        "b/socket.jpg": "not-a-file",
    }
    assert len(folder) == 5
    assert folder.found == 14
    assert folder.notes == [("b/png.jpg", "extension-mismatch")]
    assert folder.skipped == sorted(folder.skipped, key=lambda skip: skip.path)


def test_one_class_folder_is_enough_if_min_classes_is_one(tmp_path):
    with pytest.raises(DataError, match="no class folder, at least one is needed"):
        FrameFolder(tmp_path, size=SIZE, min_classes=1)
    root = film_folder(tmp_path, {"a": 2})
    assert FrameFolder(root, size=SIZE, min_classes=1).classes == ["a"]


def test_links_are_followed_to_files_inside_the_folder_only(tmp_path):
    root = film_folder(tmp_path / "films", {"a": 2, "b": 1})
    outside = film_folder(tmp_path / "outside", {"c": 2}, first_seed=50)
    (root / "b" / "inside.png").symlink_to("../a/000.png")
    (root / "b" / "outside.png").symlink_to(outside / "c" / "000.png")
    (root / "b" / "zero.png").symlink_to("/dev/zero")
    (root / "b" / "dangling.png").symlink_to("nothing.png")
    (root / "b" / "loop.png").symlink_to("loop.png")
    (root / "b" / "up").symlink_to("..")
    (root / "c").symlink_to(outside / "c")
    folder = FrameFolder(root, size=SIZE)
    assert folder.classes == ["a", "b"]
    assert skips(folder) == {
        "b/outside.png": "outside-root",
        "b/zero.png": "outside-root",
        "b/dangling.png": "not-a-file",
        "b/loop.png": "not-a-file",
        "b/up": "not-a-file",
        "c": "outside-root",
    }
    assert folder.warnings == [
        "label conflict: frames with the same pixels as a frame of another class: 1 "
        "(first: 'a/000.png' and 'b/inside.png')"
    ]


def test_a_folder_that_may_not_be_read_is_a_skip(tmp_path, monkeypatch):
    root = film_folder(tmp_path, {"a": 1, "b": 1, "b/closed": 1})

    def scandir(path, original=os.scandir):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert FrameFolder(root, size=SIZE).skipped == [Skip("b/closed", "unreadable", "Permission denied")]


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda root: None, "no class folder, at least two are needed"),
        (lambda root: film_folder(root, {"a": 2}), "only one class folder ('a'), at least two are needed"),
        (lambda root: film_folder(root, {"a": 2, ".b": 2}), "only one class folder ('a')"),
        (lambda root: film_folder(root, {"a": 2, "b": 0}), "the class 'b' holds no usable frame: it is empty"),
        (lambda root: (root / "x.JPG").write_bytes(b""), "pictures beside the class folders: 1 (first: 'x.JPG')"),
        (
            lambda root: [film_folder(root, {"a": 1, "b": 1}), scene(0).save(root / "x.png")],
            "pictures beside the class folders: 1 (first: 'x.png')",
        ),
        (
            lambda root: [film_folder(root, {"a": 1, "b": 0}), (root / "b" / "x.jpg").write_text("x")],
            "the class 'b' holds no usable frame: 1 not-an-image",
        ),
        (
            lambda root: [film_folder(root, {"a": 1}), (root / "b").symlink_to("/")],
            "at least two are needed; links out of the folder are not followed ('b')",
        ),
    ],
)
def test_a_folder_of_another_structure_is_an_error_that_shows_the_expected_one(tmp_path, build, problem):
    build(tmp_path)
    with pytest.raises(DataError) as error:
        FrameFolder(tmp_path, size=SIZE)
    assert f"{str(tmp_path)!r}: " in str(error.value)
    assert problem in str(error.value)
    assert "films/\n        sintel/\n            001.jpg" in str(error.value)


def test_missing_folders_and_invalid_sizes_are_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(DataError, match=r"expected an existing folder of frames, got .*; check the path"):
            FrameFolder(path)
    with pytest.raises(ValueError, match="FrameFolder: expected size="):
        FrameFolder(tmp_path, size=(0, 5))


ODD_NAMES = [
    "new\nline.png",
    "carriage\rreturn.png",
    "tab\t, comma;semicolon.png",
    "'quotes' \"double\".png",
    "=cmd()|'x'!A0.png",
    "film 🎬 été.png",
    "\u202egnp.exe.png",
    "<script>alert(1)</script>".replace("/", "∕") + ".png",
    "\x1b[2J\x07.png",
    "%s %d {0} $(id).png",
    "n" * 251 + ".png",
    os.fsdecode(b"latin-1 \xe9t\xe9 \xff.png"),
]
ODD_CLASSES = ["<script>", "=cmd()", "-rf", "@x", "CON", " ", "'a", "été\n", os.fsdecode(b"\xff\xfe")]


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    for seed, name in enumerate(ODD_CLASSES):
        (root / name).mkdir()
        scene(seed).save(root / name / "x.png")
    for seed, name in enumerate(ODD_NAMES):
        (root / "<script>" / name).write_bytes(encoded(scene(100 + seed), "PNG"))
    return root


def test_unusual_names_of_files_and_classes_are_kept_in_csv_and_json(odd_folder, tmp_path):
    folder = FrameFolder(odd_folder, size=SIZE)
    assert folder.classes == sorted(ODD_CLASSES)
    paths = [path for path, _ in folder.samples]
    assert {f"<script>/{name}" for name in ODD_NAMES} < set(paths)
    assert json.loads(json.dumps(paths)) == paths

    folder.write_manifest(tmp_path / "manifest.csv")
    with open(tmp_path / "manifest.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [unescaped(row["path"]) for row in rows] == paths
    assert [unescaped(row["label"]) for row in rows] == [folder.classes[target] for _, target in folder.samples]
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())

    table = tmp_path / "groups.csv"
    with open(table, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([("path", "group"), *((path, f"shot of {path}") for path in paths)])
    by_table = FrameFolder(odd_folder, groups=table, size=SIZE)
    assert by_table.groups.tolist() == [f"shot of {path}" for path in paths]
    assert by_table.warnings == [warning for warning in folder.warnings if "one group" in warning]


def unescaped(cell):
    return cell.removeprefix("'")


def test_the_manifest_lists_every_file_once_and_lies_outside_the_folder(tmp_path):
    root = film_folder(tmp_path / "films", {"a": 2, "b": 1})
    (root / "a" / "x.jpg").write_bytes(b"")
    (root / "LICENSE").write_text("free")
    folder = FrameFolder(root, size=SIZE)
    folder.write_manifest(tmp_path / "manifest.csv")
    lines = (tmp_path / "manifest.csv").read_text().splitlines()
    assert lines == [
        "path,label,group,status,reason,detail,notes",
        "LICENSE,,,skipped,not-in-class,it lies beside the class folders,",
        f"a/000.png,a,{folder.groups[0]},used,,,",
        f"a/001.png,a,{folder.groups[1]},used,,,",
        "a/x.jpg,a,,skipped,empty,the file has no bytes,",
        f"b/000.png,b,{folder.groups[2]},used,,,",
    ]
    for inside in (root / "manifest.csv", root / "a" / "manifest.csv", tmp_path / "films" / ".." / "films" / "m.csv"):
        with pytest.raises(DataError, match=r"expected a file outside .*, which is only read"):
            folder.write_manifest(inside)
        assert not inside.exists()


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
watched: list[str] | None = None


@sys.addaudithook
def watch(event, arguments):
    if watched is not None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
            watched.append(f"open {arguments[0]}")
        elif event.split(".")[0] in ("os", "shutil", "socket", "subprocess") and event != "os.scandir":
            watched.append(event)


def test_nothing_in_the_folder_is_written_renamed_or_removed(tmp_path):
    global watched
    root = film_folder(tmp_path / "films", {"a": 4, "b": 4})
    (root / "a" / "cut.jpg").write_bytes(encoded(scene(9), "JPEG")[:300])
    (root / "a" / "zero").symlink_to("/dev/zero")
    rows = [f"{name}/00{i}.png,{name}{i}" for name in "ab" for i in range(4)]
    (root / "frames.csv").write_text("\n".join(["path,group", *rows]))
    before = tree(root)
    watched = []
    try:
        folder = FrameFolder(root, size=SIZE)
        for part in folder.split():
            np.asarray(part.frames)
        assert watched == []
    finally:
        watched = None
    assert tree(root) == before
    with open(tmp_path / "canary", "w"):
        watched = []
        open(tmp_path / "canary", "a").close()
    assert watched == [f"open {tmp_path / 'canary'}"], "the watch sees an opening for writing"
    watched = None


def test_the_order_of_files_on_disk_does_not_matter(tmp_path):
    first = film_folder(tmp_path / "first", {"a": 9, "b": 12})
    second = tmp_path / "second"
    for path in sorted(first.rglob("*.png"), key=lambda path: path.name[::-1], reverse=True):
        (second / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, second / path.parent.name)
    one, other = FrameFolder(first, size=SIZE), FrameFolder(second, size=SIZE)
    assert one.samples == other.samples
    assert one.groups.tolist() == other.groups.tolist()
    for seed in range(3):
        for part, same in zip(one.split(seed=seed), other.split(seed=seed), strict=True):
            assert part.paths == same.paths
            assert (np.asarray(part.frames) == np.asarray(same.frames)).all()


def test_the_same_picture_in_two_classes_is_a_label_conflict_but_a_black_frame_is_not(tmp_path):
    root = film_folder(tmp_path, {"a": 3, "b": 3})
    for name in "ab":
        Image.new("RGB", (64, 48)).save(root / name / "black.png")
        Image.fromarray(np.random.default_rng(ord(name)).integers(0, 9, (48, 64, 3), dtype=np.uint8)).save(
            root / name / "noise.png"
        )
    shutil.copy(root / "a" / "001.png", root / "b" / "copy.png")
    scene(2).save(root / "b" / "copy.bmp")
    folder = FrameFolder(root, size=SIZE)
    assert folder.warnings == [
        "label conflict: frames with the same pixels as a frame of another class: 2 "
        "(first: 'a/002.png' and 'b/copy.bmp')"
    ]
    group_of = dict(zip([path for path, _ in folder.samples], folder.groups, strict=True))
    assert group_of["a/001.png"] == group_of["b/copy.png"]
    assert group_of["a/002.png"] == group_of["b/copy.bmp"]
    assert len({group_of[f"{name}/{kind}.png"] for name in "ab" for kind in ("black", "noise")}) == 4


def test_frames_that_vanish_or_change_are_named_and_the_others_can_be_used(tmp_path):
    root = film_folder(tmp_path, {"a": 4, "b": 4})
    folder = FrameFolder(root, size=SIZE)
    (root / "a" / "001.png").unlink()
    (root / "b" / "002.png").write_bytes(encoded(scene(77), "PNG"))
    with pytest.raises(FrameLost) as lost:
        np.asarray(folder.frames)
    assert lost.value.paths == ("a/001.png", "b/002.png")
    rest = folder.without(lost.value.paths)
    assert skips(rest) == {"a/001.png": "vanished", "b/002.png": "changed"}
    assert len(folder) == folder.found == rest.found == 8
    assert len(rest) == len(rest.targets) == len(rest.groups) == len(np.asarray(rest.frames)) == 6
    assert {path for part in rest.split() for path in part.paths} == {path for path, _ in rest.samples}
    with pytest.raises(DataError, match=r"expected paths of used frames as in samples, got 'a/001.png'"):
        rest.without(["a/001.png"])
    with pytest.raises(DataError, match="the class 'a' holds no usable frame: 3 changed, 1 vanished"):
        rest.without([path for path, target in rest.samples if target == 0])


def test_a_class_of_one_group_is_a_warning(tmp_path):
    folder = FrameFolder(film_folder(tmp_path, {"a": 3, "b": 1}), size=SIZE)
    assert folder.warnings == ["class 'b' has one group only: all its frames are used for training, none for the test"]


def test_a_classifier_takes_the_frames_and_labels_of_a_folder_not_the_folder(tmp_path):
    folder = FrameFolder(film_folder(tmp_path, {"a": 4, "b": 4}), size=SIZE)
    classifier = FrameClassifier(n_filters=4, random_state=0)
    for given in (folder, folder.split()[0]):
        kind = type(given).__name__
        with pytest.raises(ShapeError, match=rf"expected frames, got {kind}; pass its frames, labels and groups"):
            classifier.fit(given, given.labels)
    classifier.fit(folder.frames, folder.labels, folder.groups)
    assert set(classifier.predict(folder.frames).tolist()) <= {"a", "b"}
