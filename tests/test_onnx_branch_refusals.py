"""Errors name what branches of an ONNX graph cannot express; hostile graphs take no exponential time."""

import time

import pytest
from onnx_graphs import graph

from framecnn import FormatError
from framecnn.interop.onnx_import import from_onnx
from framecnn.interop.series_parallel import DEEPEST

onnx = pytest.importorskip("onnx")

UNEXPRESSIBLE = {
    "a bridge between branches": (
        "a = Relu(x); b = Tanh(x); c = Add(a, b); d = Add(a, c); e = Add(b, d); y = Relu(e)",
        "expected blocks in series and in parallel, got Relu 'a', which goes to Add 'c', Add 'd', whose branches ",
    ),
    "a concatenation in turns": (
        "a = Relu(x); b = Tanh(a); c = Sigmoid(a); y = Concat(b, x, c)",
        "expected blocks in series and in parallel, got Relu 'a', which goes to Tanh 'b', Sigmoid 'c', whose branches",
    ),
    "a kernel that is computed": (
        "a = Relu(x); y = Conv(x, a)",
        "cannot take Conv 'y': expected weights that the file holds, got the computed value 'a'",
    ),
    "a difference": (
        "a = Relu(x); y = Sub(x, a)",
        "cannot take Sub 'y': expected weights .* got the computed value 'a'",
    ),
    "numbers divided": ("y = Div(1, x)", "cannot take Div 'y': expected a value divided by stored numbers"),
    "weights first": ("f = Flatten(x); y = MatMul(w4x4, f)", "expected the computed value first and weights after it"),
    "a sum with weights": (
        "a = Relu(x); y = Sum(a, x, 1)",
        "cannot take Sum 'y': expected computed values only, got one",
    ),
    "nothing computed": ("y = Relu(1)", "cannot take Relu 'y': expected an input that depends on the network's input"),
    "a stored output": ("a = Relu(x); y = Add(1, 3)", "expected an output that depends on the input, got 'y'"),
    "unequal branches": (
        "g = GlobalAveragePool(x); y = Add(x, g)",
        "cannot take Add 'y': ParallelLayer: expected branches whose",
    ),
    "one value for all channels": ("a = Conv(x, p13); y = Mul(x, a)", "outputs fit 'multiply', got"),
    "two orders of rows": (
        "f = Flatten(x); g = Gemm(f, w297x297); y = Add(f, g)",
        "cannot take Add 'y': expected branches whose rows are flattened from the same maps, got different orders",
    ),
    "two orders of axes": (
        "g = GlobalAveragePool(x); a = Transpose(g, last); y = Mul(g, a)",
        "cannot take Mul 'y': expected branches that end with the same axes, got channels_first and channels_last",
    ),
    "other products on both sides": (
        "a = MatMul(w4x9, x); y = MatMul(a, w11x2)",
        "cannot take MatMul 'y': expected matrices that average cells or resize frames, as to_onnx writes them",
    ),
    "rows of pixels joined": ("y = Concat(x, x, axis3)", "expected channels or features concatenated, got axis 3 of 4"),
    "an operator inside": ("a = Selu(x); b = Relu(x); y = Add(a, b)", "cannot take Selu 'a': framecnn has no equi"),
    "a layer inside": ("a = Softmax(x, axis3); y = Add(a, x)", "cannot take Softmax 'a': expected softmax along"),
}


@pytest.mark.parametrize(("text", "reason"), UNEXPRESSIBLE.values(), ids=UNEXPRESSIBLE)
def test_a_graph_that_no_branches_express_is_named(text, reason):
    with pytest.raises(FormatError, match=reason) as error:
        from_onnx(graph(text))
    assert "\n" not in str(error.value)


CONSTANTS = {
    "text": (
        "c = Cast(minus1, to_text); d = Cast(c, to_int64); y = Reshape(x, d)",
        "cannot take Cast 'c': expected a cast to float32, .* got type 8",
    ),
    "a division by zero": (
        "c = Div(minus1, place0); y = Reshape(x, c)",
        "cannot take Div 'c': expected a divisor other t",
    ),
    "a root": (
        "n = Neg(3); c = Sqrt(n); y = Mul(x, c)",
        "cannot take Sqrt 'c': expected constants that give finite num",
    ),
    "a missing place": (
        "c = Gather(minus1, axes23); y = Reshape(x, c)",
        "cannot take Gather 'c': expected constants tha",
    ),
    "a large array": (
        "c = ConstantOfShape(huge); d = Gather(c, place0); y = Add(x, d)",
        "'c': expected at most 16,777,216 values computed from",
    ),
    "a growing array": (
        "c0 = Add(v3, 1); "
        + "; ".join(f"c{i + 1} = Concat(c{i}, c{i}, axis0)" for i in range(40))
        + "; d = Gather(c40, place0); y = Add(x, d)",
        "expected at most 16,777,216 values computed from constants",
    ),
    "an operator that is not computed": (
        "c = Exp(3); y = Add(x, c)",
        "cannot take Exp 'c': framecnn has no equivalent",
    ),
}


@pytest.mark.parametrize(("text", "reason"), CONSTANTS.values(), ids=CONSTANTS)
def test_constants_that_cannot_be_computed_are_named(text, reason):
    with pytest.raises(FormatError, match=reason):
        from_onnx(graph(text))


def in_time(call, seconds=20):
    """What a call returns, which must not take exponentially long; on this machine it takes a tenth of the time."""
    began = time.perf_counter()
    result = call()
    assert time.perf_counter() - began < seconds
    return result


def test_many_diamonds_take_no_exponential_time():
    text = "v0 = Relu(x); " + "; ".join(f"v{i + 1} = Add(v{i}, v{i})" for i in range(500)) + "; y = Relu(v500)"
    assert len(in_time(lambda: from_onnx(graph(text))).layers) == 503


def test_a_deep_chain_is_no_deep_recursion():
    text = "v0 = Relu(x); " + "; ".join(f"v{i + 1} = Relu(v{i})" for i in range(3000)) + "; y = Tanh(v3000)"
    assert len(in_time(lambda: from_onnx(graph(text))).layers) == 3003


def ladder(steps):
    """A graph of branches inside branches, `steps` deep."""
    text = "v0 = Relu(x)"
    for step in range(steps):
        text += f"; w{step} = Relu(v{step}); v{step + 1} = Add(w{step}, x)"
    return graph(f"{text}; y = Relu(v{steps})")


def test_branches_inside_branches_are_read_up_to_a_depth():
    assert in_time(lambda: from_onnx(ladder(DEEPEST))).layers
    for steps in (DEEPEST + 1, 1000):
        model = ladder(steps)
        with pytest.raises(FormatError, match=r"expected at most 32 levels of branches, got more at Add 'v"):
            in_time(lambda model=model: from_onnx(model))


def test_nodes_out_of_order_and_in_circles_are_refused():
    for change in (lambda nodes: nodes.reverse(), lambda nodes: nodes[0].input.__setitem__(0, "b")):
        model = graph("a = Relu(x); b = Tanh(a); y = Relu(b)")
        nodes = list(model.graph.node)
        change(nodes)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        with pytest.raises(FormatError, match="expected a valid ONNX model, got an invalid one"):
            from_onnx(model)
