"""What training needs of a model."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from framecnn.layers import Backward, Layer, Param
from framecnn.typing import Array, Shape

__all__ = ["TrainableModel"]


class TrainableModel(Protocol):
    """A built model that gradients can train, such as :class:`framecnn.Sequential`, whose methods these are."""

    @property
    def layers(self) -> Sequence[Layer]: ...

    @property
    def input_shape(self) -> Shape: ...

    def predict(self, x: Array, batch_size: int = ...) -> Array: ...

    def vjp(
        self, x: Array, rng: np.random.Generator | None = ..., *, wrt_input: bool = ...
    ) -> tuple[Array, Backward]: ...

    def param_specs(self) -> dict[str, Param]: ...

    def parameters(self) -> dict[str, Array]: ...

    def update(self, values: Mapping[str, Array]) -> None: ...

    def state_dict(self) -> dict[str, Array]: ...

    def load_state_dict(self, state: Mapping[str, Array]) -> object: ...
