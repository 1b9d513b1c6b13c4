"""Batches of training: order and augmentation depend on seed and epoch only."""

import numpy as np
import pytest

from framecnn.data import Augmentation
from framecnn.training.batches import epoch_batches, ordered_batches

FRAMES = np.random.default_rng(0).integers(0, 256, (11, 6, 8, 3), np.uint8)
TARGETS = np.arange(11)
AUGMENT = Augmentation(flip=True, brightness=0.2)


def epoch(batch_size=4, seed=0, epoch=1, augment=None):
    _, batches = epoch_batches(FRAMES, TARGETS, batch_size, seed, epoch, augment)
    return list(batches)


def by_target(batches):
    return {target: frame.tobytes() for batch in batches for frame, target in zip(*batch, strict=True)}


def test_an_epoch_has_every_frame_once_and_a_smaller_last_batch():
    batches = epoch()
    assert [len(targets) for _, targets in batches] == [4, 4, 3]
    order = np.concatenate([targets for _, targets in batches])
    assert sorted(order) == TARGETS.tolist()
    np.testing.assert_array_equal(np.concatenate([frames for frames, _ in batches]), FRAMES[order])


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 2}])
def test_another_seed_or_epoch_has_another_order(other):
    assert [targets.tolist() for _, targets in epoch()] != [targets.tolist() for _, targets in epoch(**other)]


def test_a_frame_is_augmented_alike_in_batches_of_any_size():
    small, large = (by_target(epoch(size, augment=AUGMENT)) for size in (2, 11))
    assert small == large != by_target([(FRAMES, TARGETS)])


def test_the_generator_has_drawn_the_order():
    rng, batches = epoch_batches(FRAMES, TARGETS, 4, 3, 2, None)
    batches.close()
    expected = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(2,)))
    expected.permutation(len(TARGETS))
    assert rng.random() == expected.random()


def test_validation_batches_have_the_given_order():
    batches = ordered_batches(FRAMES, TARGETS, 6, TARGETS[::-1])
    assert [targets.tolist() for _, targets in batches] == [[10, 9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]
