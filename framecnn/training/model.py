"""The methods of a model that training calls."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from framecnn.layers import Backward, Param
from framecnn.storage.model_file import State
from framecnn.typing import Array, Shape

__all__ = ["TrainableModel"]


class TrainableModel(Protocol):
    """A built model that gradients can train; :class:`framecnn.Sequential` documents the methods."""

    @property
    def input_shape(self) -> Shape: ...

    def predict(self, x: Array, batch_size: int = ...) -> Array: ...

    def vjp(
        self, x: Array, rng: np.random.Generator | None = ..., *, wrt_input: bool = ...
    ) -> tuple[Array, Backward]: ...

    def param_specs(self) -> dict[str, Param]: ...

    def parameters(self) -> dict[str, Array]: ...

    def update(self, values: Mapping[str, Array]) -> None: ...

    def load_state_dict(self, state: Mapping[str, Array]) -> object: ...

    def fitted_state(self) -> State: ...
