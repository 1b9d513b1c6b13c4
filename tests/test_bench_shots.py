"""The benchmark of shots knows the times of its transitions, and counts correctly."""

import numpy as np
import pytest

from benchmarks.bench_shots import blend_examples, measure, movies, score
from benchmarks.transition_clips import KINDS, Composed, Shot, Transition, compose, rendered_shot, visible_shot
from framecnn.data.small_pictures import is_blank
from framecnn.data.transitions import expanded


def flat_shot(value, seconds=3.0):
    return Shot(lambda times: np.full((len(times), 36, 64, 3), value, np.float32), seconds)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [10, 60])
def test_frames_are_mixed_within_transitions_and_nowhere_else(kind, rate):
    movie = compose(kind, [flat_shot(60), flat_shot(120), flat_shot(180)], rate, np.random.default_rng(1))
    luma = movie.pictures.mean((1, 2, 3))
    is_pure = np.isin(luma, (60, 120, 180))
    inside = np.zeros(len(luma), bool)
    for transition in movie.transitions:
        inside[round(transition.start * rate) : round(transition.end * rate)] = True
    for start, end in movie.flashes:
        inside[round(start * rate) : round(end * rate)] = True
    assert len(movie.transitions) == 2
    assert is_pure[~inside].all()


def test_a_seed_gives_the_same_movie_again():
    first, second = (compose("wipe", [rendered_shot(1), rendered_shot(2)], 12, np.random.default_rng(0)) for _ in "ab")
    np.testing.assert_array_equal(first.pictures, second.pictures)


def test_no_scene_is_of_one_flat_colour():
    times = np.linspace(0, 4.5, 9)
    flat = [picture for picture in rendered_shot(91, 4.5).pictures(times) if is_blank(picture.astype(np.uint8))]
    assert len(flat) == 9
    np.testing.assert_array_equal(visible_shot(91, 4.5).pictures(times), rendered_shot(1091, 4.5).pictures(times))
    np.testing.assert_array_equal(visible_shot(1, 4.5).pictures(times), rendered_shot(1, 4.5).pictures(times))


def test_right_missed_and_false_boundaries_are_counted():
    transitions = [Transition("cut", 1.0, 1.0), Transition("cut", 2.0, 2.0)]
    movie = Composed(24, np.arange(72) / 24, None, transitions, [(2.5, 2.6)])
    assert score(movie, [1.04, 2.5, 2.9]) == (1, 1, 2, 1)
    assert score(movie, []) == (0, 2, 0, 0)


def test_figures_and_examples_come_from_the_movies():
    made = list(movies([], "held-out", 1, 0, kinds=("dissolve",), rates=(10,)))
    assert [(source, kind) for source, kind, _ in made] == [("rendered", "dissolve")]
    total = measure(made)["rows"][0]
    assert total["transitions"] == 5
    x, y, widths = blend_examples(made[0][2])
    assert x.shape == (len(y), expanded(np.ones((1, 12))).shape[1])
    assert len(widths) == len(y)
    assert 0 < y.sum() < len(y)
