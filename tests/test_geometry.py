"""Output sizes, borders and windows, counted out by sliding a window by hand."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from framecnn import SettingError, ShapeError
from framecnn.geometry import adaptive_cells, as_padding, pair, window_output, window_pixels

lengths, windows, strides, dilations = (st.integers(1, most) for most in (20, 5, 5, 4))
sides = st.tuples(st.integers(0, 4), st.integers(0, 4))


def places(length, window, stride, dilation, before, after):
    """The pixels of every window that lies wholly within frame and border; the frame begins at 0."""
    found, first = [], -before
    while first + dilation * (window - 1) < length + after:
        found.append([first + dilation * u for u in range(window)])
        first += stride
    return found


@settings(deadline=None)
@given(lengths, lengths, windows, windows, strides, dilations, st.tuples(sides, sides))
def test_as_many_windows_as_fit_between_the_borders(height, width, kh, kw, stride, dilation, padding):
    frame, window = (height, width), (kh, kw)
    counts = tuple(
        len(places(n, k, stride, dilation, *border)) for n, k, border in zip(frame, window, padding, strict=True)
    )
    arguments = (frame, window, (stride, stride), (dilation, dilation), padding, "X")
    if min(counts) == 0:
        with pytest.raises(
            ShapeError, match=f"X: expected frames of at least .* with the border, got {height}x{width}"
        ):
            window_output(*arguments)
    else:
        assert window_output(*arguments) == (counts, padding)


@given(lengths, lengths, windows, strides, dilations)
def test_valid_is_no_border(height, width, window, stride, dilation):
    assume(min(height, width) > dilation * (window - 1))
    rest = ((height, width), (window, window), (stride, 1), (1, dilation))
    assert window_output(*rest, "valid", "X") == window_output(*rest, ((0, 0), (0, 0)), "X")


@given(lengths, lengths, windows, windows, strides, dilations)
def test_same_gives_a_window_for_every_step_and_the_odd_pixel_of_the_border_comes_last(height, width, kh, kw, s, d):
    output, border = window_output((height, width), (kh, kw), (s, s), (d, d), "same", "X")
    assert output == (len(range(0, height, s)), len(range(0, width, s)))
    for length, window, (before, after) in ((height, kh, border[0]), (width, kw, border[1])):
        assert after - before in (0, 1)
        assert len(places(length, window, s, d, before, after)) == len(range(0, length, s))
        assert before + after == 0 or len(places(length, window, s, d, before, after - 1)) < len(range(0, length, s))


@given(lengths, windows, strides, dilations, sides)
def test_the_pixels_of_a_window_are_those_that_exist(length, window, stride, dilation, border):
    found = places(length, window, stride, dilation, *border)
    assume(found)
    starts, stops, step = window_pixels(length, len(found), window, stride, dilation, border[0])
    existing = [[p for p in pixels if 0 <= p < length] for pixels in found]
    assert [list(range(*bounds, step)) for bounds in zip(starts, stops, strict=True)] == existing


@given(lengths, st.integers(1, 25))
def test_adaptive_cells_cover_the_axis_by_the_papers_rule(length, cells):
    starts, stops, step = adaptive_cells(length, cells)
    exact = np.arange(cells + 1) * length / cells  # of small whole numbers: floor and ceil are exact
    np.testing.assert_array_equal(starts, np.floor(exact[:-1] + 1e-9))
    np.testing.assert_array_equal(stops, np.ceil(exact[1:] - 1e-9))
    assert step == 1
    assert set().union(*(range(*bounds) for bounds in zip(starts, stops, strict=True))) == set(range(length))
    assert (starts < stops).all()


@pytest.mark.parametrize("value", [3, np.int64(3), (3, 3), [3, 3], np.array([3, 3])])
def test_one_number_or_two_make_a_pair(value):
    result = pair(value, "X", "size")
    assert result == (3, 3)
    assert [type(n) for n in result] == [int, int]


@pytest.mark.parametrize("value", [0, -1, True, 2.0, None, "33", (1,), (1, 2, 3), (1, 0), (True, 1), (1, 2.5), 2**31])
def test_anything_else_makes_no_pair(value):
    with pytest.raises(
        SettingError, match=re.escape(f"X: expected size as one positive integer or two, got {value!r}")
    ):
        pair(value, "X", "size")


@pytest.mark.parametrize("value", [((1, 2), (0, 3)), [[1, 2], [0, 3]], np.array([[1, 2], [0, 3]])])
def test_borders_come_as_tuples_lists_or_arrays(value):
    assert as_padding(value, "X") == ((1, 2), (0, 3))


@pytest.mark.parametrize("value", ["full", 1, (1, 1), ((1,), (1, 2)), ((1, -1), (0, 0)), ((1, 0.5), (0, 0)), None, {}])
def test_anything_else_is_no_padding(value):
    message = "X: expected padding 'valid', 'same' or ((top, bottom), (left, right)) in pixels, got "
    with pytest.raises(SettingError, match=re.escape(message + repr(value))):
        as_padding(value, "X")
