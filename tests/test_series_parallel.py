"""Graphs of blocks in series and in parallel are decomposed; all others are refused."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from framecnn.interop.dominators import Dominators
from framecnn.interop.series_parallel import DEEPEST, Merge, NotSeriesParallelError, decompose

PRIME = 1_000_003


def value_of(nodes, source, target):
    """Compute a graph on integers: one input is mapped by a function of its own, several are added."""
    values = {source: 7}

    def computed(node):
        if node not in values:
            received = [computed(value) for value in nodes[node]]
            values[node] = own(node, received[0]) if len(received) == 1 else sum(received)
        return values[node]

    return computed(target)


def joined_of(nodes, source, target):
    """Compute a graph on tuples: several inputs are concatenated."""
    values = {source: (7,)}

    def computed(node):
        if node not in values:
            received = [computed(value) for value in nodes[node]]
            values[node] = mapped(node, received[0]) if len(received) == 1 else tuple(itertools.chain(*received))
        return values[node]

    return computed(target)


def own(node, x):
    return (x * x + 3 * x + len(str(node)) + sum(map(ord, str(node)))) % PRIME


def mapped(node, x):
    return (own(node, sum(place * part for place, part in enumerate(x, start=2))),)


def run(chain, x, single, merged):
    """Compute a decomposition."""
    for step in chain:
        x = merged([run(branch, x, single, merged) for branch in step.branches]) if is_merge(step) else single(step, x)
    return x


def is_merge(step):
    return isinstance(step, Merge)


def steps_of(chain):
    for step in chain:
        yield step.node if is_merge(step) else step
        for branch in step.branches if is_merge(step) else ():
            yield from steps_of(branch)


blocks = st.recursive(
    st.just("operation"),
    lambda inner: st.tuples(st.just("parallel"), st.lists(st.lists(inner, max_size=3), min_size=2, max_size=3)),
    max_leaves=15,
)


def graph_of(chain, nodes, start):
    """Add a random chain of blocks to a graph; return its last value."""
    for block in chain:
        inputs = [start] if block == "operation" else [graph_of(branch, nodes, start) for branch in block[1]]
        start = f"n{len(nodes)}"
        nodes[start] = inputs
    return start


@given(st.lists(blocks, max_size=4), st.randoms())
def test_a_random_series_parallel_graph_is_decomposed_and_computes_the_same(chain, random):
    nodes = {}
    target = graph_of(chain, nodes, "x")
    shuffled = dict(random.sample(list(nodes.items()), len(nodes)))
    found = decompose(shuffled, "x", target)
    assert sorted(set(steps_of(found))) == sorted(nodes)
    assert run(found, 7, own, sum) == value_of(nodes, "x", target)
    found = decompose(shuffled, "x", target, concatenations=[name for name, inputs in nodes.items() if inputs[1:]])
    assert run(found, (7,), mapped, lambda parts: tuple(itertools.chain(*parts))) == joined_of(nodes, "x", target)


@st.composite
def graphs(draw):
    """Draw any graph with one beginning; its last value is the target."""
    nodes = {}
    for number in range(draw(st.integers(1, 8))):
        known = ["x", *nodes]
        nodes[f"n{number}"] = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    return nodes


def reduces_to_one_edge(nodes, source, target):
    """Whether reductions of Valdes, Tarjan and Lawler leave one edge: the definition of series-parallel."""
    needed, waiting = set(), [target]
    while waiting:
        node = waiting.pop()
        if node != source and node not in needed:
            needed.add(node)
            waiting += nodes[node]
    edges = {(value, node) for node in needed for value in nodes[node]}  # a set: parallel edges are one
    while True:
        inner = [
            node
            for node in needed - {target}
            if sum(end == node for _, end in edges) == 1 == sum(start == node for start, _ in edges)
        ]
        if not inner:
            return edges == {(source, target)} if needed else True
        node = inner[0]
        needed.remove(node)
        ((before, _),) = [edge for edge in edges if edge[1] == node]
        ((_, after),) = [edge for edge in edges if edge[0] == node]
        edges = {edge for edge in edges if node not in edge} | {(before, after)}


@given(graphs())
def test_exactly_the_series_parallel_graphs_are_decomposed(nodes):
    target = list(nodes)[-1]
    if reduces_to_one_edge(nodes, "x", target):
        assert run(decompose(nodes, "x", target), 7, own, sum) == value_of(nodes, "x", target)
    else:
        with pytest.raises(NotSeriesParallelError, match="expected blocks in series and in parallel, got 'n"):
            decompose(nodes, "x", target)


@given(graphs())
def test_concatenations_keep_the_order_of_their_inputs(nodes):
    target = list(nodes)[-1]
    try:
        found = decompose(nodes, "x", target, concatenations=[name for name, inputs in nodes.items() if inputs[1:]])
    except NotSeriesParallelError:
        assume(False)
    assert run(found, (7,), mapped, lambda parts: tuple(itertools.chain(*parts))) == joined_of(nodes, "x", target)


def test_a_value_whose_branches_do_not_end_together_is_named_with_its_consumers():
    nodes = {"a": ["x"], "b": ["a"], "c": ["x"], "d": ["a", "c"], "y": ["b", "d"]}
    with pytest.raises(NotSeriesParallelError, match=r"got 'a', which goes to 'b', 'd', whose branches do not end"):
        decompose(nodes, "x", "y")


def test_inputs_with_operations_in_common_are_merged_first():
    nodes = {"a": ["x"], "b": ["a"], "c": ["a"], "y": ["b", "x", "c"]}
    assert decompose(nodes, "x", "y") == (Merge("y", (("a", Merge("y", (("b",), ("c",)))), ())),)
    with pytest.raises(NotSeriesParallelError, match="got 'a', which goes to 'b', 'c', whose"):
        decompose(nodes, "x", "y", concatenations=["y"])


def test_concatenations_that_begin_with_another_take_its_output():
    """As a dense block is written by torchvision: each layer joins all earlier outputs afresh."""
    nodes = {"j1": ["x"], "f1": ["j1"], "j2": ["x", "f1"], "f2": ["j2"], "j3": ["x", "f1", "f2"], "f3": ["j3"]}
    nodes["y"] = ["x", "f1", "f2", "f3"]
    found = decompose(nodes, "x", "y", concatenations=["j1", "j2", "j3", "y"])
    block = Merge("j2", ((), ("j1", "f1"))), Merge("j3", ((), ("f2",))), Merge("y", ((), ("f3",)))
    assert found == block
    with pytest.raises(NotSeriesParallelError, match="got 'f1', which goes to 'j2', 'j3', 'y', whose branches"):
        decompose(nodes, "x", "y")


def test_concatenations_begin_with_another_only_where_that_helps():
    nodes = {"a": ["x", "x"], "b": ["x", "a"], "y": ["x", "x", "b"]}
    (merge,) = decompose(nodes, "x", "y", concatenations=["a", "b", "y"])
    assert [len(branch) for branch in merge.branches] == [0, 0, 1]


def test_many_diamonds_in_a_row_take_linear_time():
    nodes, last = {}, "x"
    for number in range(20_000):
        nodes |= {(number, "left"): [last], (number, "right"): [last]}
        nodes[number] = [(number, "left"), (number, "right"), last]
        last = number
    assert len(decompose(nodes, "x", last)) == 20_000


def test_merges_far_behind_a_long_chain_take_no_quadratic_time():
    tree, last = Dominators("x"), "x"
    for number in range(50_000):
        tree.add(number, [last])
        last = number
    for number in range(50_000):
        tree.add(("merge", number), [number, 49_999 - number])
    assert tree.nearest([("merge", 100), 49_000]) == 100
    assert tree.first_after(100, 49_000) == 101


def test_a_concatenation_of_very_many_values_takes_no_quadratic_time():
    nodes = {number: ["x"] for number in range(30_000)}
    nodes |= {"first": list(range(20_000)), "all": list(range(30_000)), "other": ["first"], "y": ["all", "other"]}
    with pytest.raises(NotSeriesParallelError, match="got 'first', which goes to 'all', 'other', whose"):
        decompose(nodes, "x", "y", concatenations=["first", "all"])


def test_operations_that_do_not_lead_to_the_target_are_ignored():
    nodes = {"a": ["x"], "unused": ["a", "nowhere"], "y": ["a"]}
    assert decompose(nodes, "x", "y") == ("a", "y")
    assert decompose(nodes, "x", "x") == ()


@pytest.mark.parametrize("nodes", [{"y": ["x", "b"], "b": []}, {"y": ["b"]}, {}])
def test_a_value_that_does_not_depend_on_the_input_is_named(nodes):
    with pytest.raises(NotSeriesParallelError, match=r"expected operations that all depend on 'x', got '[by]', which"):
        decompose(nodes, "x", "y")


def test_a_circle_is_named():
    with pytest.raises(
        NotSeriesParallelError, match=r"expected operations without a circle, got '[ab]', '[ab]', '[ab]"
    ):
        decompose({"a": ["x", "b"], "b": ["a"], "y": ["b"]}, "x", "y")


@pytest.mark.parametrize("levels", [DEEPEST, DEEPEST + 1])
def test_branches_are_nested_in_at_most_so_many_levels(levels):
    nodes = {"a0": ["x"]}
    for level in range(levels):
        nodes |= {f"b{level}": [f"a{level}", "x"], f"a{level + 1}": [f"b{level}"]}
    if levels == DEEPEST:
        assert run(decompose(nodes, "x", f"a{levels}"), 7, own, sum) == value_of(nodes, "x", f"a{levels}")
    else:
        with pytest.raises(NotSeriesParallelError, match="expected at most 32 levels of branches, got more at 'b0'"):
            decompose(nodes, "x", f"a{levels}")
