"""Every layer, forward and backward, against PyTorch in float64, on 500 random configurations.

PyTorch is no part of any extra: ``pip install torch`` and run ``pytest tests/test_against_pytorch.py``.
"""

from collections import defaultdict

import numpy as np
import pytest
from agreement import OURS
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    PaddingLayer,
    ParallelLayer,
    PoolingLayer,
    ResizingLayer,
    ScalingLayer,
    geometry,
)
from framecnn.testing import frames, layers

torch = pytest.importorskip("torch", reason="PyTorch is not installed; run: pip install torch")
F = torch.nn.functional
MARGIN = 1e-5  # of responses to a threshold: nearer ones may round to its other side
ALLOWED = {"float32": 2e-5, "float64": 1e-12}
ALONE = [kind for kind in OURS if kind not in (InputLayer, ParallelLayer)]
"""Branches are compared as whole networks of torchvision."""


def first(x):
    """Return maps with channels first, as PyTorch has them."""
    return x.permute(0, 3, 1, 2)


def last(x):
    """Return maps with channels last."""
    return x.permute(0, 2, 3, 1)


def padded(layer, x, value=0.0):
    """Return frames, channels first, with the border of a layer."""
    window = layer.kernel_size if isinstance(layer, ConvLayer) else layer.pool_size
    sliding = layer.input_shape[:2], window, layer.strides, layer.dilation_rate, layer.padding
    (top, bottom), (left, right) = geometry.sliding_window(*sliding, "test").border
    return F.pad(first(x), (left, right, top, bottom), value=value)


def unfolded(x, window, strides, dilation=(1, 1)):
    """Return the windows of frames, channels first: (n, c, kh * kw, positions)."""
    columns = F.unfold(x, window, dilation, stride=strides)
    return columns.reshape(*x.shape[:2], window[0] * window[1], -1)


def convolved(layer, x, kernel, bias=None):
    return last(
        F.conv2d(
            padded(layer, x),
            kernel.permute(3, 2, 0, 1).contiguous(),
            bias,
            layer.strides,
            0,
            layer.dilation_rate,
            layer.groups,
        )
    )


def pooled(layer, x):
    shape = (*layer.output_shape[:2],)
    steps = (layer.pool_size, layer.strides, layer.dilation_rate)
    match layer.mode:
        case "max":
            return last(F.max_pool2d(padded(layer, x, -np.inf), *steps[:2], 0, layer.dilation_rate))
        case "average":
            sums, counts = (unfolded(padded(layer, values), *steps).sum(2) for values in (x, torch.ones_like(x)))
            return last((sums / counts).reshape(*sums.shape[:2], *shape))
        case "adaptive_average":
            return last(F.adaptive_avg_pool2d(first(x), shape))
        case "adaptive_max":
            return last(F.adaptive_max_pool2d(first(x), shape))


def downsampled(layer, x):
    (rows, columns, _), (down, across) = layer.output_shape, layer.factor
    if layer.mode == "stride":
        return x[:, : rows * down : down, : columns * across : across]
    return last(F.avg_pool2d(first(x), layer.factor))


def filtered(layer, x, kernel, bias):
    windows = unfolded(first(x), layer.kernel_size, layer.strides).flatten(1, 2)  # (n, c kh kw, positions)
    windows = windows - windows.mean(1, keepdim=True)
    windows = windows / torch.sqrt((windows**2).mean(1, keepdim=True) + layer.contrast)
    weights = kernel.permute(2, 0, 1, 3).flatten(0, 2)
    response = torch.einsum("nkp,kf->npf", windows, weights) + bias
    above = torch.cat([response - threshold for threshold in layer.thresholds], -1)
    assume(above.abs().min() > MARGIN)
    return F.relu(above).reshape(len(x), *layer.output_shape)


def activated(layer, x):
    match layer.function:
        case "sqrt":
            return torch.where(x > 0, x, 1).sqrt() * (x > 0)
        case "leaky_relu":
            return F.leaky_relu(x, layer.negative_slope)
        case "softmax":
            return F.softmax(x, -1)
        case "elu":
            return F.elu(x, layer.alpha)
        case "softplus":  # F.softplus is the identity above 20
            return torch.logaddexp(x, torch.zeros_like(x))
        case "hard_sigmoid":  # F.hardsigmoid multiplies by 1/6 of float32
            return F.relu6(x + 3) / 6
        case "hard_swish":
            return x * F.relu6(x + 3) / 6
        case "relu6" | "silu" | "gelu" as function:
            return getattr(F, function.replace("_", ""))(x)
        case function:
            return getattr(torch, function)(x)


def normalised(layer, x, gamma, beta, moving_mean, moving_variance, training):
    rows, moving = x.flatten(0, -2), (moving_mean.clone(), moving_variance.clone())
    return F.batch_norm(rows, *moving, gamma, beta, training, eps=layer.epsilon).reshape(x.shape)


def in_pytorch(layer, x, params, training):
    """Return the output of a layer as PyTorch computes it."""
    match layer:
        case ConvLayer():
            return convolved(layer, x, **params)
        case DenseLayer():
            return F.linear(x, params["kernel"].T, params.get("bias"))
        case PoolingLayer():
            return pooled(layer, x)
        case DownsamplingLayer():
            return downsampled(layer, x)
        case ResizingLayer():
            return last(F.interpolate(first(x), size=layer.size, mode="bilinear", antialias=True))
        case FilterBankLayer():
            return filtered(layer, x, **params)
        case ActivationLayer():
            return activated(layer, x)
        case BatchNormLayer():
            return normalised(layer, x, **params, training=training)
        case FlatteningLayer():
            return x.flatten(1)
        case DropoutLayer():
            return x
        case ScalingLayer():
            return x * params["scale"] + params["offset"]
        case PaddingLayer():
            return last(F.pad(first(x), (*layer.padding[1], *layer.padding[0]), value=layer.value))
    raise NotImplementedError(f"write {type(layer).__name__} in PyTorch")


def relative_error(ours, theirs, scale=0.0):
    return np.abs(ours - theirs.numpy()).max(initial=0) / max(np.abs(theirs.numpy()).max(initial=0), scale, 1e-30)


def gradients_and_scales(y, inputs, dy):
    """Return PyTorch's gradients, and for each the largest value before terms cancel, from random signs of dy."""
    signs = torch.tensor(np.random.default_rng(2).choice([-1.0, 1.0], (8, *dy.shape)))
    found = [torch.autograd.grad(y, list(inputs.values()), sign * dy, retain_graph=True) for sign in signs]
    scales = [max(float(gradient.abs().max()) for gradient in column) for column in zip(*found, strict=True)]
    gradients = torch.autograd.grad(y, list(inputs.values()), dy)
    return dict(zip(inputs, gradients, strict=True)), dict(zip(inputs, scales, strict=True))


def scale_of_normalised(layer, x, dy):
    """Return the largest value of dy / std, from which batch normalisation subtracts means: little of it may remain."""
    if not isinstance(layer, BatchNormLayer):
        return 0.0
    std = np.sqrt(x.reshape(-1, x.shape[-1]).var(axis=0) + layer.epsilon)
    return np.abs(dy * layer.params["gamma"] / std).max()


def test_every_layer_agrees_with_pytorch_forward_and_backward(capsys):
    worst = defaultdict(float)
    ran = []

    @settings(deadline=None, max_examples=500, database=None, suppress_health_check=[HealthCheck.filter_too_much])
    @given(st.data(), layers(ALONE), st.booleans())
    def agree(data, layer, training):
        training = training and not isinstance(layer, DropoutLayer)  # it draws otherwise
        x = data.draw(frames(layer.input_shape, n=4, dtype=layer.dtype, integers=False))
        y, backward = layer.vjp(x, np.random.default_rng(0) if training else None)
        dy = np.random.default_rng(1).normal(size=y.shape).astype(layer.dtype)
        dx, gradients = backward(dy)
        inputs = {"x": torch.tensor(x, dtype=torch.float64, requires_grad=True)}
        for name, spec in layer.param_specs(layer.input_shape).items():
            value = torch.tensor(layer.params[name], dtype=torch.float64)
            inputs[name] = value.requires_grad_(spec.trainable)
        params = {name: value for name, value in inputs.items() if name != "x"}
        theirs = in_pytorch(layer, inputs["x"], params, training)
        learned = {name: value for name, value in inputs.items() if value.requires_grad}
        expected, scales = gradients_and_scales(theirs, learned, torch.tensor(dy, dtype=torch.float64))
        scales["x"] = max(scales["x"], scale_of_normalised(layer, x, dy))
        ours = {"x": dx, **gradients}
        errors = [relative_error(ours[name], expected[name], scales[name]) for name in learned]
        errors.append(relative_error(y, theirs.detach()))
        key = (type(layer).__name__, layer.dtype.name)
        worst[key] = max(worst[key], *errors)
        ran.append(key)
        assert max(errors) <= ALLOWED[layer.dtype.name]

    agree()
    assert len(ran) >= 500
    with capsys.disabled():
        print(f"\nworst relative error over {len(ran)} configurations, PyTorch {torch.__version__} in float64:")
        for (kind, dtype), error in sorted(worst.items()):
            print(f"  {kind:17} {dtype}  {error:.1e}  in {ran.count((kind, dtype))}")
