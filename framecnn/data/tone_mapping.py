"""The conversion of HDR and wide-gamut pictures (PQ, HLG, BT.2020) to SDR of BT.709 by the standards, in NumPy."""

import numpy as np

from framecnn.errors import DataError
from framecnn.typing import Array

__all__ = ["to_sdr"]

_HDR_PEAK = 1000.0  # cd/m2; HDR10 and HLG are graded for it; brighter light is white
_SDR_PEAK = 100.0  # cd/m2, BT.2035
_DISPLAY_GAMMA = 2.4  # BT.1886
_SYSTEM_GAMMA = 1.2  # BT.2100 table 5, HLG at a peak of 1000 cd/m2
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # BT.2020-2 table 4
_BT2020_TO_BT709 = np.array(  # BT.2087 (the inverse of its table of matrices), linear light
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
_ROWS_AT_ONCE = 64


def _pq_light(signal: Array) -> Array:
    """Return the light in cd/m2 of a PQ signal from 0 to 1: the EOTF of SMPTE ST 2084."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    root = signal ** (1 / m2)
    return 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def _pq_signal(light: Array) -> Array:
    """Return the PQ signal from 0 to 1 of light in cd/m2: the inverse of `_pq_light`."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = (light / 10000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def _hlg_scene_light(signal: Array) -> Array:
    """Return the scene light from 0 to 1 of an HLG signal from 0 to 1: the inverse OETF of ARIB STD-B67 and BT.2100."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def _compressed(light: Array) -> Array:
    """Return the SDR light in cd/m2 of HDR light in cd/m2: the EETF of BT.2390 from a peak of 1000 to one of 100.

    Light below 28 cd/m2 is unchanged; a Hermite spline in the PQ domain compresses brighter light up to the peak.
    """
    peak, target = _pq_signal(np.array([_HDR_PEAK, _SDR_PEAK]))
    target /= peak
    knee = 1.5 * target - 0.5
    signal = np.minimum(_pq_signal(light) / peak, 1)
    t = (signal - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * target
    return _pq_light(np.where(signal < knee, signal, spline) * peak)


_CODES = np.arange(65536) / 65535
_LIGHT = {  # light of each 16-bit code in cd/m2; for HLG scene light, 0 to 1
    "PQ": _pq_light(_CODES).astype(np.float32),
    "HLG": _hlg_scene_light(_CODES).astype(np.float32),
    "BT.2020": (_SDR_PEAK * _CODES**_DISPLAY_GAMMA).astype(np.float32),
}
_CURVE_FROM = _pq_light(np.linspace(0, 1, 1024))
_CURVE_TO = _compressed(_CURVE_FROM)


def to_sdr(picture: Array, transfer: str) -> Array:
    """Return a picture of BT.2020 primaries as 8-bit SDR of BT.709.

    HDR light is compressed by the curve of BT.2390 from a peak of 1000 cd/m2 to one of 100, by the brightest channel of
    each pixel; this keeps the ratios of the channels, and so the hue. Colours are then converted to BT.709 (BT.2087)
    and clipped, and the light is encoded for a display of BT.1886.

    Parameters
    ----------
    picture : array (h, w, 3) of uint16
        RGB signal, 0 to 65535.
    transfer : {"PQ", "HLG", "BT.2020"}
        Perceptual quantizer (SMPTE ST 2084), hybrid log-gamma (ARIB STD-B67), or SDR.

    Returns
    -------
    array (h, w, 3) of uint8

    Raises
    ------
    DataError
        If the transfer is none of these.

    Examples
    --------
    White of 100 cd/m2, and black:

    >>> to_sdr(np.array([[[33297] * 3, [0] * 3]], np.uint16), "PQ").tolist()
    [[[219, 219, 219], [0, 0, 0]]]
    """
    if transfer not in _LIGHT:
        raise DataError(f"tone mapping: expected one of {', '.join(_LIGHT)} as transfer, got {transfer!r}")
    result = np.empty(picture.shape, np.uint8)
    for start in range(0, len(picture), _ROWS_AT_ONCE):
        band = slice(start, start + _ROWS_AT_ONCE)
        light = _LIGHT[transfer][picture[band]]
        if transfer == "HLG":
            light *= _HDR_PEAK * (light @ _LUMINANCE)[..., None] ** np.float32(_SYSTEM_GAMMA - 1)
        if transfer != "BT.2020":
            brightest = np.maximum(np.maximum(light[..., 0], light[..., 1]), light[..., 2])
            compressed = np.interp(brightest, _CURVE_FROM, _CURVE_TO).astype(np.float32)
            light *= (compressed / np.maximum(brightest, 1e-6))[..., None]
        light = np.clip(light @ _BT2020_TO_BT709.T / np.float32(_SDR_PEAK), 0, 1)
        result[band] = np.rint(255 * light ** np.float32(1 / _DISPLAY_GAMMA))
    return result
