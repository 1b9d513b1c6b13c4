"""What a network consists of, as data and as a table."""

from dataclasses import dataclass

from framecnn.typing import Shape

__all__ = ["Summary", "SummaryRow"]


@dataclass(frozen=True)
class SummaryRow:
    """A layer in a summary: shapes without the batch, parameters, multiply-adds of one frame."""

    name: str
    layer: str
    output_shape: Shape
    n_params: int
    multiply_adds: int


@dataclass(frozen=True)
class Summary:
    """The rows of a network; printed, they are a table.

    ``activation_bytes`` is what :meth:`Sequential.predict` holds at a time in float32, beside parameters and frames.
    """

    rows: tuple[SummaryRow, ...]
    activation_bytes: int

    @property
    def n_params(self) -> int:
        """Values in all parameters."""
        return sum(row.n_params for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one frame."""
        return sum(row.multiply_adds for row in self.rows)

    def __str__(self) -> str:
        cells = [("layer", "output", "parameters", "multiply-adds")]
        cells += [
            (row.name, " x ".join(map(str, row.output_shape)), f"{row.n_params:,}", f"{row.multiply_adds:,}")
            for row in self.rows
        ]
        cells.append(("total", "", f"{self.n_params:,}", f"{self.multiply_adds:,}"))
        widths = [max(len(line[column]) for line in cells) for column in range(4)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in cells]
        rule = "-" * max(map(len, lines))
        memory = f"activations of a prediction: {self.activation_bytes / 2**20:,.1f} MiB"
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], memory])
