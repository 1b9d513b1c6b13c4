"""``framecnn export``: write a model as an ONNX file."""

from pathlib import Path
from typing import Annotated

import typer

from framecnn.cli import console
from framecnn.cli.loading import load_model
from framecnn.cli.options import Figures, Model
from framecnn.cli.outputs import OutputSet
from framecnn.interop.onnx_export import OPSET, to_onnx

__all__ = ["export"]

ONNX_MARK = b"\x12\x08framecnn"
"""The producer, at the beginning of an ONNX file that framecnn wrote."""

Target = Annotated[Path, typer.Argument(metavar="FILE", help="The ONNX file to write.")]
Opset = Annotated[int, typer.Option("--opset", metavar="N", help="The version of the ONNX operators.")]


def export(model: Model, target: Target, opset: Opset = OPSET, json: Figures = None) -> None:
    """Write a model, its classes and the format of its frames as an ONNX file."""
    files = OutputSet("export", json, [model], onnx=(target, ONNX_MARK))
    with files.held():
        file = to_onnx(load_model(model), opset=opset)
        inputs, outputs = ([value.name for value in values] for values in (file.graph.input, file.graph.output))
        figures = {"file": str(target), "opset": opset, "inputs": inputs, "outputs": outputs}
        files.write(figures, onnx=lambda path: path.write_bytes(file.SerializeToString()))
    console.say(f"wrote {target}: opset {opset}; input {', '.join(inputs)}; outputs {', '.join(outputs)}")
