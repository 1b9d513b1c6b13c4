"""A framecnn network as an ONNX file, and the engines that read it: ONNX Runtime, OpenVINO and MNN."""

import subprocess
import sys
import tempfile
from pathlib import Path

from framecnn import get_num_threads
from framecnn.interop.onnx_export import to_onnx
from framecnn.interop.onnx_layout import channels_first, channels_last

__all__ = ["onnx_bytes", "start_mnn", "start_onnxruntime", "start_openvino_default", "start_openvino_float32"]


def onnx_bytes(model, n):
    """Return a built Sequential as an ONNX file, with the input "x" (n, c, h, w) and the output "y"."""
    file = to_onnx(model)
    for port in (*file.graph.input, *file.graph.output):
        port.type.tensor_type.shape.dim[0].dim_value = n
    return file.SerializeToString()


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
    """Write an ONNX file as an MNN file, in a new process: the converter's protobuf crashes one with TensorFlow."""
    # MNN.tools would install a package that reports its use: the module behind it does the work alone
    program = "import sys, MNN, _tools; _tools.mnnconvert(['', *sys.argv[1:]])"
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
