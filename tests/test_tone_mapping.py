"""HDR to SDR, compared with values in the standards."""

import numpy as np
import pytest

from framecnn.data.tone_mapping import _compressed, _hlg_scene_light, _pq_light, _pq_signal, to_sdr
from framecnn.errors import DataError


def test_the_perceptual_quantizer_has_the_standards_values():
    light = np.array([0, 0.1, 1, 10, 100, 203, 1000, 4000, 10000])  # cd/m2; BT.2408 table 1, BT.2390 annex
    signal = np.array([0, 0.0623, 0.1499, 0.3001, 0.5081, 0.5807, 0.7518, 0.9026, 1])
    assert _pq_signal(light) == pytest.approx(signal, abs=6e-4)
    assert _pq_light(_pq_signal(light)) == pytest.approx(light, rel=1e-6, abs=1e-6)


def test_hybrid_log_gamma_has_the_standards_values():
    assert _hlg_scene_light(np.array([0, 0.5, 0.75, 1])) == pytest.approx([0, 1 / 12, 0.26496, 1], abs=1e-4)
    white = 1000 * _hlg_scene_light(np.array([0.75]))[0] ** 1.2
    assert white == pytest.approx(203, abs=1)  # BT.2408: 75 % is 203 cd/m2 on a display of 1000


def test_the_curve_keeps_the_dark_and_ends_at_white():
    light = np.geomspace(0.001, 10000, 2000)
    curve = _compressed(light)
    assert (np.diff(curve) >= -1e-9).all()
    assert curve[light < 27] == pytest.approx(light[light < 27], rel=1e-9)
    assert curve[light >= 1000] == pytest.approx(100)


@pytest.mark.parametrize("transfer", ["PQ", "HLG", "BT.2020"])
def test_grey_stays_grey_and_never_grows_darker_with_the_signal(transfer):
    codes = np.arange(65536, dtype=np.uint16)
    levels = to_sdr(np.repeat(codes.reshape(256, 256, 1), 3, 2), transfer).reshape(-1, 3).astype(int)
    assert np.ptp(levels, axis=1).max() <= 1
    assert (np.diff(levels, axis=0) >= 0).all()
    assert levels[[0, -1]].tolist() == [[0] * 3, [255] * 3]


def test_a_colour_of_bt709_is_found_again():
    colour = np.array([180, 90, 60])
    linear = (colour / 255) ** 2.4
    to_wide = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
    signal = np.rint(65535 * (to_wide @ linear) ** (1 / 2.4)).astype(np.uint16)
    assert np.abs(to_sdr(signal[None, None], "BT.2020")[0, 0] - colour).max() <= 1
    dim = np.rint(65535 * _pq_signal(25 * to_wide @ linear)).astype(np.uint16)  # below the knee of the curve
    assert np.abs(to_sdr(dim[None, None], "PQ")[0, 0] - colour * 0.25 ** (1 / 2.4)).max() <= 1


def test_a_picture_of_any_height_is_converted_whole():
    picture = np.random.default_rng(0).integers(0, 65536, (131, 5, 3), dtype=np.uint16)
    whole = to_sdr(picture, "HLG")
    assert (whole == np.concatenate([to_sdr(row[None], "HLG") for row in picture])).all()
    assert to_sdr(picture[:0], "PQ").shape == (0, 5, 3)


def test_another_transfer_is_refused():
    with pytest.raises(DataError, match=r"expected one of PQ, HLG, BT\.2020 as transfer, got 'sRGB'"):
        to_sdr(np.zeros((1, 1, 3), np.uint16), "sRGB")
