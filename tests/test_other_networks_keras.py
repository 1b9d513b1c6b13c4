"""Networks of keras.applications are read, predict what Keras predicts, and are sent back out."""

import keras_networks as kn
import numpy as np
import pytest

from framecnn import FormatError, Layer, Sequential, load
from framecnn.interop.keras import from_keras, to_keras

applications = kn.keras.applications
SIZE = 64

SCALED = np.float32  # Keras rounds the factors of Rescaling, and numbers in sums and products, to float32

NETWORKS = {
    "DenseNet121": ({}, np.float64),
    "EfficientNetB0": ({}, SCALED),
    "EfficientNetV2B0": ({}, SCALED),
    "MobileNetV2": ({}, np.float64),
    "MobileNetV3Large": ({}, SCALED),
    "MobileNetV3Small": ({}, SCALED),
    "ResNet50": ({}, np.float64),
    "Xception": ({"size": 71}, np.float64),
}
"""Settings of each network, and the dtype in which Keras computes it if it is built in float64."""


def frames(n, size, seed):
    """Return smooth random pictures, which differ in their large areas as photographs do."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (n, 5, 5, 3))
    places = np.arange(size) * 4 / size
    low, share = places.astype(int), places % 1
    rows = coarse[:, low] * (1 - share)[:, None, None] + coarse[:, low + 1] * share[:, None, None]
    return (rows[:, :, low] * (1 - share)[:, None] + rows[:, :, low + 1] * share[:, None]).astype(np.float32)


def network(name, size=SIZE):
    """Return a network of Keras with random weights and statistics, and frames."""
    kn.keras.utils.set_random_seed(0)
    net = getattr(applications, name)(weights=None, input_shape=(size, size, 3), classes=5, classifier_activation=None)
    return kn.calibrated(kn.randomised(net), frames(8, size, 1)), frames(2, size, 2)


def in_float32(model):
    twin = Sequential([Layer.from_config(layer.config) for layer in model.layers])
    return twin.load_state_dict(model.state_dict(), np.float32)


def rounding(model, dtype):
    """Return how far the outputs may be off, as a share of the largest.

    A sum of K products is off by a random walk of K steps: sqrt(K) eps of its size. The batch normalisation after it
    subtracts a mean, which leaves the error to a smaller value: twice that. The errors of all layers are added.
    """
    kernels = [value for name, value in model.state_dict().items() if name.endswith("kernel")]
    return 2 * np.finfo(dtype).eps * sum(np.sqrt(np.prod(kernel.shape[:-1])) for kernel in kernels)


@pytest.fixture(scope="module")
def float64():
    """Makes Keras build networks of float64, in which an error in reading them shows."""
    kn.keras.config.set_dtype_policy("float64")
    yield
    kn.keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_predicts_what_keras_predicts_and_is_sent_back_out(name, float64, tmp_path):
    settings, dtype = NETWORKS[name]
    net, x = network(name, **settings)
    model = from_keras(net)
    exact = model.predict(x)
    largest, bound = np.abs(exact).max(), rounding(model, np.float32)
    assert np.abs(exact[0] - exact[1]).max() > 100 * bound * largest, "the outputs tell the frames apart"
    assert np.abs(net(x, training=False).numpy() - exact).max() <= rounding(model, dtype) * largest

    single = in_float32(model)
    ours = single.predict(x)
    assert np.abs(ours - exact).max() <= bound * largest
    single.save(tmp_path / "network.safetensors")
    assert load(tmp_path / "network.safetensors").predict(x).tobytes() == ours.tobytes()

    back = to_keras(single)
    assert np.abs(back(x, training=False).numpy() - exact).max() <= bound * largest


def test_a_network_whose_cells_take_the_outputs_of_two_others_is_refused():
    net = applications.NASNetMobile(weights=None, input_shape=(32, 32, 3), include_top=False)
    with pytest.raises(
        FormatError, match=r"got '.*', which goes to '.*', '.*', whose branches do not end at one merge"
    ):
        from_keras(net)
