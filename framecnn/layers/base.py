"""The base class of all layers: frozen settings, shapes, parameters by name, forward and backward passes."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from framecnn.arguments import channels_first_hint, check_shape
from framecnn.errors import FormatError, SettingError, ShapeError
from framecnn.layers import initializers
from framecnn.layers.params import REAL, SWAPPING, Param, Params
from framecnn.typing import Array, Shape

__all__ = [
    "DTYPES",
    "Backward",
    "Case",
    "Layer",
    "Param",
    "Params",
    "check_batch",
    "check_batch_shape",
    "check_fits",
    "check_frame",
    "check_real",
    "set_attributes",
]

Backward = Callable[[Array], tuple[Array, dict[str, Array]]]
"""``backward(dy) -> dx, {"kernel": dkernel, ...}``: the function that :meth:`Layer.vjp` returns with the output."""

LARGEST = 2**30
"""The most values that a parameter, or the input or output of one frame, may have: 4 GiB of float32."""

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
NOT_BUILT = "expected a built layer, got one without parameters; call build(input_shape)"


class NotBuiltError(ShapeError, AttributeError):
    """A layer has not been built. ``hasattr(layer, "params")`` tests for it."""


class _OfInstances:
    """A method hidden on the class: Hypothesis would call it without an instance."""

    def __init__(self, function: Callable[..., None]):
        self._function = function

    def __get__(self, instance: object, owner: type) -> Callable[..., None]:
        if instance is None:
            raise AttributeError(f"{owner.__name__} has no attribute {self._function.__name__!r}")
        return partial(self._function, instance)


@dataclass(frozen=True)
class Case:
    """An example of a layer: its settings and an input shape. Tests, benchmarks and docs run over them."""

    settings: Mapping[str, Any]
    input_shape: Shape


class Layer:
    """A step of a network.

    A subclass is a frozen dataclass whose fields are its settings. It defines :meth:`infer_shape` and
    :meth:`forward`, :meth:`param_specs` if it has parameters, :meth:`vjp` if it can be trained, and ``cases``, the
    examples that tests run over. Shapes exclude the batch; arrays are batch first, channels last.

    Files name a layer by its class, so two classes of one name are refused. A class of the same module and qualified
    name replaces the earlier one, as when a module is reloaded or a notebook cell rerun.

    A subclass of another layer that defines ``forward`` inherits no ``vjp``, which would be the gradient of another
    function. It is not fused or exported like its base class either: passes, and the forms of ONNX and Keras, are
    looked up by exact class.

    Attributes
    ----------
    params : Params
        Arrays by name, to be read or set: ``layer.params["kernel"] = weights``.
    input_shape, output_shape : tuple of int
        Known after :meth:`build`.
    dtype : numpy.dtype
        float32 or float64.
    """

    cases: ClassVar[tuple[Case, ...]] = ()
    registry: ClassVar[dict[str, type["Layer"]]] = {}

    params: Params
    input_shape: Shape
    output_shape: Shape
    dtype: np.dtype

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = Layer.registry.get(cls.__name__, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"Layer: expected a class name that no other layer has, got {cls.__module__}.{cls.__qualname__} "
                f"beside {known.__module__}.{known.__qualname__}; files name a layer by its class, so rename it"
            )
        if _depth(cls, "forward") < _depth(cls, "vjp"):
            cls.vjp = Layer.vjp  # type: ignore[method-assign]
        if "__repr__" not in vars(cls):
            cls.__repr__ = Layer.__repr__  # type: ignore[method-assign]  # before dataclass adds one with all settings
        Layer.registry[cls.__name__] = cls

    def __repr__(self) -> str:
        """Return the code that builds the layer again, without the settings that have their default."""
        if not is_dataclass(self):
            return f"{self._who}()"
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        required = [field.name for field in fields(self) if field.default is MISSING]
        usual = type(self)(**{name: settings[name] for name in required})
        shown = [
            f"{name}={value!r}" for name, value in settings.items() if name in required or value != getattr(usual, name)
        ]
        return f"{self._who}({', '.join(shown)})"

    def infer_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output; raise ShapeError unless the input shape fits."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method infer_shape, got none; write it")

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        """Return shape, initializer and trainability of each parameter, by name."""
        return {}

    def forward(self, x: Array) -> Array:
        """Return the output of a checked, contiguous batch."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method forward, got none; write it")

    def vjp(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Backward]:
        """Return the output of a checked batch and a function that computes the gradients (vector-Jacobian product).

        The batch is contiguous. Nothing is stored on the layer: `backward` holds what it needs and may be called more
        than once.

        Parameters
        ----------
        x : (n, *input_shape) array
        rng : numpy.random.Generator or None
            None means inference: the output equals that of :meth:`forward` bit for bit. A generator means training:
            dropout draws from it, batch normalisation uses the statistics of the batch.

        Returns
        -------
        y : (n, *output_shape) array
        backward : callable
            ``backward(dy) -> dx, {name: gradient}``. For a non-trainable parameter the dict holds its new value, not a
            gradient.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: expected a method vjp that belongs to its forward, got none; write it to train"
        )

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the number of multiply-adds for one frame."""
        return 0

    def build(self, input_shape: Shape, seed: int | np.random.Generator = 0, dtype: Any = np.float32) -> Self:
        """Check the input shape and draw the parameters.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one frame, ``(h, w, c)``, or of one row of features, ``(d,)``.
        seed : int or numpy.random.Generator, default 0
        dtype : float32 (default) or float64

        Returns
        -------
        The layer itself.

        Raises
        ------
        ShapeError
            If the shape does not fit.
        SettingError
            If the dtype is neither.
        """
        self._set(**self.drawn_attributes(input_shape, np.random.default_rng(seed), dtype))
        return self

    def drawn_attributes(self, input_shape: Shape, rng: np.random.Generator, dtype: Any) -> dict[str, Any]:
        """Return the attributes that :meth:`build` sets, without setting them."""
        dtype = check_dtype(self._who, dtype)
        input_shape = check_shape(self._who, "input_shape", input_shape)
        _, specs = self._checked_specs(input_shape)
        try:
            values = {name: initializers.draw(spec.initializer, spec.shape, rng, dtype) for name, spec in specs.items()}
            return self.assigned_attributes(input_shape, values, dtype)
        except MemoryError as error:
            shapes = ", ".join(f"{name} {spec.shape}" for name, spec in specs.items())
            raise ShapeError(
                f"{self._who}: expected parameters that fit into memory, got {shapes}; make the layer smaller"
            ) from error

    def _checked_specs(self, input_shape: Shape) -> tuple[Shape, dict[str, Param]]:
        """Return output shape and parameter specs; raise ShapeError if a frame or a parameter is too large."""
        output_shape = self.infer_shape(input_shape)
        check_fits(self._who, "an input", input_shape)
        check_fits(self._who, "an output", output_shape)
        specs = self.param_specs(input_shape)
        for name, spec in specs.items():
            check_fits(self._who, name, spec.shape)
        return output_shape, specs

    def assign(self, input_shape: Shape, values: Mapping[str, Array], dtype: Any = np.float32) -> Self:
        """Build with the given parameters instead of random ones; after an error the layer is unchanged.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one frame, or of one row of features.
        values : mapping of str to array
            All parameters that :meth:`param_specs` names. They are copied.
        dtype : float32 (default) or float64

        Returns
        -------
        The layer itself.

        Raises
        ------
        ShapeError
            If a shape or a name does not fit.
        SettingError
            If the dtype is neither.
        """
        self._set(**self.assigned_attributes(input_shape, values, dtype))
        return self

    def assigned_attributes(self, input_shape: Shape, values: Mapping[str, Array], dtype: Any) -> dict[str, Any]:
        """Return the attributes that :meth:`assign` sets, without setting them."""
        dtype = check_dtype(self._who, dtype)
        input_shape = check_shape(self._who, "input_shape", input_shape)
        output_shape, specs = self._checked_specs(input_shape)
        params = Params(self._who, specs, dtype, values)
        return {"input_shape": input_shape, "output_shape": output_shape, "dtype": dtype, "params": params}

    def __call__(self, x: Array) -> Array:
        """Return the output of a batch, which is checked and cast to the layer's dtype.

        Parameters
        ----------
        x : (n, *input_shape) array

        Returns
        -------
        (n, *output_shape) array

        Raises
        ------
        ShapeError
            If the layer is not built, or `x` does not fit it.
        """
        snapshot = self.snapshot()
        return snapshot.forward(check_batch(self._who, x, snapshot.input_shape, snapshot.dtype))

    @property
    def n_params(self) -> int:
        """The number of values in all parameters."""
        return sum(value.size for value in self.require_built().params.values())

    @property
    def config(self) -> dict[str, Any]:
        """The class name and the settings, ready for JSON."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"layer": self._who, **settings}

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "Layer":
        """Return the layer that a :attr:`config` describes. Only classes of the registry are ever called.

        Raises
        ------
        FormatError
            If the class is unknown or a setting is not allowed.
        """
        settings = dict(config) if isinstance(config, Mapping) else {}
        name = settings.pop("layer", None)
        if not isinstance(name, str) or name not in Layer.registry:
            raise FormatError(f"layer: expected one of {', '.join(sorted(Layer.registry))}, got {name!r}")
        try:
            return Layer.registry[name](**settings)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{name}: expected settings that fit it, got {settings}: {error}") from error

    @_OfInstances
    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print, for IPython and Hypothesis, the code that builds the layer again."""
        built = f".build({self.input_shape}, dtype={self.dtype.name!r})" if hasattr(self, "params") else ""
        printer.text(f"{self!r}{built}")

    @property
    def _who(self) -> str:
        return type(self).__name__

    def require_built(self) -> Self:
        """Return the layer itself; raise ShapeError if it has not been built."""
        if not hasattr(self, "params"):
            raise ShapeError(f"{self._who}: {NOT_BUILT}")
        return self

    def snapshot(self) -> Self:
        """Return a copy whose parameters never change; the copy is reused until a parameter of the layer is set."""
        with SWAPPING:
            values = self.require_built().params.data
            source, snapshot = self.__dict__.get("_snapshot", (None, None))
            if source is not values:
                snapshot = copy.copy(self)
                snapshot._set(params=copy.copy(self.params))
                self._set(_snapshot=(values, snapshot))
        return snapshot

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_snapshot"}

    if not TYPE_CHECKING:  # with __getattr__, mypy would accept any attribute

        def __getattr__(self, name: str) -> Any:
            """Raise NotBuiltError for an attribute that :meth:`build` sets."""
            if name in Layer.__annotations__:
                raise NotBuiltError(f"{self._who}: {NOT_BUILT}")
            raise AttributeError(f"{self._who} has no attribute {name!r}")

    def _set(self, **settings: Any) -> None:
        """Set attributes of the frozen dataclass: normalised settings, and those that :meth:`build` sets."""
        with SWAPPING:
            for name, value in settings.items():
                object.__setattr__(self, name, value)


def set_attributes(built: Iterable[tuple[Layer, Mapping[str, Any]]]) -> None:
    """Set the drawn or assigned attributes of several layers atomically."""
    with SWAPPING:
        for layer, attributes in built:
            layer._set(**attributes)


def _depth(cls: type, name: str) -> int:
    """Return how many classes of the method resolution order come before the one that defines `name`."""
    return next(depth for depth, base in enumerate(cls.__mro__) if name in vars(base))


def check_fits(who: str, what: str, shape: Shape) -> None:
    """Raise ShapeError if a shape has more than 2**30 values, before any memory is allocated."""
    if math.prod(shape) > LARGEST:
        raise ShapeError(f"{who}: expected {what} of at most {LARGEST:,} values, got {tuple(shape)}; make it smaller")


def check_dtype(who: str, dtype: Any) -> np.dtype:
    """Return float32 or float64 as a dtype; raise SettingError for anything else."""
    with suppress(TypeError):
        dtype = np.dtype(dtype)
    if isinstance(dtype, np.dtype) and dtype in DTYPES:
        return dtype
    raise SettingError(f"{who}: expected dtype float32 or float64, got {dtype}")


def check_batch(who: str, x: Any, shape: Shape, dtype: np.dtype) -> Array:
    """Return `x` as a contiguous array (n, *shape) of `dtype`; raise ShapeError unless it fits."""
    check_batch_shape(who, x, shape)
    return np.ascontiguousarray(check_real(who, x), dtype)


def check_real(who: str, x: Any) -> Array:
    """Return `x` as an array; raise ShapeError unless it holds real numbers."""
    values: Array = np.asarray(x)
    if values.dtype.kind not in REAL:
        raise ShapeError(f"{who}: expected real numbers, got dtype {values.dtype}")
    return values


def check_batch_shape(who: str, x: Any, shape: Shape) -> None:
    """Raise ShapeError unless `x` is (n, *shape); lazily decoded frames are not read, only their shape."""
    received = np.shape(x)
    if len(received) != len(shape) + 1 or received[1:] != shape:
        hint = channels_first_hint(received, shape)
        raise ShapeError(f"{who}: expected x of shape (n, {', '.join(map(str, shape))}), got {received}{hint}")


def check_frame(who: str, input_shape: Shape) -> tuple[int, int, int]:
    """Return ``(h, w, c)``; raise ShapeError for anything but three sizes."""
    if len(input_shape) != 3:
        raise ShapeError(f"{who}: expected frames of shape (height, width, channels), got {input_shape}")
    return input_shape[0], input_shape[1], input_shape[2]
