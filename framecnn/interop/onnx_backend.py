"""framecnn as a backend of ONNX, for ONNX's test runner and other users of its backend interface."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from framecnn.errors import FormatError, SettingError
from framecnn.interop.onnx_import import read_network
from framecnn.interop.onnx_layout import channels_first, channels_last, flattened_order
from framecnn.typing import Array

__all__ = ["Backend", "Prepared"]


class Prepared:
    """A model that is ready to run, with the interface of ``onnx.backend.base.BackendRep``.

    Parameters
    ----------
    model : onnx.ModelProto
        Its first input holds the frames; further inputs are weights, which every run receives.
    """

    def __init__(self, model: Any):
        self._model = model
        stored = {tensor.name for tensor in model.graph.initializer}
        _, *self._weights = [value.name for value in model.graph.input if value.name not in stored] or [""]
        self._network = None if self._weights else read_network(model, "Backend")

    def run(self, inputs: Sequence[Array], **options: Any) -> tuple[Array, ...]:
        """Return the outputs for the inputs, both channels first.

        Parameters
        ----------
        inputs : sequence of arrays
            In the order of the graph's inputs.

        Returns
        -------
        tuple of one array
        """
        x, *weights = map(np.asarray, inputs)
        read = self._network or read_network(self._with_weights(weights), "Backend")
        last = x.ndim != 4 or read.input_layout == "channels_last"
        y = read.network.predict(x.reshape(-1, 1) if x.ndim == 1 else x if last else channels_last(x))
        if read.output_layout == "channels_first":
            y = channels_first(y)
        if read.flattened:
            y = y[:, flattened_order(read.flattened)]
        return (y.reshape(-1) if x.ndim == 1 else y,)

    def _with_weights(self, weights: Sequence[Array]) -> Any:
        from onnx import ModelProto, numpy_helper

        model = ModelProto()
        model.CopyFrom(self._model)
        tensors = [numpy_helper.from_array(value, name) for name, value in zip(self._weights, weights, strict=True)]
        model.graph.initializer.extend(tensors)
        return model


class Backend:
    """The interface of ``onnx.backend.base.Backend``, which prepares and runs models.

    Examples
    --------
    >>> from framecnn import InputLayer, PoolingLayer, Sequential
    >>> from framecnn.interop.onnx_export import to_onnx
    >>> model = to_onnx(Sequential([InputLayer((4, 4, 1)), PoolingLayer(2)]).build())
    >>> Backend.run_model(model, [np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)])[0].ravel()
    array([ 5.,  7., 13., 15.], dtype=float32)
    """

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether `device` is the CPU."""
        return device == "CPU"

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **options: Any) -> bool:
        """Return whether framecnn can run a model on a device; weights among its inputs are not considered."""
        try:
            cls.prepare(model, device)
        except (FormatError, SettingError):
            return False
        return True

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> Prepared:
        """Return a model that is ready to run.

        Raises
        ------
        SettingError
            If `device` is not the CPU.
        FormatError
            If framecnn does not have an operator of the model.
        """
        if not cls.supports_device(device):
            raise SettingError(f"Backend: expected the device CPU, got {device!r}")
        return Prepared(model)

    @classmethod
    def run_model(cls, model: Any, inputs: Sequence[Array], device: str = "CPU", **options: Any) -> tuple[Array, ...]:
        """Return the outputs of a model."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Sequence[Array], device: str = "CPU", outputs_info: Any = None, **options: Any
    ) -> tuple[Array, ...]:
        """Return the outputs of one operator; its first input holds the frames, the others are weights."""
        from onnx import helper, shape_inference

        given = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in zip(node.input, map(np.asarray, inputs), strict=True)
        ]
        wanted = [helper.make_empty_tensor_value_info(name) for name in node.output]
        model = helper.make_model(helper.make_graph([node], "node", given, wanted))
        return cls.run_model(shape_inference.infer_shapes(model), inputs, device)
