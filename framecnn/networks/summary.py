"""The summary of a network, a table of its layers."""

import io
from dataclasses import dataclass

from framecnn.typing import Shape

__all__ = ["Summary", "SummaryRow"]


@dataclass(frozen=True)
class SummaryRow:
    """A layer in a summary: its output shape without the batch, its parameters, its multiply-adds for one frame."""

    name: str
    layer: str
    output_shape: Shape
    n_params: int
    multiply_adds: int


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
        return sum(row.n_params for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """The number of multiply-adds for one frame."""
        return sum(row.multiply_adds for row in self.rows)

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
            table.add_row(row.name, sizes, f"{row.n_params:,}", f"{row.multiply_adds:,}")
        text = io.StringIO()
        console = Console(file=text, width=1000, color_system=None)
        console.print(table, f"activations of a prediction: {self.activation_bytes / 2**20:,.1f} MiB", highlight=False)
        return text.getvalue().rstrip()
