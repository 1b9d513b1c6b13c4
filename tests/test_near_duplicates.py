"""Near-duplicates are one cluster; flat frames resemble no other frame."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, scene
from PIL import Image, ImageEnhance
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from framecnn.data import near_duplicates
from framecnn.data.near_duplicates import Fingerprint, fingerprint, near_duplicate_clusters, same_pixels_in_two_classes


def prints(*images):
    return [fingerprint(np.asarray(image.convert("RGB"))) for image in images]


def clusters(*images):
    return near_duplicate_clusters(prints(*images)).tolist()


def test_the_next_frame_of_a_shot_is_a_near_duplicate():
    frame = scene(0, 240, 360)
    compressed = Image.open(io.BytesIO(encoded(frame, "JPEG", quality=40)))
    brighter = ImageEnhance.Brightness(frame).enhance(0.9)
    moved = Image.new("RGB", frame.size)
    moved.paste(frame, (3, 0))
    assert clusters(frame, scene(1, 240, 360), compressed, brighter, moved) == [0, 1, 0, 0, 0]


def test_different_scenes_are_not_near_duplicates():
    assert clusters(*(scene(seed) for seed in range(100))) == list(range(100))


@pytest.mark.parametrize("level", [0, 90, 255])
def test_flat_frames_have_no_duplicates_even_with_noise(level):
    noise = np.random.default_rng(0).integers(-6, 7, (4, 48, 64, 3))
    flat = [Image.new("RGB", (64, 48), (level,) * 3)] * 3
    noisy = [Image.fromarray(np.clip(level + one, 0, 255).astype(np.uint8)) for one in noise]
    assert clusters(*flat, *noisy, *noisy) == list(range(11))


def test_noise_in_the_dark_half_of_a_frame_does_not_hide_a_near_duplicate():
    frame = np.asarray(scene(3)).astype(int)
    frame[24:] = 20
    noise = np.random.default_rng(0).integers(0, 17, (2, *frame.shape))
    first, second = (Image.fromarray((frame + one).clip(0, 255).astype(np.uint8)) for one in noise)
    assert clusters(first, second) == [0, 0]


def test_plain_frames_are_compared_pixel_by_pixel_only():
    plain = np.full((48, 64, 3), 255, np.uint8)
    plain[20:24, 20:40] = 0
    other = plain.copy()
    other[20, 20] = 9
    images = [Image.fromarray(pixels) for pixels in (plain, other, plain)]
    assert [one.bits for one in prints(*images)] == [b"", b"", b""]
    assert clusters(*images) == [0, 1, 0]


def flipped(bits, places):
    array = np.unpackbits(np.frombuffer(bits, np.uint8))
    array[list(places)] ^= 1
    return np.packbits(array).tobytes()


def test_twelve_differing_bits_link_and_thirteen_do_not():
    bits = bytes(range(16))
    near, far = flipped(bits, range(12)), flipped(bits, range(13))
    both = [Fingerprint(bits, b"0"), Fingerprint(near, b"1")]
    assert near_duplicate_clusters(both).tolist() == [0, 0]
    assert near_duplicate_clusters([both[0], Fingerprint(far, b"2")]).tolist() == [0, 1]
    assert near_duplicate_clusters([*both, Fingerprint(far, b"2")]).tolist() == [0, 0, 0], "linked through the second"


hashes = st.builds(
    lambda base, places, digest: Fingerprint(flipped(bytes([base] * 16), places), bytes([digest])),
    st.integers(1, 3),
    st.sets(st.integers(0, 127), max_size=16),
    st.integers(0, 40),
)
plain = st.builds(lambda digest: Fingerprint(b"", bytes([100 + digest])), st.integers(0, 3))


@given(st.lists(hashes | plain | st.just(Fingerprint(b"", b"")), max_size=25))
@settings(deadline=None)
def test_clusters_are_the_connected_components_of_the_links(frames):
    frames = list({frame.digest: frame for frame in frames if frame.digest}.values()) + [
        frame for frame in frames if not frame.digest
    ]
    frames += frames
    linked = np.array([[linked_directly(one, other) for other in frames] for one in frames], bool)
    linked = linked.reshape(len(frames), len(frames))
    for middle in range(len(frames)):
        linked |= np.outer(linked[:, middle], linked[middle])
    found = near_duplicate_clusters(frames)
    assert ((found[:, None] == found) == (linked | np.eye(len(frames), dtype=bool))).all()
    _, first = np.unique(found, return_index=True)
    assert (np.diff(first) > 0).all(), "numbered in the order of their first frames"


def test_any_twelve_differing_bits_leave_a_word_with_at_most_one():
    assert near_duplicates._BITS == 128
    assert 2 * near_duplicates._WORDS > near_duplicates._NEAR


@pytest.mark.parametrize(("n_shots", "noise", "share"), [(1, 0.05, 0.2), (40, 0.04, 0.3), (2000, 0.03, 0.5)])
def test_thousands_of_frames_have_the_clusters_of_a_comparison_of_all_with_all(n_shots, noise, share):
    rng = np.random.default_rng(n_shots)
    shots = rng.random((n_shots, 128)) < share
    bits = np.packbits(shots[rng.integers(n_shots, size=2500)] ^ (rng.random((2500, 128)) < noise), axis=1)
    frames = [Fingerprint(row.tobytes(), number.to_bytes(2, "big")) for number, row in enumerate(bits)]
    halves = bits.view(np.uint64)
    distance = sum(np.bitwise_count(half[:, None] ^ half) for half in np.ascontiguousarray(halves.T))
    _, parts = connected_components(csr_array(distance <= 12), directed=False)
    _, first, parts = np.unique(parts, return_index=True, return_inverse=True)
    expected = np.argsort(np.argsort(first))[parts]
    assert (near_duplicate_clusters(frames) == expected).all()
    assert expected.max() > 0


@pytest.mark.parametrize("n_shots", [1, 100, 10_000])
def test_few_of_all_pairs_are_compared(monkeypatch, n_shots):
    compared, near = [], near_duplicates._near
    monkeypatch.setattr(near_duplicates, "_near", lambda *given: [compared.append(len(given[1])), near(*given)][1])
    rng = np.random.default_rng(0)
    shots = rng.random((n_shots, 128)) < 0.4
    rows = np.packbits(shots[np.arange(10_000) % n_shots] ^ (rng.random((10_000, 128)) < 0.02), axis=1)
    near_duplicate_clusters([Fingerprint(row.tobytes(), number.to_bytes(3, "big")) for number, row in enumerate(rows)])
    assert sum(compared) < 10_000**2 / 100


def linked_directly(one, other):
    if one.digest and one.digest == other.digest:
        return True
    if not (one.bits and other.bits):
        return False
    return (
        np.unpackbits(np.frombuffer(one.bits, np.uint8)) != np.unpackbits(np.frombuffer(other.bits, np.uint8))
    ).sum() <= 12


def test_conflicts_name_the_first_frame_and_each_one_in_another_class():
    same, other, flat = Fingerprint(b"", b"same"), Fingerprint(b"", b"other"), Fingerprint(b"", b"")
    samples = [("a/0", 0), ("a/1", 0), ("b/0", 1), ("b/1", 1), ("c/0", 2), ("c/1", 2)]
    frames = [same, flat, same, other, same, flat]
    assert same_pixels_in_two_classes(samples, frames) == [("a/0", "b/0"), ("a/0", "c/0")]


def test_frames_with_the_same_bytes_and_another_shape_differ():
    pixels = np.asarray(scene(4))
    assert fingerprint(pixels).digest != fingerprint(pixels.reshape(64, 48, 3)).digest


def test_the_pixels_of_a_frame_are_not_changed_and_need_not_be_contiguous():
    pixels = np.asarray(scene(4)).copy()
    assert fingerprint(pixels[::-1]) == fingerprint(pixels[::-1].copy())
    assert (pixels == np.asarray(scene(4))).all()
