"""``framecnn export``: a model for whatever runs ONNX."""

from pathlib import Path
from typing import Annotated

import typer

from framecnn.cli import console
from framecnn.cli.loading import load_model
from framecnn.cli.options import Model
from framecnn.cli.outputs import check_outputs, check_replaced
from framecnn.interop.onnx_export import OPSET, to_onnx

__all__ = ["export"]

OURS = b"\x12\x08framecnn"
"""Where an ONNX file says who wrote it."""

Target = Annotated[Path, typer.Argument(metavar="FILE", help="The ONNX file to write.")]
Opset = Annotated[int, typer.Option("--opset", metavar="N", help="The version of ONNX's operators.")]


def export(model: Model, target: Target, opset: Opset = OPSET) -> None:
    """Write a model, its classes and what its frames must be as an ONNX file."""
    check_outputs([target])
    check_replaced({target: OURS})
    file = to_onnx(load_model(model), target, opset)
    outputs = ", ".join(output.name for output in file.graph.output)
    console.say(f"wrote {target}: opset {opset}, from x to {outputs}")
