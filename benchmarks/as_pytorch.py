"""A framecnn network in PyTorch, in three forms: contiguous, channels-last, and compiled with frozen weights."""

import functools
import itertools
import math
import operator
import os
import shutil

from benchmarks import channels_first as cf
from framecnn import BatchNormLayer, ConvLayer, ParallelLayer, get_num_threads

__all__ = ["compiled", "network", "start_channels_last", "start_compiled", "start_contiguous", "start_training"]


def network(model):
    """Return the PyTorch module of a built Sequential, for frames (n, c, h, w)."""
    import torch

    torch.set_num_threads(get_num_threads())
    return torch.nn.Sequential(*_modules(torch, list(cf.steps(model)))).eval().requires_grad_(False)


def _modules(torch, rest):
    while rest:
        match rest:
            case [cf.Bank() as bank, cf.AdaptiveAverage() as pooling, *rest]:
                yield _bank(torch, bank, pooling.grid)
            case [step, *rest]:
                yield _module(torch, step)


def _module(torch, step):
    nn = torch.nn
    match step:
        case cf.Scale():
            return _scale(torch, step)
        case cf.Conv():
            (top, bottom), (left, right) = step.border
            symmetric = (top, left) == (bottom, right)
            filters, channels, *size = step.weight.shape
            padding = (top, left) if symmetric else 0
            channels *= step.groups
            conv = nn.Conv2d(channels, filters, size, step.strides, padding, step.dilation, step.groups)
            conv.weight.data, conv.bias.data = torch.tensor(step.weight), torch.tensor(step.bias)
            return conv if symmetric else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), conv)
        case cf.Scaling():
            norm = nn.BatchNorm2d(len(step.scale), eps=0.0)
            norm.weight.data, norm.bias.data = torch.tensor(step.scale), torch.tensor(step.shift)
            return norm
        case cf.Sum():
            return _sum(torch, [torch.nn.Sequential(*_modules(torch, list(branch))) for branch in step.branches])
        case cf.Relu6():
            return nn.ReLU6()
        case cf.Relu():
            return nn.ReLU()
        case cf.MaxPool(border=((top, bottom), (left, right))) if (top, left) == (bottom, right):
            return nn.MaxPool2d(step.size, step.strides, (top, left))
        case cf.AdaptiveAverage():
            return nn.AdaptiveAvgPool2d(step.grid)
        case cf.Flatten():
            return nn.Flatten()
        case cf.Dense():
            dense = nn.Linear(step.weight.shape[1], step.weight.shape[0])
            dense.weight.data, dense.bias.data = torch.tensor(step.weight), torch.tensor(step.bias)
            return dense
    raise cf.Unsupported(f"no equivalent of {type(step).__name__}")


def _scale(torch, step):
    class Scale(torch.nn.Module):
        def forward(self, x):
            return x * step.factor

    return Scale()


def _sum(torch, chains):
    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = torch.nn.ModuleList(chains)

        def forward(self, x):
            return functools.reduce(operator.add, [branch(x) for branch in self.branches])

    return Sum()


def _bank(torch, step, grid):
    """Return the filter bank as two small average pools and one convolution with kernels of mean zero.

    A filter of mean zero ignores the mean of a window, so only the deviation is left to divide by. Each threshold
    is pooled before the next, which saves a map.
    """
    functional = torch.nn.functional
    size = step.weight.shape[2:]

    class Bank(torch.nn.Module):
        def __init__(self):
            super().__init__()
            centred = step.weight - step.weight.mean(axis=(1, 2, 3), keepdims=True)
            self.weight = torch.nn.Parameter(torch.tensor(centred))
            self.bias = torch.nn.Parameter(torch.tensor(step.bias).reshape(1, -1, 1, 1))

        def forward(self, x):
            x = x - 127.5  # changes no deviation, and keeps digits in the squares
            mean = functional.avg_pool2d(x.mean(1, keepdim=True), size, step.strides)
            square = functional.avg_pool2d((x * x).mean(1, keepdim=True), size, step.strides)
            deviation = torch.sqrt(square - mean * mean + step.contrast)
            z = functional.conv2d(x, self.weight, None, step.strides).div_(deviation).add_(self.bias)
            cells = [functional.adaptive_avg_pool2d((z - threshold).relu_(), grid) for threshold in step.thresholds]
            return torch.cat(cells, 1)

    return Bank()


def start_contiguous(model, x):
    torch, net = _torch(), network(model)
    return _runner(torch, net, _channels_first(torch, x).contiguous())


def start_channels_last(model, x):
    torch, net = _torch(), network(model)
    return _runner(torch, net.to(memory_format=torch.channels_last), _channels_first(torch, x))


def start_compiled(model, x):
    torch, net = _torch(), compiled(model)
    return _runner(torch, net, _channels_first(torch, x))


def start_training(model, x, labels, compile=False):
    """Return a function that updates once by Adam, channels last, and returns the loss before the update."""
    torch = _torch()
    torch.set_num_threads(get_num_threads())
    net = torch.nn.Sequential(*_trainable(torch, model.layers)).to(memory_format=torch.channels_last).train()
    # PyTorch adds epsilon after the bias correction, Keras before: this gives the same first update.
    epsilon = 1e-7 / math.sqrt(1 - 0.999)
    optimizer = torch.optim.Adam(net.parameters(), eps=epsilon)
    frames, targets = _channels_first(torch, x), torch.from_numpy(labels)
    forward = _compile(torch, net, freezing=False) if compile else net

    def run():
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(forward(frames), targets)
        loss.backward()
        optimizer.step()
        return loss.detach().reshape(1).numpy()

    return run


def _trainable(torch, layers):
    """Yield the modules of built layers; unlike those for predictions they normalise over the batch."""
    kinds = (BatchNormLayer, ConvLayer, ParallelLayer)
    for is_special, group in itertools.groupby(layers, lambda layer: isinstance(layer, kinds)):
        if not is_special:
            yield from _modules(torch, list(cf.layer_steps(group)))
            continue
        for layer in group:
            match layer:
                case BatchNormLayer():
                    yield _norm(torch, layer)
                case ParallelLayer():
                    branches = layer.built_branches()
                    yield _sum(torch, [torch.nn.Sequential(*_trainable(torch, branch)) for branch in branches])
                case ConvLayer():
                    module = torch.nn.Sequential(*_modules(torch, list(cf.layer_steps([layer]))))
                    if not layer.use_bias:
                        [*_, convolution] = (part for part in module.modules() if isinstance(part, torch.nn.Conv2d))
                        convolution.bias = None
                    yield module


def _norm(torch, layer):
    norm = torch.nn.BatchNorm2d(layer.output_shape[-1], layer.epsilon, 1 - layer.momentum)
    norm.weight.data, norm.bias.data = (torch.tensor(layer.params[name]) for name in ("gamma", "beta"))
    return norm


def compiled(model):
    """Return the compiled module of a built Sequential, for frames (n, c, h, w) and under ``torch.no_grad``."""
    torch = _torch()
    return _compile(torch, network(model).to(memory_format=torch.channels_last), freezing=True)


def _compile(torch, net, freezing):
    if not shutil.which(os.environ.get("CXX", "g++")) and not shutil.which("clang++"):
        raise cf.Unsupported("torch.compile needs a C++ compiler, and there is none")
    from torch._inductor import config

    config.freezing = freezing
    config.compile_threads = 1  # its compile workers would live on beside the measurement
    torch._dynamo.reset()  # networks of one class count as recompilations of one function, and those are limited
    return torch.compile(net, dynamic=False, fullgraph=True)


def _torch():
    import torch

    return torch


def _channels_first(torch, x):
    """Return a view (n, c, h, w) of frames (n, h, w, c): what PyTorch calls channels-last memory."""
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def _runner(torch, net, frames):
    def run():
        with torch.no_grad():  # freezing fails in inference_mode
            y = net(frames)
        return (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).numpy()

    return run
