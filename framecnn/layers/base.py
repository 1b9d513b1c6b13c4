"""What every layer is: frozen settings, a shape law, parameters in a dict, a forward pass."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from framecnn.arguments import check_choice, check_sizes
from framecnn.errors import FormatError, ShapeError
from framecnn.layers import initializers
from framecnn.layers.params import REAL, SWAPPING, Param, Params
from framecnn.typing import Array, Shape

__all__ = ["Backward", "Case", "Layer", "Param", "Params"]

Backward = Callable[[Array], tuple[Array, dict[str, Array]]]
"""``backward(dy) -> dx, {"kernel": dkernel, ...}``: what a layer's vjp gives beside its output."""

LARGEST = 2**30
"""Values of a parameter, of an input or of an output of one frame: 4 GiB of float32."""

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
NOT_BUILT = "expected a built layer, got one without parameters; call build(input_shape)"


class NotBuiltError(ShapeError, AttributeError):
    """A layer lacks what only building gives it; ``hasattr`` may ask."""


@dataclass(frozen=True)
class Case:
    """An example of a layer: its settings and the shape it is fed. Tests, benchmarks and docs run over them."""

    settings: Mapping[str, Any]
    input_shape: Shape


class Layer:
    """A step of a network.

    A subclass is a frozen dataclass whose fields are its settings. It gives :meth:`infer_shape` and :meth:`forward`,
    :meth:`param_specs` where it has parameters and :meth:`vjp` where it can be trained; the rest follows. Shapes
    exclude the batch; arrays are batch first, channels last.

    Attributes
    ----------
    params : Params
        Arrays by name; read them, or set them: ``layer.params["kernel"] = weights``.
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
        Layer.registry[cls.__name__] = cls

    def infer_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the output; a ShapeError where the input does not fit."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method infer_shape, got none; write it")

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        """Return what each parameter must be."""
        return {}

    def forward(self, x: Array) -> Array:
        """Compute the output of a checked, contiguous batch."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method forward, got none; write it")

    def vjp(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Backward]:
        """Compute the output of a checked, contiguous batch, and give what computes the gradients (a vector-Jacobian
        product).

        Nothing is kept on the layer: what `backward` needs, it holds. It may be called more than once.

        Parameters
        ----------
        x : (n, *input_shape) array
        rng : numpy.random.Generator or None
            None is inference: the output is that of :meth:`forward` to the bit. A generator is training: dropout draws
            from it, batch normalisation uses the batch.

        Returns
        -------
        y : (n, *output_shape) array
        backward : callable
            ``backward(dy) -> dx, {name: gradient}``. A parameter that is not trainable comes back under its name as
            its new value.
        """
        raise NotImplementedError(
            f"{type(self).__name__}: expected a method vjp, got none; write it to train the layer"
        )

    def multiply_adds(self, input_shape: Shape) -> int:
        """Count the multiply-adds of one frame."""
        return 0

    def build(self, input_shape: Shape, seed: int | np.random.Generator = 0, dtype: Any = np.float32) -> Self:
        """Check the shapes and draw the parameters.

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
            If the shape or the dtype does not fit.
        """
        self._set(**self.drawn(input_shape, np.random.default_rng(seed), dtype))
        return self

    def drawn(self, input_shape: Shape, rng: np.random.Generator, dtype: Any) -> dict[str, Any]:
        """Return what :meth:`build` sets, and set nothing."""
        dtype = check_dtype(self._who, dtype)
        input_shape = check_sizes(self._who, "input_shape", input_shape)
        specs = self._fitting_specs(input_shape)
        try:
            values = {name: initializers.draw(spec.initializer, spec.shape, rng, dtype) for name, spec in specs.items()}
            return self.assigned(input_shape, values, dtype)
        except MemoryError as error:
            shapes = ", ".join(f"{name} {spec.shape}" for name, spec in specs.items())
            raise ShapeError(
                f"{self._who}: expected parameters for which there is memory, got {shapes}; make the layer smaller"
            ) from error

    def _fitting_specs(self, input_shape: Shape) -> dict[str, Param]:
        """Return the specs of the parameters; a ShapeError where a frame or a parameter is too large."""
        output_shape = self.infer_shape(input_shape)
        check_fits(self._who, "an input", input_shape)
        check_fits(self._who, "an output", output_shape)
        specs = self.param_specs(input_shape)
        for name, spec in specs.items():
            check_fits(self._who, name, spec.shape)
        return specs

    def assign(self, input_shape: Shape, values: Mapping[str, Array], dtype: Any = np.float32) -> Self:
        """Build with given parameters instead of drawn ones; after an error the layer is as it was.

        Parameters
        ----------
        input_shape : tuple of int
            Shape of one frame, or of one row of features.
        values : mapping of str to array
            All parameters that :meth:`param_specs` names; they are copied.
        dtype : float32 (default) or float64

        Returns
        -------
        The layer itself.

        Raises
        ------
        ShapeError
            If a shape, a name or the dtype does not fit.
        """
        self._set(**self.assigned(input_shape, values, dtype))
        return self

    def assigned(self, input_shape: Shape, values: Mapping[str, Array], dtype: Any) -> dict[str, Any]:
        """Return what :meth:`assign` sets, and set nothing."""
        dtype = check_dtype(self._who, dtype)
        input_shape = check_sizes(self._who, "input_shape", input_shape)
        output_shape = self.infer_shape(input_shape)
        params = Params(self._who, self._fitting_specs(input_shape), dtype, values)
        return {"input_shape": input_shape, "output_shape": output_shape, "dtype": dtype, "params": params}

    def __call__(self, x: Array) -> Array:
        """Check a batch, cast it to the layer's dtype and give the output.

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
        now = self.snapshot()
        return now.forward(check_batch(self._who, x, now.input_shape, now.dtype))

    @property
    def n_params(self) -> int:
        """Number of values in all parameters."""
        return sum(value.size for value in self.built().params.values())

    @property
    def config(self) -> dict[str, Any]:
        """The class name and the settings, ready for JSON."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {"layer": self._who, **settings}

    @staticmethod
    def from_config(config: Mapping[str, Any]) -> "Layer":
        """Build the layer that a :attr:`config` describes; only classes of the registry are ever called.

        Raises
        ------
        FormatError
            If the class is unknown or a setting does not fit.
        """
        settings = dict(config) if isinstance(config, Mapping) else {}
        name = settings.pop("layer", None)
        if not isinstance(name, str) or name not in Layer.registry:
            raise FormatError(f"layer: expected one of {', '.join(sorted(Layer.registry))}, got {name!r}")
        try:
            return Layer.registry[name](**settings)
        except (TypeError, ValueError) as error:
            raise FormatError(f"{name}: expected settings that fit it, got {settings}: {error}") from error

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show IPython and Hypothesis how to build the layer again."""
        built = f".build({self.input_shape}, dtype={self.dtype.name!r})" if hasattr(self, "params") else ""
        printer.text(f"{self!r}{built}")

    @property
    def _who(self) -> str:
        return type(self).__name__

    def built(self) -> Self:
        """Return the layer itself; a ShapeError where it has not been built."""
        if not hasattr(self, "params"):
            raise ShapeError(f"{self._who}: {NOT_BUILT}")
        return self

    def snapshot(self) -> Self:
        """Return a copy whose parameters stay as they are now: the same one until any of them is set."""
        with SWAPPING:
            values = self.built().params.data
            of, now = self.__dict__.get("_snapshot", (None, None))
            if of is not values:
                now = copy.copy(self)
                now._set(params=copy.copy(self.params))
                self._set(_snapshot=(values, now))
        return now

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_snapshot"}

    if not TYPE_CHECKING:  # mypy would believe in any attribute

        def __getattr__(self, name: str) -> Any:
            """Return a ShapeError for what :meth:`build` has yet to give."""
            if name in Layer.__annotations__:
                raise NotBuiltError(f"{self._who}: {NOT_BUILT}")
            raise AttributeError(f"{self._who} has no attribute {name!r}")

    def _set(self, **settings: Any) -> None:
        """Write into the frozen dataclass: settings as ``__post_init__`` normalises them, and what is built."""
        with SWAPPING:
            for name, value in settings.items():
                object.__setattr__(self, name, value)


def set_built(built: Iterable[tuple[Layer, Mapping[str, Any]]]) -> None:
    """Set what :meth:`Layer.drawn` or :meth:`Layer.assigned` gave for several layers, at one moment."""
    with SWAPPING:
        for layer, own in built:
            layer._set(**own)


def check_fits(who: str, what: str, shape: Shape) -> None:
    """A ShapeError for more values than any layer may have, before memory is asked for."""
    if math.prod(shape) > LARGEST:
        raise ShapeError(f"{who}: expected {what} of at most {LARGEST:,} values, got {tuple(shape)}; make it smaller")


def check_dtype(who: str, dtype: Any) -> np.dtype:
    """Return float32 or float64 as a dtype; a ShapeError for anything else."""
    with suppress(TypeError):
        dtype = np.dtype(dtype)
        if dtype in DTYPES:
            return dtype
    raise ShapeError(f"{who}: expected dtype float32 or float64, got {dtype}")


def check_batch(who: str, x: Any, shape: Shape, dtype: np.dtype) -> Array:
    """Return `x` as a contiguous array (n, *shape) of `dtype`; a ShapeError where it does not fit."""
    check_batch_shape(who, x, shape)
    return np.ascontiguousarray(check_real(who, x), dtype)


def check_real(who: str, x: Any) -> Array:
    """Return `x` as an array; a ShapeError unless it holds real numbers."""
    x = np.asarray(x)
    if x.dtype.kind not in REAL:
        raise ShapeError(f"{who}: expected real numbers, got dtype {x.dtype}")
    return x


def check_batch_shape(who: str, x: Any, shape: Shape) -> None:
    """A ShapeError unless `x` is (n, *shape); lazily decoded frames are asked for their shape only."""
    received = np.shape(x)
    if len(received) != len(shape) + 1 or received[1:] != shape:
        raise ShapeError(f"{who}: expected x of shape (n, {', '.join(map(str, shape))}), got {received}")


def check_frame(who: str, input_shape: Shape) -> tuple[int, int, int]:
    """Return ``(h, w, c)``; a ShapeError for anything but three sizes."""
    if len(input_shape) != 3:
        raise ShapeError(f"{who}: expected frames of shape (height, width, channels), got {input_shape}")
    return input_shape[0], input_shape[1], input_shape[2]


def check_initial(who: str, use_bias: Any, kernel_initializer: Any) -> None:
    """A ShapeError unless the settings that say how a layer begins are known ones."""
    check_choice(who, "use_bias", use_bias, (True, False))
    check_choice(who, "kernel_initializer", kernel_initializer, initializers.NAMES)
