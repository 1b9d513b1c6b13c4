"""A scan finds every file of a folder once, skips system files, and decodes the others quickly."""

import pytest
from pictures import film_folder, scene

from framecnn.data import FrameFolder, decode
from framecnn.data import scan as scanning
from framecnn.data.near_duplicates import fingerprint
from framecnn.errors import DataError

SIZE = (24, 32)


def skips(folder):
    return {skip.path: skip.reason for skip in folder.skipped}


SYSTEM = [
    *("@eaDir", "@tmp", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "~snapshot", "__MACOSX"),
    *("Network Trash Folder", "Temporary Items", "Icon\r", "$RECYCLE.BIN", "RECYCLER", "RECYCLED", "lost+found"),
    *("System Volume Information", "FOUND.000", "Thumbs.db", "Thumbs.db:encryptable", "ehthumbs.db"),
    *("ehthumbs_vista.db", "desktop.ini", "Picasa.ini"),
]
DOTTED = [".AppleDouble", "._x.png", ".Trashes", ".Spotlight-V100", ".fseventsd", ".@__thumb", ".snapshot"]


@pytest.mark.parametrize("place", ["", "a/", "a/reel 1/"])
def test_system_files_of_a_nas_or_an_operating_system_are_neither_frames_nor_classes(tmp_path, place):
    root = film_folder(tmp_path / "films", {"a": 1, "a/reel 1": 1, "b": 1})
    for name in [*SYSTEM, *DOTTED]:
        (root / place / name / "x.jpg").mkdir(parents=True)
        scene(0).save(root / place / name / "SYNOPHOTO_THUMB_M.png")
        scene(0).save(root / place / name / "x.jpg" / "SYNOPHOTO_THUMB_M.png")
    folder = FrameFolder(root, size=SIZE)
    assert (folder.classes, len(folder)) == (["a", "b"], 3)
    expected = dict.fromkeys(SYSTEM, "system") | dict.fromkeys(DOTTED, "hidden")
    assert skips(folder) == {place + name: reason for name, reason in expected.items()}
    folder.write_manifest(tmp_path / "manifest.csv")
    assert (tmp_path / "manifest.csv").read_bytes().count(b"it belongs to a NAS or an operating system") == len(SYSTEM)


def test_names_that_only_start_like_system_names_are_frames_and_classes(tmp_path):
    root = film_folder(tmp_path / "films", {"recycled films": 1, "__MACOSX 2": 1, "found.00": 1})
    scene(7).save(root / "found.00" / "Thumbs.db.png")
    assert FrameFolder(root, size=SIZE).classes == ["__MACOSX 2", "found.00", "recycled films"]


def test_a_scan_enlarges_no_picture_and_shrinks_as_training_does(tmp_path, monkeypatch):
    root = film_folder(tmp_path, {"a": 1, "b": 1})
    scene(5, 40, 200).save(root / "b" / "wide.png")
    decoded = []
    monkeypatch.setattr(scanning, "fingerprint", lambda pixels: [decoded.append(pixels), fingerprint(pixels)][1])
    for size, expected in (((240, 360), {(48, 64), (40, 200)}), ((44, 100), {(44, 64), (40, 100)})):
        decoded.clear()
        folder = FrameFolder(root, size=size)
        assert {pixels.shape[:2] for pixels in decoded} == expected
        assert folder.frames.shape == (3, *size, 3)
    decoded.clear()
    FrameFolder(root, size=(24, 32))
    shown = decode(root / "a" / "000.png", (24, 32)).pixels
    assert any((pixels == shown).all() for pixels in decoded)


@pytest.mark.parametrize("n_frames", [1, 15, 16, 17, 150])
def test_every_file_is_decoded_once_however_many_there_are(tmp_path, n_frames):
    root = film_folder(tmp_path, {"a": n_frames, "b": 1})
    done = []
    folder = FrameFolder(root, size=(8, 8), progress=lambda *numbers: done.append(numbers))
    assert done == [(number, n_frames + 1) for number in range(1, n_frames + 2)]
    assert len(folder) == n_frames + 1


COMPANIONS = [
    "001.txt",
    "labels.CSV",
    "001.xml",
    "001.json",
    "README.md",
    "film.srt",
    "data.yaml",
    "index.html",
    "a.xmp",
]


@pytest.mark.parametrize("place", ["", "a/", "a/reel 1/"])
def test_files_that_commonly_lie_beside_pictures_are_no_pictures_and_are_not_read(tmp_path, place):
    root = film_folder(tmp_path / "films", {"a": 1, "a/reel 1": 1, "b": 1})
    for name in COMPANIONS:
        scene(0).save(root / place / name, "PNG")
    folder = FrameFolder(root, size=SIZE)
    assert len(folder) == 3
    assert skips(folder) == {place + name: "not-a-picture" for name in COMPANIONS}
    assert folder.skipped[0].detail.startswith("files called .")


def test_a_folder_of_companions_is_no_class_but_an_empty_one_is_an_error(tmp_path):
    root = film_folder(tmp_path / "films", {"a": 1, "b": 1, "x.txt": 1, "Annotations": 0})
    (root / "Annotations" / "001.xml").write_text("x")
    folder = FrameFolder(root, size=SIZE)
    assert folder.classes == ["a", "b", "x.txt"], "a folder may have any name"
    assert folder.scan_warnings == [
        "folder 'Annotations' holds no pictures, only files such as 'Annotations/001.xml': it is not a class"
    ]
    (root / "empty").mkdir()
    with pytest.raises(DataError, match="the class 'empty' holds no usable frame: it is empty"):
        FrameFolder(root, size=SIZE)
