"""Networks of torchvision, exported by PyTorch as ONNX files, predict what PyTorch does."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run: pip install torch torchvision")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from torchvision_networks import (  # noqa: E402
    drawn_network,
    exact_output,
    exported,
    exported_by_dynamo,
    frames,
    output,
)

from framecnn import BatchNormLayer, load, save  # noqa: E402
from framecnn.interop.onnx_export import to_onnx  # noqa: E402
from framecnn.interop.onnx_import import from_onnx  # noqa: E402
from framecnn.testing.draws import same_bits  # noqa: E402

EPS_32, EPS_64 = np.finfo(np.float32).eps, np.finfo(np.float64).eps
NETWORKS = [
    "resnet18",
    "resnet50",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "squeezenet1_1",
    "googlenet",
    "densenet121",
    "regnet_x_400mf",
    "regnet_y_400mf",
]
TIMES_AS_FAR = 16
"""How many times as far as PyTorch's float32 a result may be from the exact one.

Sums of K products in another order have the same bound, (K + 2) eps times the sum of absolute products; Winograd's
transforms multiply the rounding by up to ten.
"""


def onnxruntime_output(file, x):
    """The output of ONNX Runtime."""
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def distance(y, exact):
    """The largest difference."""
    return np.abs(y - exact).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_predicts_what_pytorch_does(name, tmp_path):
    network, x = drawn_network(name), frames(2)
    exact = exact_output(network, x)
    assert np.abs(exact[0] - exact[1]).mean() > 0.05 * exact.std(), "outputs differ between inputs"
    bound = TIMES_AS_FAR * distance(output(network, x), exact)
    assert bound < 0.01 * exact.std(), "a bound that says something"

    read = from_onnx(onnx.load_from_string(exported(network, x)))
    frame = x.numpy().transpose(0, 2, 3, 1)
    y = read.predict(frame)
    assert distance(y, exact) <= bound
    save(read, tmp_path / "network")
    assert same_bits(load(tmp_path / "network").predict(frame), y)
    file = to_onnx(read)
    assert distance(onnxruntime_output(file, x.numpy()), exact) <= bound
    assert from_onnx(file).layers == read.layers


def test_a_file_of_the_newer_exporter_gives_the_same_network(tmp_path):
    pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs it; run: pip install onnxscript")
    network, x = drawn_network("mobilenet_v3_small"), frames(2)
    exported_by_dynamo(network, x, tmp_path / "model.onnx")
    read, exact = from_onnx(tmp_path / "model.onnx"), exact_output(network, x)
    y = read.predict(x.numpy().transpose(0, 2, 3, 1))
    assert distance(y, exact) <= TIMES_AS_FAR * distance(output(network, x), exact)
    assert read.layers == from_onnx(onnx.load_from_string(exported(network, x))).layers


def test_files_of_older_opsets_give_the_same_network():
    network, x = drawn_network("mobilenet_v3_small"), frames(2)
    layers = from_onnx(onnx.load_from_string(exported(network, x))).layers
    for opset in (9, 13):  # hard swish is an operator since 14
        assert from_onnx(onnx.load_from_string(exported(network, x, opset_version=opset))).layers == layers


def test_batch_normalisation_that_the_file_keeps_is_kept():
    network, x = drawn_network("resnet18"), frames(2)
    exact = exact_output(network, x)
    bound = TIMES_AS_FAR * distance(output(network, x), exact) * EPS_64 / EPS_32
    options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    read = from_onnx(onnx.load_from_string(exported(network.double(), x.double(), **options)))
    assert any(isinstance(layer, BatchNormLayer) for layer in read.layers)
    y = read.predict(x.double().numpy().transpose(0, 2, 3, 1))
    assert y.dtype == np.float64
    assert distance(y, exact) <= bound
