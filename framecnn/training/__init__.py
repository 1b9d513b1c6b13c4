"""Training by back-propagation: the loop, batches, losses, optimizers, schedules and checkpoints."""

from framecnn.training.history import History
from framecnn.training.loop import fit, train_step
from framecnn.training.losses import mean_squared_error, sigmoid_cross_entropy, softmax_cross_entropy
from framecnn.training.optimizers import SGD, Adam, AdamW
from framecnn.training.progress import Progress, print_progress
from framecnn.training.schedules import CosineDecay, StepDecay, WarmUp

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineDecay",
    "History",
    "Progress",
    "StepDecay",
    "WarmUp",
    "fit",
    "mean_squared_error",
    "print_progress",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "train_step",
]
