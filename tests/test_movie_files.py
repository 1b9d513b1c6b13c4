"""The movies in folders: which files they are, their names and their labels."""

import os

import pytest

from framecnn.data.movie_files import find_movies
from framecnn.errors import DataError


def write(root, *names):
    """Write empty files, and return the folder."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(found):
    return [(movie.name, movie.label) for movie in found.movies]


def test_folders_in_a_folder_are_classes_and_part_of_the_names(tmp_path):
    root = write(tmp_path, "drama/a.mp4", "comedy/a.MKV", "comedy/1921/the kid.avi", "comedy/1922/the kid.avi")
    found = find_movies([root])
    assert names(found) == [
        ("comedy_1921_the_kid", "comedy"),
        ("comedy_1922_the_kid", "comedy"),
        ("comedy_a", "comedy"),
        ("drama_a", "drama"),
    ]
    assert [movie.path for movie in found.movies][2] == root / "comedy/a.MKV"
    assert found.describe() == ["4 movies found; labels by class folder: comedy (3), drama (1)"]


def test_movies_directly_in_a_folder_are_classes_of_their_own_like_files(tmp_path):
    root = write(tmp_path, "b.mp4", "a.mov")
    found = find_movies([root])
    assert names(found) == [("a", "a"), ("b", "b")]
    assert found.describe() == [
        "2 movies found; each is a class of its own, by its name, because they lie in no class folders"
    ]
    assert names(find_movies([root / "b.mp4", root / "a.mov"])) == [("b", "b"), ("a", "a")]
    assert find_movies([root / "b.mp4", root / "a.mov"]).describe() == []


def test_a_label_holds_for_all_movies_wherever_they_lie(tmp_path):
    root = write(tmp_path, "a.mp4", "comedy/b.mp4")
    found = find_movies([root], label="films")
    assert names(found) == [("a", "films"), ("comedy_b", "films")]
    assert found.describe() == ["2 movies found; label: films (2)"]


def test_files_that_are_no_movies_are_skipped_and_listed_with_the_reason(tmp_path):
    root = write(tmp_path / "movies", "c/a.mp4", "c/a.srt", "readme.txt", "c/.a.mp4", "c/@eaDir/a.mp4", "c/old/b.jpg")
    (root / "folder.mp4").mkdir()
    os.symlink(root / "c", root / "link")
    os.symlink(root / "gone", root / "c" / "gone.mkv")
    os.symlink(write(tmp_path / "elsewhere", "d.mp4") / "d.mp4", root / "c" / "d.mp4")
    found = find_movies([root])
    assert names(found) == [("c_a", "c"), ("c_d", "c")]
    assert {path.relative_to(root).as_posix(): reason for path, reason in found.skipped} == {
        "link": "a link to a folder",
        "readme.txt": "its suffix is not that of a movie",
        "c/@eaDir": "it belongs to a NAS or an operating system",
        "c/.a.mp4": "names that start with a dot are skipped",
        "c/a.srt": "its suffix is not that of a movie",
        "c/gone.mkv": "not a regular file",
        "c/old/b.jpg": "its suffix is not that of a movie",
    }
    assert f"skipped {str(root / 'readme.txt')!r}: its suffix is not that of a movie" in found.describe()


def test_of_very_many_skipped_files_the_first_are_listed(tmp_path):
    lines = find_movies([write(tmp_path, "a.mp4", *(f"{i:03d}.txt" for i in range(50)))]).describe()
    assert len(lines) == 1 + 20 + 1
    assert lines[-1] == "skipped: 30 more"


def test_the_folder_of_frames_may_lie_in_the_folder_of_movies(tmp_path):
    root = write(tmp_path, "c/a.mp4", "frames/c/a_0000.000s.jpg", "frames/d/b.mp4")
    found = find_movies([root], root / "frames")
    assert names(found) == [("c_a", "c")]
    assert not found.skipped


def test_long_paths_that_differ_at_their_end_have_different_names_of_bounded_length(tmp_path):
    root = write(tmp_path, *(f"{'Süden' * 14}/{'x' * 60}{i}.mp4" for i in range(3)))
    found = [name for name, _ in names(find_movies([root]))]
    assert len(set(found)) == 3
    assert all(len(name.encode()) <= 80 for name in found)
    assert found == [name for name, _ in names(find_movies([root]))]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.mp4", "c/b.mp4", "c/d.mp4"], r"got 1 directly in it \(first: 'a.mp4'\) and 2 in folders; move them, or"),
        (["con/a.mp4"], "con' cannot be a class: Windows reserves the name con for a device; rename it, or give"),
        (["a.txt", "c/b.jpg"], r"no movie in the folder .*; skipped: 2 \(first: '.*a\.txt'\); expected files such as"),
        ([], r"no movie in the folder '[^']*'; expected files such as a.mp4 or b.mkv in it or in folders of it; name"),
        (["c/a.mp4", "c/A.mkv"], r"two movies are called 'c_a': .*A\.mkv' and .*a\.mp4'; rename one of the files, or"),
        (["c/a b.mp4", "c/a_b.mp4"], "two movies are called 'c_a_b'"),
    ],
)
def test_folders_that_are_not_clear_are_refused_with_the_remedy(tmp_path, files, message):
    with pytest.raises(DataError, match=message) as refused:
        find_movies([write(tmp_path, *files)])
    assert "\n" not in str(refused.value)


def test_files_of_one_name_need_the_folder_above_both(tmp_path):
    root = write(tmp_path, "x/a.mp4", "y/a.mp4")
    for pair in ([root / "x", root / "y"], [root / "x/a.mp4", root / "y/a.mp4"]):
        with pytest.raises(DataError, match=r"two movies are called 'a'.* or give the folder above both"):
            find_movies(pair)
    assert names(find_movies([root])) == [("x_a", "x"), ("y_a", "y")]


def test_a_movie_is_not_cut_twice_under_two_names(tmp_path):
    root = write(tmp_path, "c/a.mp4")
    with pytest.raises(DataError, match=r"a\.mp4' and '.*a\.mp4' are the same movie file; leave out one of them"):
        find_movies([root, root / "c/a.mp4"])
    os.symlink(root / "c/a.mp4", root / "c/b.mp4")
    with pytest.raises(DataError, match=r"a\.mp4' and '.*b\.mp4' are the same movie file"):
        find_movies([root])


def test_folders_that_cannot_be_read_are_listed_or_refused(tmp_path, monkeypatch):
    root, real = write(tmp_path / "movies", "c/a.mp4", "d/b.mp4"), os.scandir

    def scandir(path):
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    closed = root / "d"
    found = find_movies([root])
    assert names(found) == [("c_a", "c")]
    assert found.skipped == [(closed, "cannot be read (Permission denied)")]
    closed = root
    with pytest.raises(DataError, match=r"cannot read the folder '.*movies' \(Permission denied\); check its perm"):
        find_movies([root])
