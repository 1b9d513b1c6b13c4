"""Output sizes, borders and windows, compared with windows that are slid pixel by pixel."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from framecnn import SettingError, ShapeError
from framecnn.geometry import Window, adaptive_cells, as_padding, pair, sliding_window, window_pixels

lengths, windows, strides, dilations = (st.integers(1, most) for most in (20, 5, 5, 4))
sides = st.tuples(st.integers(0, 4), st.integers(0, 4))


def places(length, window, stride, dilation, before, after):
    """Return the pixels of every window that lies wholly within frame and border; the frame begins at 0."""
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
            sliding_window(*arguments)
    else:
        resolved = sliding_window(*arguments)
        assert (resolved.output, resolved.border) == (counts, padding)


@settings(deadline=None)
@given(lengths, lengths, windows, strides, dilations)
def test_valid_adds_no_border(height, width, window, stride, dilation):
    assume(min(height, width) > dilation * (window - 1))
    settings = ((height, width), (window, window), (stride, 1), (1, dilation))
    assert sliding_window(*settings, "valid", "X") == sliding_window(*settings, ((0, 0), (0, 0)), "X")


@settings(deadline=None)
@given(lengths, lengths, windows, windows, strides, dilations)
def test_same_fits_a_window_at_every_step_and_puts_the_odd_pixel_of_the_border_last(height, width, kh, kw, s, d):
    resolved = sliding_window((height, width), (kh, kw), (s, s), (d, d), "same", "X")
    border = resolved.border
    assert resolved.output == (len(range(0, height, s)), len(range(0, width, s)))
    for length, window, (before, after) in ((height, kh, border[0]), (width, kw, border[1])):
        assert after - before in (0, 1)
        assert len(places(length, window, s, d, before, after)) == len(range(0, length, s))
        assert before + after == 0 or len(places(length, window, s, d, before, after - 1)) < len(range(0, length, s))


@settings(deadline=None)
@given(lengths, windows, strides, dilations, sides)
def test_the_pixels_of_a_window_are_those_of_the_frame(length, window, stride, dilation, border):
    found = places(length, window, stride, dilation, *border)
    assume(found)
    starts, stops, step = window_pixels(length, len(found), window, stride, dilation, border[0])
    inside = [[p for p in pixels if 0 <= p < length] for pixels in found]
    assert [list(range(*bounds, step)) for bounds in zip(starts, stops, strict=True)] == inside


axes = st.tuples(lengths, windows, strides, dilations, sides)


@settings(deadline=None)
@given(axes, axes, st.data())
def test_the_windows_of_some_rows_are_those_rows_of_all_windows(rows, columns, data):
    window = Window(*zip(rows, columns, strict=True))
    assume(min(window.output) > 0)
    start = data.draw(st.integers(0, window.output[0] - 1))
    stop = data.draw(st.integers(start + 1, window.output[0]))
    part = window.rows(start, stop)
    assert part.output == (stop - start, window.output[1])
    length, kernel, stride, dilation, (before, after) = rows
    first, *_ = places(length, kernel, stride, dilation, before, after)[start]
    assert part.top_left == (-first, columns[4][0])


@settings(deadline=None)
@given(axes, axes)
def test_a_transposed_window_sees_from_each_pixel_the_outputs_that_depend_on_it(rows, columns):
    window = Window(*zip(rows, columns, strict=True))
    assume(min(window.output) > 0)
    back = window.transposed()
    assert back.output == back.cropped().output == window.frame
    assert min(*back.cropped().frame, *back.cropped().top_left) >= 0
    length, kernel, stride, dilation, (before, after) = rows
    found = places(length, kernel, stride, dilation, before, after)
    for pixel in range(length):
        dependent = {number for number, pixels in enumerate(found) if pixel in pixels}
        spread = {pixel - back.top_left[0] + tap * dilation for tap in range(kernel)}
        assert dependent == {place // stride for place in spread if place % stride == 0} & set(range(len(found)))


@settings(deadline=None)
@given(lengths, st.integers(1, 25))
def test_adaptive_cells_cover_the_axis_from_the_floor_to_the_ceiling_of_equal_shares(length, cells):
    starts, stops, step = adaptive_cells(length, cells)
    shares = [Fraction(index * length, cells) for index in range(cells + 1)]
    assert starts.tolist() == list(map(math.floor, shares[:-1]))
    assert stops.tolist() == list(map(math.ceil, shares[1:]))
    assert step == 1
    assert set().union(*(range(*bounds) for bounds in zip(starts, stops, strict=True))) == set(range(length))
    assert (starts < stops).all()


@pytest.mark.parametrize("value", [3, np.int64(3), (3, 3), [3, 3], np.array([3, 3])])
def test_one_integer_or_two_make_a_pair(value):
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
def test_borders_may_be_tuples_lists_or_arrays(value):
    assert as_padding(value, "X") == ((1, 2), (0, 3))


@pytest.mark.parametrize("value", ["full", 1, (1, 1), ((1,), (1, 2)), ((1, -1), (0, 0)), ((1, 0.5), (0, 0)), None, {}])
def test_anything_else_is_no_padding(value):
    message = "X: expected padding 'valid', 'same' or ((top, bottom), (left, right)) in pixels, got "
    with pytest.raises(SettingError, match=re.escape(message + repr(value))):
        as_padding(value, "X")
