"""The figures of a training run, epoch by epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

__all__ = ["History"]


@dataclass
class History:
    """Lists with one value per epoch, None if a figure does not exist.

    Parameters
    ----------
    loss, accuracy : list
        Means over the epoch's batches, each measured before its update; accuracy only if targets are labels.
    val_loss, val_accuracy : list
        Figures of the validation frames, after the epoch.
    learning_rate : list of float
        The rate of the epoch's first update.
    seconds : list
        Duration of the epoch; None for an epoch of an earlier process.

    Examples
    --------
    >>> history = History()
    >>> for val_loss in (0.7, 0.5, 0.6):
    ...     history.append({"loss": 0.4, "val_loss": val_loss}, learning_rate=0.001, seconds=9.5)
    >>> len(history), history.best_epoch, history.has_stalled(patience=1), history.has_stalled(patience=2)
    (3, 2, True, False)
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float | None] = field(default_factory=list)
    val_loss: list[float | None] = field(default_factory=list)
    val_accuracy: list[float | None] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        best = {name: values[self.best_epoch - 1] for name, values in vars(self).items() if values}
        figures = [f"{name} {value:.4g}" for name, value in best.items() if value is not None and name != "seconds"]
        parts = [f"{len(self)} epochs", *([f"epoch {self.best_epoch}: {', '.join(figures)}"] if figures else [])]
        return f"History({'; '.join(parts)})"

    def append(self, figures: Mapping[str, float], learning_rate: float, seconds: float) -> None:
        """Add an epoch, with the existing values among loss, accuracy, val_loss and val_accuracy as `figures`."""
        values = {**figures, "learning_rate": learning_rate, "seconds": seconds}
        for column in fields(self):
            getattr(self, column.name).append(values.get(column.name))

    @property
    def best_epoch(self) -> int:
        """Number, from 1, of the first epoch with the lowest validation loss.

        Without validation it is the last epoch; before the first epoch it is 0.
        """
        losses = [value for value in self.val_loss if value is not None]
        return losses.index(min(losses)) + 1 if losses else len(self)

    def has_stalled(self, patience: int | None) -> bool:
        """Return whether none of the last `patience` epochs was the best so far; False for None."""
        return patience is not None and len(self) - self.best_epoch >= patience
