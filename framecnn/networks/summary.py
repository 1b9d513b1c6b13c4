"""The summary of a network, a table of its layers."""

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from framecnn.layers import Layer, ParallelLayer
from framecnn.layers.chain import walk
from framecnn.typing import Shape

__all__ = ["Summary", "SummaryRow", "summary_rows"]


@dataclass(frozen=True)
class SummaryRow:
    """A layer in a summary: its output shape without the batch, its parameters, its multiply-adds for one frame.

    A ParallelLayer, whose row holds the sums over its branches, is followed by rows for their layers, which have a
    larger `depth`; an empty branch has a row of its own without a layer.
    """

    name: str
    layer: str
    output_shape: Shape
    n_params: int
    multiply_adds: int
    depth: int = 0


def summary_rows(layers: Sequence[Layer], input_shape: Shape) -> tuple[SummaryRow, ...]:
    """Return the rows of layers in a chain, and of the layers of their branches.

    Examples
    --------
    >>> from framecnn import DenseLayer, ParallelLayer
    >>> [row.name for row in summary_rows([ParallelLayer([[DenseLayer(3)], []])], (3,))]
    ['parallel_1', 'branch_1/dense_1', 'branch_2']
    """
    return tuple(_rows(layers, input_shape))


def _rows(layers: Sequence[Layer], input_shape: Shape) -> Iterator[SummaryRow]:
    for name, layer, shape, output in walk(layers, input_shape):
        n_params = sum(math.prod(spec.shape) for spec in layer.param_specs(shape).values())
        yield SummaryRow(name, type(layer).__name__, output, n_params, layer.multiply_adds(shape))
        for number, branch in enumerate(layer.branches if isinstance(layer, ParallelLayer) else (), start=1):
            for row in _rows(branch, shape):
                yield replace(
                    row, name=f"branch_{number}/{row.name}" if row.depth == 0 else row.name, depth=row.depth + 1
                )
            if not branch:
                yield SummaryRow(f"branch_{number}", "", shape, 0, 0, depth=1)


@dataclass(frozen=True)
class Summary:
    """The layers of a network, printed as a table.

    ``activation_bytes`` is the memory that :meth:`Sequential.predict` needs in float32, besides parameters and frames.
    """

    rows: tuple[SummaryRow, ...]
    activation_bytes: int

    @property
    def n_params(self) -> int:
        """The number of values in all parameters."""
        return sum(row.n_params for row in self.rows if row.depth == 0)

    @property
    def multiply_adds(self) -> int:
        """The number of multiply-adds for one frame."""
        return sum(row.multiply_adds for row in self.rows if row.depth == 0)

    def __repr__(self) -> str:
        """Return the table, which a notebook or an interactive session shows."""
        return str(self)

    def __str__(self) -> str:
        from rich.box import Box
        from rich.console import Console
        from rich.table import Table

        rules = Box("    \n    \n -- \n    \n    \n -- \n    \n    \n", ascii=True)
        table = Table(
            "layer", "output", box=rules, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, show_footer=True
        )
        table.columns[0].footer = "total"
        table.add_column("parameters", f"{self.n_params:,}", justify="right")
        table.add_column("multiply-adds", f"{self.multiply_adds:,}", justify="right")
        for row in self.rows:
            sizes = " x ".join(map(str, row.output_shape))
            table.add_row("  " * row.depth + row.name, sizes, f"{row.n_params:,}", f"{row.multiply_adds:,}")
        text = io.StringIO()
        console = Console(file=text, width=1000, color_system=None)
        console.print(table, f"activations of a prediction: {self.activation_bytes / 2**20:,.1f} MiB", highlight=False)
        return text.getvalue().rstrip()
