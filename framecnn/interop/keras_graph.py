"""The graph of a Keras model: its operations by name, with those of the models inside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from framecnn.errors import FormatError
from framecnn.typing import Array

__all__ = ["ARITHMETIC", "SOURCE", "KerasGraph", "Operation"]

SOURCE = "the input"
ARITHMETIC = ("ops.Add", "ops.Subtract", "ops.Multiply", "ops.Divide", "ops.TrueDivide")
"""Functions of ``keras.ops`` that may be called with a constant."""


@dataclass(frozen=True)
class Operation:
    """One call of a Keras layer, or of a function of ``keras.ops``.

    Parameters
    ----------
    name : str
        Name of the layer after those of the models that it is in, such as ``"backbone/conv1"``; unique in the graph.
    kind : str
        The class of a layer, or ``"ops."`` and that of a function.
    inputs : tuple of str
        The operations whose outputs it takes.
    output_shape : tuple of int or None
        Without the batch. Inside a model for frames of any size, rows and columns are unknown.
    operands : tuple
        What it is called with, in order; ``...`` stands for an input.
    layer : object
        The layer or function itself.
    config : mapping
        Its settings.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output_shape: tuple[int | None, ...]
    operands: tuple[Any, ...] = ()
    layer: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """Kind and name, for messages."""
        return f"{self.kind} {self.name!r}"

    def weights(self) -> dict[str, Array]:
        """Return the weights of the layer by name."""
        return {
            variable.name: value for variable, value in zip(self.layer.weights, self.layer.get_weights(), strict=True)
        }

    def unsupported(self, reason: str) -> FormatError:
        """Return the error for an operation without an equivalent."""
        return FormatError(f"from_keras: cannot take {self.called}: {reason}")


class KerasGraph:
    """The operations of a Keras model.

    Parameters
    ----------
    keras : module
    net : keras.Model

    Attributes
    ----------
    operations : dict of str to Operation
        Each after those whose outputs it takes.
    target : str
        The operation that computes the output; :data:`SOURCE` if the output is the input.
    policies : set of str
        The names of the dtype policies of all layers.

    Raises
    ------
    FormatError
        If a model has several inputs or outputs, a layer with weights is called more than once, or a model inside the
        model is no functional or sequential one.
    """

    def __init__(self, keras: Any, net: Any):
        self._keras = keras
        self.operations: dict[str, Operation] = {}
        self.policies: set[str] = set()
        self._called: set[int] = set()
        self.target = self._read(net, SOURCE, "")

    def _read(self, net: Any, source: str, prefix: str) -> str:
        """Read the operations of a model that is called with an output; return the name of its own output."""
        if (len(net.inputs), len(net.outputs)) != (1, 1):
            raise FormatError(
                f"from_keras: expected one input and one output of model {net.name!r}, "
                f"got {len(net.inputs)} and {len(net.outputs)}; convert part of it"
            )
        names = {id(net.inputs[0]): source}
        waiting = [net.outputs[0]]
        while waiting:
            tensor = waiting[-1]
            if id(tensor) in names:
                waiting.pop()
                continue
            node = _node_of(tensor)
            missing = [value for value in node.input_tensors if id(value) not in names]
            if not missing:
                names[id(tensor)] = self._add(node, [names[id(value)] for value in node.input_tensors], prefix)
            waiting += missing
        return names[id(net.outputs[0])]

    def _add(self, node: Any, inputs: list[str], prefix: str) -> str:
        """Add the operations of one call; return the name of the last one."""
        layer = node.operation
        operation = Operation(
            name=prefix + layer.name,
            kind=self._kind(layer),
            inputs=tuple(inputs),
            output_shape=tuple(node.outputs[0].shape[1:]),
            operands=tuple(... if _is_tensor(value) else value for value in node.arguments.args),
            layer=layer,
        )
        if len(node.outputs) != 1:
            raise operation.unsupported(f"expected one output, got {len(node.outputs)}")
        if isinstance(layer, self._keras.layers.Layer):
            operation = self._checked_layer(operation)
        else:
            operation = replace(operation, config=dict(vars(layer)))
        given = self._keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        constants = [value for value in given if not _is_tensor(value) and not isinstance(value, bool | None)]
        if constants and operation.kind not in ARITHMETIC:
            raise operation.unsupported(f"expected values that depend on the input, got a constant {constants[0]!r}")
        if isinstance(layer, self._keras.Model):
            return self._read(layer, inputs[0], f"{prefix}{layer.name}/")
        return self._store(operation)

    def _kind(self, layer: Any) -> str:
        name = type(layer).__name__
        return name if isinstance(layer, self._keras.layers.Layer) else f"ops.{name}"

    def _checked_layer(self, operation: Operation) -> Operation:
        """Return the operation of a layer with its settings; raise FormatError if Keras has no such layer."""
        layer, keras = operation.layer, self._keras
        if isinstance(layer, keras.Model):
            if len(operation.inputs) != 1 or not getattr(layer, "inputs", None):
                raise operation.unsupported("expected a functional or sequential model of one input")
            return operation
        if getattr(keras.layers, operation.kind, None) is not type(layer):
            raise operation.unsupported("framecnn has no equivalent layer; remove it")
        if layer.weights and id(layer) in self._called:
            raise operation.unsupported(
                "expected every layer with weights once, got it called more than once; "
                "use a separate layer with the same weights in each place"
            )
        self._called.add(id(layer))
        self.policies.add(layer.dtype_policy.name)
        return replace(operation, config=layer.get_config())

    def _store(self, operation: Operation) -> str:
        """Add an operation; means and differences become sums of scaled values."""
        operation = replace(operation, name=self._unique(operation.name))
        kind, count = operation.kind.removeprefix("ops."), len(operation.inputs)
        if kind == "Subtract" and count == 2:
            first, second = operation.inputs
            negative = self._scaled(operation, second, -1.0)
            operation = replace(operation, kind="Add", inputs=(first, negative))
        if kind == "Average" and count > 1:
            total = replace(operation, kind="Add", name=self._unique(f"{operation.name}/sum"))
            self.operations[total.name] = total
            return self._scaled(operation, total.name, 1 / count)
        self.operations[operation.name] = operation
        return operation.name

    def _scaled(self, operation: Operation, value: str, factor: float) -> str:
        """Add a multiplication of a value by a number, on behalf of an operation."""
        name = self._unique(f"{operation.name}/scaled")
        self.operations[name] = Operation(name, "ops.Multiply", (value,), operation.output_shape, (..., factor))
        return name

    def _unique(self, name: str) -> str:
        taken, number = name, 1
        while name in self.operations or name == SOURCE:
            number += 1
            name = f"{taken}#{number}"
        return name


def _node_of(tensor: Any) -> Any:
    """Return the call that computed a symbolic tensor."""
    operation, place, _ = tensor._keras_history
    return operation._inbound_nodes[place]


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "_keras_history")
