"""Whole groups are divided so that each class comes close to the wanted shares, and no group is in two parts."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import film_folder, scene
from PIL import Image

from framecnn.data import FrameFolder
from framecnn.data.near_duplicates import Fingerprint, near_duplicate_clusters
from framecnn.data.split import assign_folds, assign_parts
from framecnn.errors import DataError

TRAIN, VAL, TEST = range(3)
SIZE = (24, 32)

sizes_of_groups = st.lists(st.integers(1, 9), min_size=1, max_size=9)
shares = st.sampled_from([(0.7, 0.2, 0.1), (0.34, 0.33, 0.33), (0.98, 0.01, 0.01), (0.8, 0.0, 0.2), (0.9, 0.1, 0.0)])


def frames_of(classes):
    """Return the targets and groups of classes that are given as the sizes of their groups."""
    targets = np.concatenate([np.full(sum(sizes), i) for i, sizes in enumerate(classes)])
    groups = np.concatenate([np.repeat([f"{i}_{g}" for g in range(len(s))], s) for i, s in enumerate(classes)])
    return targets, groups


@given(st.lists(sizes_of_groups, min_size=2, max_size=5), shares, st.integers(0, 5))
@settings(deadline=None)
@example([[1, 1, 1], [1, 1, 1]], (0.7, 0.2, 0.1), 0)
@example([[1], [1]], (0.7, 0.2, 0.1), 0)
@example([[50, 1], [50, 1], [50, 1]], (0.7, 0.2, 0.1), 0)
@example([[3, 1], [9]], (0.34, 0.33, 0.33), 0)
def test_classes_are_in_all_parts_that_their_groups_allow(classes, fractions, seed):
    targets, groups = frames_of(classes)
    parts = assign_parts(targets, groups, fractions, seed)
    wanted = [part for part in (TRAIN, VAL, TEST) if fractions[part]]
    assert set(parts) <= set(wanted)
    for group in set(groups):
        assert len(set(parts[groups == group])) == 1
    for target, sizes in enumerate(classes):
        there = set(parts[targets == target])
        assert TRAIN in there
        assert len(sizes) < len(wanted) or there == set(wanted)
    spare_groups = sum(len(sizes) - 1 for sizes in classes)
    assert len(set(parts)) == min(len(wanted), 1 + spare_groups)
    if len(set(parts)) == len(wanted) == 3 and spare_groups > len(classes):
        lacking = [i for i, sizes in enumerate(classes) if len(sizes) > 1 and TEST not in parts[targets == i]]
        assert lacking == [], "a second group is used for test frames before validation frames"


@given(st.lists(sizes_of_groups, min_size=2, max_size=4), st.integers(0, 5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_seed_decides_and_the_order_of_the_frames_does_not(classes, seed, random):
    targets, groups = frames_of(classes)
    order = list(range(len(targets)))
    random.shuffle(order)
    parts = assign_parts(targets, groups, (0.6, 0.2, 0.2), seed)
    assert (assign_parts(targets[order], groups[order], (0.6, 0.2, 0.2), seed) == parts[order]).all()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=60), st.integers(0, 3))
@settings(deadline=None)
def test_groups_that_hold_several_classes_stay_whole_and_training_is_never_empty(frames, seed):
    targets, groups = np.array(frames).T
    parts = assign_parts(targets, groups, (0.7, 0.2, 0.1), seed)
    assert all(len(set(parts[groups == group])) == 1 for group in groups)
    assert TRAIN in parts


def test_groups_of_one_frame_are_divided_exactly():
    targets, groups = frames_of([[1] * 100, [1] * 50, [1] * 10])
    parts = assign_parts(targets, groups, (0.7, 0.2, 0.1))
    assert [np.bincount(parts[targets == target]).tolist() for target in range(3)] == [
        [70, 20, 10],
        [35, 10, 5],
        [7, 2, 1],
    ]


def test_shots_of_uneven_length_come_within_two_percent_of_the_wanted_shares():
    rng = np.random.default_rng(0)
    targets, groups = frames_of([rng.integers(1, 12, 60).tolist() for _ in range(5)])
    for seed in range(5):
        parts = assign_parts(targets, groups, (0.7, 0.2, 0.1), seed)
        for target in range(5):
            found = np.bincount(parts[targets == target], minlength=3) / (targets == target).sum()
            assert np.abs(found - (0.7, 0.2, 0.1)).max() < 0.02


def test_a_few_shots_of_uneven_length_come_within_twelve_percent_on_average():
    worst = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        targets, groups = frames_of([rng.integers(1, 30, 5).tolist() for _ in range(5)])
        parts = assign_parts(targets, groups, (0.7, 0.2, 0.1), seed)
        counts = np.array([np.bincount(parts[targets == target], minlength=3) for target in range(5)])
        worst.append(np.abs(counts / counts.sum(axis=1, keepdims=True) - (0.7, 0.2, 0.1)).max())
    assert np.mean(worst) < 0.12


@given(st.lists(sizes_of_groups, min_size=2, max_size=3), st.integers(0, 5))
@settings(deadline=None)
def test_no_move_of_one_group_comes_closer_to_the_wanted_shares_without_breaking_a_rule(classes, seed):
    targets, groups = frames_of(classes)
    wanted = np.array((0.7, 0.2, 0.1))
    parts = assign_parts(targets, groups, wanted, seed)

    def seen_and_distance(parts):
        counts = np.array([np.bincount(parts[targets == target], minlength=3) for target in range(len(classes))])
        return counts > 0, ((counts / counts.sum(axis=1, keepdims=True) - wanted) ** 2).sum()

    seen, distance = seen_and_distance(parts)
    for group in set(groups):
        for part in (TRAIN, VAL, TEST):
            moved_seen, moved_distance = seen_and_distance(np.where(groups == group, part, parts))
            assert (moved_seen != seen).any() or moved_distance > distance - 1e-6


def test_another_seed_gives_another_split_and_long_shots_get_into_the_test_too():
    targets, groups = frames_of([[9] * 5 + [1] * 60, [9] * 5 + [1] * 60])
    splits = [assign_parts(targets, groups, (0.5, 0.2, 0.3), seed) for seed in range(20)]
    assert len({parts.tobytes() for parts in splits}) == 20
    assert any((parts[groups == "0_0"] == TEST).all() for parts in splits)


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.2, 0.2), (0, 0.5, 0.5), (1.2, -0.1, -0.1), (0.5, 0.5), (np.nan, 0.5, 0.5)]
)
def test_shares_that_do_not_sum_to_one_are_refused(fractions):
    with pytest.raises(ValueError, match="split: expected shares of train"):
        assign_parts(np.array([0, 1]), np.array([0, 1]), fractions)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 127), max_size=9)), min_size=4, max_size=40),
    st.integers(0, 3),
)
@settings(deadline=None)
def test_no_two_near_duplicates_are_in_different_parts(frames, seed):
    scenes = np.random.default_rng(7).integers(0, 2, (6, 128), dtype=np.uint8)
    bits = np.array([scenes[base] for base, _ in frames])
    for row, (_, places) in enumerate(frames):
        bits[row, list(places)] ^= 1
    prints = [Fingerprint(np.packbits(row).tobytes(), row.tobytes()) for row in bits]
    parts = assign_parts(np.arange(len(frames)) % 2, near_duplicate_clusters(prints), (0.5, 0.25, 0.25), seed)
    near = (bits[:, None] != bits).sum(axis=2) <= 12
    assert (parts[:, None] == parts)[near].all()


@given(st.lists(sizes_of_groups, min_size=2, max_size=4), st.integers(2, 4), st.integers(0, 3))
@settings(deadline=None)
def test_folds_hold_every_group_out_once_and_none_is_empty(classes, k, seed):
    targets, groups = frames_of(classes)
    if len(set(groups)) < k or np.bincount(targets).max() < k:
        with pytest.raises(
            DataError, match=f"folds: expected at least {k} groups and a class of {k} frames for {k} folds"
        ):
            assign_folds(targets, groups, k, seed)
        return
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        folds = assign_folds(targets, groups, k, seed)
    assert seen == []
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    assert set(folds) == set(range(k))
    assert (folds == assign_folds(targets, groups, k, seed)).all()


def test_folds_of_one_part_are_refused():
    with pytest.raises(ValueError, match="folds: expected k of at least 2, got 1"):
        assign_folds(np.array([0, 1]), np.array([0, 1]), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return two classes of ten shots, each of two near-duplicates, and one class of one shot."""
    root = film_folder(tmp_path_factory.mktemp("films"), {"a": 10, "b": 10, "c": 1})
    for path in list(root.rglob("*.png")):
        Image.open(path).resize((60, 50)).save(path.with_name(f"{path.stem}_later.png"))
    return FrameFolder(root, size=SIZE)


def test_the_parts_of_a_folder_are_its_frames(folder):
    parts = folder.split(0.7, 0.2, 0.1, seed=3)
    assert [len(part) for part in parts] == [14 * 2 + 2, 4 * 2, 2 * 2]
    assert sorted(index for part in parts for index in part.indices) == list(range(len(folder)))
    for part in parts:
        assert part.root == folder.root
        assert part.classes == folder.classes
        assert part.samples == [folder.samples[index] for index in part.indices]
        assert part.paths == [path for path, _ in part.samples]
        assert part.targets.tolist() == [target for _, target in part.samples]
        assert part.labels.tolist() == folder.labels[part.indices].tolist()
        assert part.labels.tolist() == [folder.classes[target] for target in part.targets]
        assert (part.groups == folder.groups[part.indices]).all()
        assert (np.asarray(part.frames) == np.asarray(folder.frames)[part.indices]).all()
    assert not set(parts[0].groups) & set(parts[1].groups) | set(parts[1].groups) & set(parts[2].groups)


def test_a_split_describes_itself_and_its_gaps(folder):
    train, val, test = folder.split(seed=5)
    assert train.split_note == (
        "by group (clusters of near-duplicates), seed 5: 70 % training, 20 % validation, 10 % test of each class, as "
        "nearly as whole groups allow"
    )
    alone = "class 'c' has one group only: all its frames are used for training, none for the test"
    assert train.warnings == (alone,)
    assert alone in folder.warnings
    assert (train.split_note, train.warnings) == (val.split_note, val.warnings) == (test.split_note, test.warnings)
    assert folder.split(0.8, 0, 0.2)[0].warnings == (alone,)


def test_a_random_split_warns_of_near_duplicates_on_both_sides(folder):
    for some in (folder, folder.without(path for path, _ in folder.samples[:12:3])):
        train, val, test = some.split(seed=1, by="random")
        assert train.split_note == (
            "at random, not by group, seed 1: 70 % training, 20 % validation, 10 % test of each class; near-duplicates "
            "on both sides make the accuracies too high"
        )
        shared = set(train.groups)
        n_similar = sum(group in shared for part in (val, test) for group in part.groups)
        assert n_similar > 0
        counts = f"{n_similar} of {len(val) + len(test)} validation and test frames (first: "
        assert f"near-duplicates of training frames: {counts}" in train.warnings[-1]
    assert [len(part) for part in folder.split(by="random")] == [29, 8, 5]
    with pytest.raises(ValueError, match="expected by='group' or by='random', got by='class'"):
        folder.split(by="class")


def test_near_duplicates_in_two_groups_of_a_table_are_reported(tmp_path):
    root = film_folder(tmp_path, {"a": 2, "b": 2})
    scene(0).resize((60, 50)).save(root / "a" / "001.png")
    (root / "frames.csv").write_text("path,group\na/000.png,1\na/001.png,2\nb/000.png,3\nb/001.png,4\n")
    train, _, _ = FrameFolder(root, size=SIZE).split(0.5, 0, 0.5)
    assert any(
        "near-duplicates of training frames: 1 of 2 test frames (first: 'a/00" in warning for warning in train.warnings
    )


def test_folds_warn_of_classes_that_they_lack(folder):
    pairs = folder.folds(4, seed=2)
    assert len(pairs) == 4
    assert sorted(index for _, test in pairs for index in test.indices) == list(range(len(folder)))
    for number, (train, test) in enumerate(pairs, 1):
        assert not set(train.groups) & set(test.groups)
        assert train.split_note.startswith(f"fold {number} of 4 by group (clusters")
        tested = "class 'c' has one group only: all its frames are used for training, none for the test"
        assert (
            train.warnings == test.warnings == (tested if 2 in train.targets else "no training frames for class 'c'",)
        )


def test_data_can_be_imported_without_scikit_learn():
    program = "import sys, framecnn.data; assert not any(name.startswith(('sklearn', 'scipy')) for name in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
