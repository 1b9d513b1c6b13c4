"""Networks of torchvision with drawn weights and statistics, exported as ONNX files."""

import copy
import io
import warnings

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run: pip install torch torchvision")
torch.set_num_threads(1)  # on a busy machine its threads wait for each other many times as long as they compute
SIZE = 64


try:
    import torchvision
except ImportError:
    pytest.skip("torchvision is not installed; run: pip install torchvision", allow_module_level=True)
except RuntimeError:
    # beside a PyTorch for CPUs, PyPI's torchvision cannot load its operators, two of which it names when imported
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import torchvision


def drawn_network(name):
    """A network whose every normalisation has statistics near those of frames, so that its output differs with them."""
    torch.manual_seed(0)
    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    network = getattr(torchvision.models, name)(weights=None, **extra).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                module.eps = 2.0**-17  # which float32 attributes of ONNX hold exactly
                module.momentum = 1.0
                module.train().register_forward_hook(with_drawn_statistics)
            elif getattr(module, "bias", None) is not None:
                module.bias.normal_(0, 0.1)
        network(frames(4))
    return network


def with_drawn_statistics(norm, inputs, _):
    """Move the statistics of a normalisation away from those of its first input, and return its output by them."""
    if norm.training:
        norm.eval()
        norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var.clamp_(min=float(norm.running_var.mean()) / 4)  # else a few channels outgrow all others
        norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.5, 1.5)
        return norm(*inputs)
    return None


def output(network, x):
    """The output of a network."""
    with torch.no_grad():
        return network(x).numpy()


def exact_output(network, x):
    """The output of a network in float64."""
    plain = torch.nn.Conv2d._conv_forward
    torch.nn.Conv2d._conv_forward = lambda self, *values: (grouped if self.groups > 1 else plain)(self, *values)
    try:
        return output(copy.deepcopy(network).double(), x.double())
    finally:
        torch.nn.Conv2d._conv_forward = plain


def grouped(layer, x, weight, bias):
    """A grouped convolution as products of matrices; PyTorch's own in float64 takes seconds."""
    sizes = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            x.shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
        )
    ]
    windows = torch.nn.functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    windows = windows.reshape(len(x), layer.groups, -1, windows.shape[-1])
    maps = torch.einsum("gfk,ngkl->ngfl", weight.reshape(layer.groups, -1, windows.shape[2]), windows)
    maps = maps.reshape(len(x), -1, *sizes)
    return maps if bias is None else maps + bias[:, None, None]


def frames(n):
    """Smooth frames and grain, each with colours of its own."""
    generator = torch.Generator().manual_seed(n)
    coarse = torch.randn(n, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")
    return smooth + 0.3 * torch.randn(n, 3, SIZE, SIZE, generator=generator)


def exported(network, x, **options):
    """The bytes of the ONNX file of a network, by PyTorch's older exporter."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (x,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}, **options)
    return file.getvalue()


def exported_by_dynamo(network, x, path):
    """Write the ONNX file of a network, by PyTorch's newer exporter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (x,), dynamo=True, input_names=["x"], dynamic_shapes=({0: torch.export.Dim("n")},), verbose=False
        )
    program.save(path, external_data=False)
