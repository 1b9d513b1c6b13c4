"""A framecnn network as an ONNX file, and the engines that read it: ONNX Runtime, OpenVINO and MNN."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import channels_first as cf
from framecnn import get_num_threads

__all__ = ["onnx_bytes", "start_mnn", "start_onnxruntime", "start_openvino_default", "start_openvino_float32"]

OPSET, IR_VERSION = 17, 8  # read by every engine here


def onnx_bytes(model, n):
    """Serialise a built Sequential for batches "x" (n, c, h, w); its output is "y"."""
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes, weights, value = [], [], "x"

    def constant(array):
        weights.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), f"w{len(weights)}"))
        return weights[-1].name

    for number, step in enumerate(cf.steps(model)):
        kind, inputs, attributes = _node(step, constant)
        nodes.append(helper.make_node(kind, [value, *inputs], [f"v{number}"], **attributes))
        value = f"v{number}"
    nodes[-1].output[0] = "y"
    height, width, channels = model.input_shape
    *sizes, last = model.output_shape
    graph = helper.make_graph(
        nodes,
        "framecnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (n, channels, height, width))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (n, last, *sizes))],
        weights,
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(file, full_check=True)
    return file.SerializeToString()


def _node(step, constant):
    """Give operator, further inputs and attributes of a step."""
    match step:
        case cf.Scale():
            return "Mul", [constant(step.factor)], {}
        case cf.Conv():
            (top, bottom), (left, right) = step.border
            settings = {"strides": step.strides, "dilations": step.dilation, "pads": (top, left, bottom, right)}
            return "Conv", [constant(step.weight), constant(step.bias)], settings
        case cf.Relu():
            return "Relu", [], {}
        case cf.MaxPool():
            return "MaxPool", [], {"kernel_shape": step.size, "strides": step.strides}
        case cf.Flatten():
            return "Flatten", [], {}
        case cf.Dense():
            return "Gemm", [constant(step.weight), constant(step.bias)], {"transB": 1}
    raise cf.Unsupported(f"no equivalent of {type(step).__name__}")


def channels_first(x):
    """(n, h, w, c) -> (n, c, h, w), copied."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def channels_last(y):
    """(n, c, h, w) -> (n, h, w, c), a view; rows stay as they are."""
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y


def start_onnxruntime(model, x):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = get_num_threads()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes(model, len(x)), options, providers=["CPUExecutionProvider"])
    inputs = {"x": channels_first(x)}
    return lambda: channels_last(session.run(None, inputs)[0])


def start_openvino_float32(model, x):
    return _start_openvino(model, x, {"INFERENCE_PRECISION_HINT": "f32"})


def start_openvino_default(model, x):
    return _start_openvino(model, x, {})


def _start_openvino(model, x, settings):
    import openvino

    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": get_num_threads(), "NUM_STREAMS": 1, **settings}
    network = core.read_model(onnx_bytes(model, len(x)))
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(channels_first(x)))  # copied: a shared one does not keep its array alive

    def run():
        request.infer()
        return channels_last(request.get_output_tensor().data)

    return run


def convert_to_mnn(source, target):
    """Write an ONNX file as an MNN file, in a process of its own: the converter's protobuf ends one with TensorFlow."""
    program = "import sys; from MNN.tools import mnnconvert; mnnconvert.convert(['', *sys.argv[1:]])"
    arguments = ["-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "framecnn"]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)


def start_mnn(model, x):
    from MNN import expr, nn

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "network.onnx"), Path(folder, "network.mnn")
        source.write_bytes(onnx_bytes(model, len(x)))
        convert_to_mnn(source, target)
        runtime = nn.create_runtime_manager(
            ({"backend": "CPU", "precision": "high", "numThread": get_num_threads()},)  # high: float32 everywhere
        )
        network = nn.load_module_from_file(str(target), ["x"], ["y"], runtime_manager=runtime)
    frames = channels_first(x)
    variable = expr.const(frames, list(frames.shape), expr.NCHW)
    return lambda: channels_last(network.forward(variable).read())
