"""A chain of layers."""

import math
import operator
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from framecnn.arguments import check_count
from framecnn.errors import ShapeError
from framecnn.layers import Backward, ConvLayer, InputLayer, Layer, Param
from framecnn.layers.base import check_batch, check_batch_shape, check_real, set_built
from framecnn.layers.params import REAL, SWAPPING
from framecnn.networks.fusion import Snapshot, plan, snapshots
from framecnn.networks.map_size import check_map_size
from framecnn.networks.summary import Summary, SummaryRow
from framecnn.storage.model_file import Description, State, expect, write_model
from framecnn.typing import Array, Shape

if TYPE_CHECKING:
    from framecnn.training.history import History

__all__ = ["Sequential"]

BATCH_SIZE = 32
FLOATS: dict[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "float64": np.dtype(np.float64)}


class Sequential:
    """Layers applied one after the other.

    Any number of threads may call a model. Each call works with the parameters that were there when it began, all of
    one moment: :meth:`load_state_dict`, :meth:`update`, :meth:`build` and a training step set theirs at once.

    Parameters
    ----------
    layers : iterable of Layer
        The first is an InputLayer.

    Attributes
    ----------
    layers : tuple of Layer
    names : tuple of str
        ``"conv_1"``, ``"pooling_1"``, ...: the kind of layer and its number in the chain.

    Raises
    ------
    ShapeError
        If a member is no layer or stands there twice, or the first is no InputLayer.

    Examples
    --------
    >>> from framecnn import ConvLayer, FlatteningLayer, DenseLayer
    >>> model = Sequential([InputLayer((8, 8, 3)), ConvLayer(4, kernel_size=3), FlatteningLayer(), DenseLayer(2)])
    >>> model.build(seed=0).predict(np.zeros((5, 8, 8, 3))).shape
    (5, 2)
    >>> print(model.summary())
    layer         output     parameters  multiply-adds
    --------------------------------------------------
    input_1       8 x 8 x 3           0              0
    conv_1        6 x 6 x 4         112          3,888
    flattening_1  144                 0              0
    dense_1       2                 290            288
    --------------------------------------------------
    total                           402          4,176
    activations of a prediction: 0.1 MiB
    """

    def __init__(self, layers: Iterable[Layer]):
        self.layers = tuple(layers)
        strangers = [type(layer).__name__ for layer in self.layers if not isinstance(layer, Layer)]
        if strangers:
            raise ShapeError(f"Sequential: expected layers, got {', '.join(strangers)}")
        if len({id(layer) for layer in self.layers}) < len(self.layers):
            raise ShapeError("Sequential: expected every layer once, got one twice; make two of the same settings")
        if not self.layers or not isinstance(self.layers[0], InputLayer):
            first = type(self.layers[0]).__name__ if self.layers else "no layer"
            raise ShapeError(f"Sequential: expected an InputLayer first, got {first}; begin with InputLayer(shape)")
        numbers: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(layer).__name__.removesuffix("Layer")).lower()
            numbers[kind] += 1
            names.append(f"{kind}_{numbers[kind]}")
        self.names = tuple(names)
        self._last: Snapshot | None = None

    def __repr__(self) -> str:
        return f"Sequential({list(self.layers)})"

    @property
    def input_shape(self) -> Shape:
        """Shape of one frame."""
        return self.layers[0].shape  # type: ignore[attr-defined]

    @property
    def output_shape(self) -> Shape:
        """Shape of one result."""
        return list(self._walk())[-1][-1]

    def _walk(self) -> Iterator[tuple[str, Layer, Shape, Shape]]:
        """Yield name, layer, input and output shape along the chain."""
        shape = self.input_shape
        for name, layer in zip(self.names, self.layers, strict=True):
            output = layer.infer_shape(shape)
            yield name, layer, shape, output
            shape = output

    def build(self, seed: int | np.random.Generator = 0, dtype: Any = np.float32) -> Self:
        """Check all shapes and draw all parameters.

        Parameters
        ----------
        seed : int or numpy.random.Generator, default 0
        dtype : float32 (default) or float64

        Returns
        -------
        The model itself.

        Raises
        ------
        ShapeError
            From the layer that does not fit.
        """
        rng = np.random.default_rng(seed)
        set_built([(layer, layer.drawn(shape, rng, dtype)) for _, layer, shape, _ in self._walk()])
        return self

    def predict(self, x: Array, batch_size: int = BATCH_SIZE) -> Array:
        """Return the output of every frame.

        Parameters
        ----------
        x : (n, *input_shape) array
            Any real dtype; cast to the model's.
        batch_size : int, default 32
            Frames in memory at a time. The result does not depend on it, to the bit.

        Returns
        -------
        (n, *output_shape) array

        Raises
        ------
        ShapeError
            If the model is not built or `x` does not fit it.
        """
        who = "Sequential.predict"
        check_count(who, "batch_size", batch_size)
        check_batch_shape(who, x, self.input_shape)
        now = self._snapshot()
        dtype = now.layers[0].dtype
        if len(x) <= batch_size:
            batch = check_real(who, x[:])
            y = now.plan.run(batch, dtype)
            return y.copy() if np.may_share_memory(y, batch) else y
        y = np.empty((len(x), *self.output_shape), dtype)
        for start in range(0, len(x), batch_size):
            batch = check_real(who, x[start : start + batch_size])
            y[start : start + batch_size] = now.plan.run(batch, dtype)
        return y

    __call__ = predict

    def vjp(
        self, x: Array, rng: np.random.Generator | None = None, *, wrt_input: bool = True
    ) -> tuple[Array, Backward]:
        """Return the output of a batch, and what computes the gradients.

        Parameters
        ----------
        x : (n, *input_shape) array
            Any real dtype; cast to the model's.
        rng : numpy.random.Generator or None
            As :meth:`framecnn.layers.Layer.vjp` takes it: None is inference, a generator is training.
        wrt_input : bool, default True
            Where false, dx is None and costs nothing.

        Returns
        -------
        y : (n, *output_shape) array
        backward : callable
            ``backward(dy) -> dx, {"conv_1/kernel": gradient, ...}``. A parameter that is not trainable comes back
            under its name as its new value.

        Raises
        ------
        ShapeError
            If the model is not built or `x` does not fit it.
        """
        now = self._snapshot()
        y = check_batch("Sequential.vjp", x, self.input_shape, now.layers[0].dtype)
        first = 0 if wrt_input else self._first_with_parameters
        steps = []
        for number, vjp in now.training_plan:
            if number == first and not wrt_input and isinstance(self.layers[number], ConvLayer):
                vjp = partial(vjp, wrt_input=False)
            y, backward = vjp(y, rng)
            steps.append((number, backward))

        def backward_all(dy: Array) -> tuple[Any, dict[str, Array]]:
            grads: dict[str, Array] = {}
            for number, backward in reversed(steps):
                if number >= first:
                    dy, own = backward(dy)
                    grads |= {f"{self.names[number]}/{key}": value for key, value in own.items()}
            return dy if wrt_input else None, grads

        return y, backward_all

    def fit(self, x: Any, y: Any, **settings: Any) -> "History":
        """Train the model; see :func:`framecnn.training.loop.fit`, which takes the same settings."""
        from framecnn.training.loop import fit

        return fit(self, x, y, **settings)

    @cached_property
    def _first_with_parameters(self) -> int:
        """The number of the first layer with parameters, or of layers."""
        steps = enumerate(self._walk())
        return next((number for number, (_, layer, shape, _) in steps if layer.param_specs(shape)), len(self.layers))

    def _snapshot(self) -> Snapshot:
        """Return the layers as they are at this moment, built for each other; kernels rely on their shapes."""
        self._check_built()
        now, layers = self._last, snapshots(self.layers)
        if now is None or not all(map(operator.is_, now.layers, layers)):
            now = Snapshot(layers)
            dtype, shape = layers[0].dtype, self.input_shape
            for name, layer in zip(self.names, layers, strict=True):
                if (layer.input_shape, layer.dtype) != (shape, dtype):
                    raise ShapeError(
                        f"Sequential.predict: expected {name} built for {shape} of {dtype}, got it built for "
                        f"{layer.input_shape} of {layer.dtype}; build the model again"
                    )
                shape = layer.output_shape
            self._last = now
        return now

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}

    def summary(self) -> Summary:
        """Return shapes, parameters and multiply-adds of every layer; print it to see a table.

        Returns
        -------
        Summary
            ``rows``, ``n_params``, ``multiply_adds`` and ``activation_bytes`` are its data.
        """
        rows = []
        for name, layer, shape, output in self._walk():
            n_params = sum(math.prod(spec.shape) for spec in layer.param_specs(shape).values())
            rows.append(SummaryRow(name, type(layer).__name__, output, n_params, layer.multiply_adds(shape)))
        memory = plan(self.layers, self.input_shape).activation_bytes(BATCH_SIZE, np.dtype(np.float32).itemsize)
        return Summary(tuple(rows), memory)

    def parameters(self) -> dict[str, Array]:
        """Return all parameters, read-only, ``"conv_1/kernel" -> array``, in the order of the layers."""
        self._check_built()
        return {
            f"{name}/{parameter}": value
            for name, layer in zip(self.names, snapshots(self.layers), strict=True)
            for parameter, value in layer.params.items()
        }

    def _check_built(self) -> None:
        if not all(hasattr(layer, "params") for layer in self.layers):
            raise ShapeError("Sequential: expected a built model, got layers without parameters; call build(seed)")

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all :meth:`parameters`."""
        return {name: value.copy() for name, value in self.parameters().items()}

    def param_specs(self) -> dict[str, Param]:
        """Return what each parameter must be, by the names and in the order of :meth:`state_dict`."""
        return {
            f"{name}/{key}": spec
            for name, layer, shape, _ in self._walk()
            for key, spec in layer.param_specs(shape).items()
        }

    def update(self, values: Mapping[str, Array]) -> None:
        """Set some of the parameters by the names of :meth:`state_dict`, all at one moment.

        Raises
        ------
        ShapeError
            If the model is not built, a name is unknown or a shape differs; the model keeps its parameters.
        """
        layers = dict(zip(self.names, self.layers, strict=True))
        changes = []
        for flat_name, value in values.items():
            name, _, key = flat_name.partition("/")
            if name not in layers:
                raise ShapeError(f"Sequential.update: expected parameters of {', '.join(layers)}, got {flat_name!r}")
            params = layers[name].built().params
            changes.append((params, params.checked({key: value})))
        with SWAPPING:
            for params, own in changes:
                params.replace(own)

    def load_state_dict(self, state: Mapping[str, Array], dtype: Any = np.float32) -> Self:
        """Set all parameters at one moment; names and shapes must be exactly those of :meth:`state_dict`.

        Parameters
        ----------
        state : mapping of str to array
        dtype : float32 (default) or float64
            For a model that is not built yet; nothing is drawn.

        Returns
        -------
        The model itself.

        Raises
        ------
        ShapeError
            If a name is missing or unknown, or a shape differs; the model keeps its parameters.
        """
        steps = [(name, layer, shape, layer.param_specs(shape)) for name, layer, shape, _ in self._walk()]
        expected = {f"{name}/{key}": spec.shape for name, _, _, specs in steps for key, spec in specs.items()}
        received = {key: _shape_of_numbers(value) for key, value in state.items()}
        if received != expected:
            wrong = sorted(key for key in expected.keys() | received.keys() if expected.get(key) != received.get(key))
            key = wrong[0]
            raise ShapeError(
                f"Sequential.load_state_dict: expected {key} as {expected.get(key, 'absent')}, "
                f"got {received.get(key, 'nothing')} ({len(wrong)} of {len(expected)} differ)"
            )
        built = []
        for name, layer, shape, specs in steps:
            values = {key: state[f"{name}/{key}"] for key in specs}
            built.append((layer, layer.assigned(shape, values, getattr(layer, "dtype", dtype))))
        set_built(built)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the built model as one safetensors file, atomically; see :func:`framecnn.save`."""
        write_model(path, Sequential, *self.fitted_state())

    def fitted_state(self) -> State:
        """Return the settings of the layers, and :meth:`parameters`; see :meth:`from_fitted_state`."""
        tensors = self.parameters()
        return {"layers": [layer.config for layer in self.layers], "dtype": self.layers[0].dtype.name}, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Return a model of the state that :meth:`fitted_state` gave.

        Raises
        ------
        FormatError, ShapeError
            If a layer needs too much memory for a frame, or the parts do not fit together.
        """
        model = cls(Layer.from_config(config) for config in description["layers"])
        shape = model.input_shape
        for layer in model.layers:
            shape = check_map_size(layer, shape)
        dtype = FLOATS[description["dtype"]]
        least, largest = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
        sizes = [abs(number) for number in _numbers(description["layers"]) if number]
        expect(all(least <= size <= largest for size in sizes), f"settings in the range of {dtype}")
        expect(all(tensor.dtype == dtype for tensor in tensors.values()), f"tensors of {dtype}")
        return model.load_state_dict(tensors, dtype)


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers of a description."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def _shape_of_numbers(value: Any) -> Any:
    """Return the shape of an array; of one that holds no real numbers its dtype."""
    value = np.asarray(value)
    return value.shape if value.dtype.kind in REAL else value.dtype
