"""Weights that PyTorch saved are read without PyTorch, and no file makes the reader run code."""

import os
import pickle
import time

import numpy as np
import pytest
from torch_files import (
    ORDERED_DICT,
    REBUILD,
    integer,
    integers,
    reference,
    state_dict,
    tensor,
    text,
    torch_file,
)

from framecnn.errors import FormatError
from framecnn.storage.data_pickle import LARGEST_PICKLE, read_pickle
from framecnn.storage.torch_weights import DTYPES, read_torch_weights

VALUES = {"0": np.arange(24, dtype=np.float32)}
STORAGE = reference("0", 24)
GOOD = tensor(STORAGE, (4, 6), (6, 1))


def read(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    return read_torch_weights(path)


def refusal(tmp_path, content):
    """Return the message with which a file is refused: one line, in little time."""
    start = time.perf_counter()
    with pytest.raises(FormatError) as caught:
        read(tmp_path, content)
    assert time.perf_counter() - start < 30
    message = str(caught.value)
    assert message.startswith("weights.pth: expected")
    assert "\n" not in message
    assert len(message) < 450
    return message


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_tensors_of_every_dtype_are_read(tmp_path, dtype):
    values = np.arange(-12 if dtype.kind != "u" else 0, 12).astype(dtype)
    entries = {"weight": tensor(reference("7", values.size, dtype), (values.size,), (1,))}
    found = read(tmp_path, torch_file(state_dict(entries), {"7": values}))["weight"]
    assert found.dtype == dtype
    assert np.array_equal(found, values)


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((4, 6), (6, 1), 0),
        ((6, 4), (1, 6), 0),
        ((3, 2), (8, 2), 3),
        ((), (), 23),
        ((2, 0, 3), (1, 1, 1), 0),
        ((1,), (0,), 5),
    ],
)
def test_views_have_the_values_that_shape_strides_and_offset_say(tmp_path, shape, strides, offset):
    found = read(tmp_path, torch_file(state_dict({"w": tensor(STORAGE, shape, strides, offset)}), VALUES))["w"]
    expected = [offset + int(np.dot(index, strides)) for index in np.ndindex(shape)]
    assert found.shape == shape
    assert found.ravel().tolist() == expected
    assert not found.flags.writeable


def test_tensors_may_share_a_storage(tmp_path):
    entries = {"a": GOOD, "b": tensor(STORAGE, (24,), (1,))}
    found = read(tmp_path, torch_file(state_dict(entries), VALUES))
    assert list(found) == ["a", "b"]
    assert np.shares_memory(found["a"], found["b"])


class Opens:
    """An object whose pickle calls a function on loading."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


ATTACKS = {
    "system": lambda path: Opens(os.system, f"touch {path}"),
    "eval": lambda path: Opens(eval, f"open({str(path)!r}, 'w')"),
    "exec": lambda path: Opens(exec, f"open({str(path)!r}, 'w')"),
    "open": lambda path: Opens(open, str(path), "w"),
    "getattr": lambda path: Opens(getattr, Opens(__import__, "os"), "system"),
    "nested in a dict": lambda path: {"weight": Opens(open, str(path), "w")},
    "nested in a list": lambda path: [[Opens(os.system, f"touch {path}")]],
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("place", range(5))
def test_pickles_that_call_functions_are_refused_and_nothing_is_run(tmp_path, protocol, attack, place):
    mark = tmp_path / "run"
    evil = pickle.dumps(ATTACKS[attack](mark), protocol)
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    parts += [state_dict({"w": GOOD}), pickle.dumps(["0"], 2)]
    parts[place] = evil
    refusal(tmp_path, b"".join(parts))
    assert not mark.exists()


OTHERS = {
    "an object": b"\x80\x02ctorch\nFloatStorage\n)\x81.",  # NEWOBJ
    "an extension": b"\x80\x02\x82\x01.",
    "a large extension": b"\x80\x02\x84\x01\x00\x00\x00.",
    "a persistent id in text": b"\x80\x02P0\n.",
    "an instance": b"\x80\x02(ios\nsystem\n.",
    "an object of protocol 1": b"\x80\x02(cos\nsystem\no.",
    "a name from the stack": b"\x80\x02" + text("os") + text("system") + b"\x93.",
    "a buffer": b"\x80\x05\x97.",
    "protocol 3": b"\x80\x03}.",
    "no protocol": b"}",
    "nothing": b"",
    "an unknown opcode": b"\x80\x02\xff.",
    "a float": b"\x80\x02G" + b"\0" * 8 + b".",
    "stop on an empty stack": b"\x80\x02.",
    "a mark only": b"\x80\x02(.",
    "an end without mark": b"\x80\x02t.",
    "an unknown memo": b"\x80\x02h\x05.",
    "a memo of nothing": b"\x80\x02q\x05.",
    "a cut name": b"\x80\x02cos",
    "a cut text": b"\x80\x02X\xff\xff\xff\xffabc",
    "a cut integer": b"\x80\x02\x8a\xff\x01",
    "a nested name": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
    "a name that resembles one": b"\x80\x02ctorch\nFloatStorage.__init__\n.",
    "a name with a new line in its text": b"\x80\x02ctorch.\xff\x00\n\x1b[2J\n.",
    "a storage as value": b"\x80\x02}" + text("w") + b"ctorch\nFloatStorage\ns.",
    "a call of a storage type": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "a call of a text": b"\x80\x02" + text("torch.FloatStorage") + b")R.",
    "a call with a list": b"\x80\x02" + ORDERED_DICT + b"]R.",
    "a call with a dict": b"\x80\x02" + REBUILD + b"}R.",
    "a call without arguments": b"\x80\x02" + REBUILD + b")R.",
    "a call with many arguments": b"\x80\x02" + REBUILD + integers(range(9)) + b"R.",
    "a dict with arguments": b"\x80\x02" + ORDERED_DICT + b"]\x85R.",
    "a state of a dict": b"\x80\x02}}" + text("__class__") + b"Nsb.",
    "two states": b"\x80\x02}}" + text("_metadata") + b"Ns" + text("x") + b"Nsb.",
    "a state of a list": b"\x80\x02]}b.",
    "a state of a function": b"\x80\x02" + REBUILD + b"}b.",
    "a state that is a tuple": b"\x80\x02}N}\x86b.",
    "items of a list": b"\x80\x02](K\x01K\x02u.",
    "items of a name": b"\x80\x02" + ORDERED_DICT + text("x") + b"Ns.",
    "an odd number of items": b"\x80\x02}(" + text("x") + b"u.",
    "keys that are tuples": b"\x80\x02})" + b"Ns.",
    "keys that are integers": b"\x80\x02}K\x01Ns.",
    "values appended to a dict": b"\x80\x02}K\x01a.",
    "values appended to a tuple": b"\x80\x02)(K\x01e.",
    "a list": b"\x80\x02].",
    "no tensors": state_dict({"w": b"K\x01"}),
    "a dict of dicts": state_dict({"w": state_dict({"w": GOOD})[2:-1]}),
    "a dict within itself": b"\x80\x02}q\x00" + text("w") + b"h\x00s.",
    "a storage alone": state_dict({"w": STORAGE}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_pickles_of_anything_but_tensors_are_refused(tmp_path, name):
    refusal(tmp_path, torch_file(OTHERS[name], VALUES))


TENSORS = {
    "an offset behind the end": tensor(STORAGE, (1,), (1,), 24),
    "a last value behind the end": tensor(STORAGE, (4, 6), (6, 1), 1),
    "a step beyond the end": tensor(STORAGE, (2,), (24,)),
    "a negative offset": tensor(STORAGE, (1,), (1,), -1),
    "a negative step": tensor(STORAGE, (4,), (-1,), 3),
    "a negative size": tensor(STORAGE, (-1,), (1,)),
    "more values than the storage": tensor(STORAGE, (25,), (0,)),
    "a huge size": tensor(STORAGE, (2**62, 4), (0, 0)),
    "a product beyond 64 bits": tensor(STORAGE, (2**31,) * 8, (0,) * 8),
    "an empty one of a huge size": tensor(STORAGE, (0, 2**62), (1, 1)),
    "fewer steps than sizes": tensor(STORAGE, (2, 2), (1,)),
    "too many dimensions": tensor(STORAGE, (1,) * 9, (1,) * 9),
    "a bool as size": REBUILD + b"(" + STORAGE + b"K\x00\x88\x85K\x01\x85\x89}tR",
    "a text as offset": REBUILD + b"(" + STORAGE + text("0") + b"K\x01\x85K\x01\x85\x89}tR",
    "a list as shape": REBUILD + b"(" + STORAGE + b"K\x00]K\x01\x85\x89}tR",
    "a storage that is a text": tensor(text("0"), (1,), (1,)),
    "hooks": tensor(STORAGE, (1,), (1,), hooks=b"}" + text("x") + b"Ns"),
    "a seventh argument": REBUILD + b"(" + STORAGE + b"K\x00))\x89}NtR",
    "an unknown storage type": tensor(reference("0", 24, storage="torch\nBFloat16Storage"), (1,), (1,)),
    "a storage type of another module": tensor(reference("0", 24, storage="numpy\nFloatStorage"), (1,), (1,)),
    "a view of a storage": tensor(reference("0", 24, view=integers((0, 4))), (1,), (1,)),
    "a storage of negative size": tensor(reference("0", -24), (1,), (1,)),
    "a storage of huge size": tensor(reference("0", 2**70), (1,), (1,)),
    "a storage larger than the file": tensor(reference("0", 2**31), (1,), (1,)),
    "a storage of another size": tensor(reference("0", 23), (1,), (1,)),
    "a storage with a long key": tensor(reference("0" * 65, 24), (1,), (1,)),
    "a storage that the file lacks": tensor(reference("1", 24), (1,), (1,)),
    "a persistent id of a text": tensor(text("0") + b"Q", (1,), (1,)),
    "a persistent id with an odd mark": tensor(
        b"(" + text("module") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + integer(24) + b"NtQ", (1,), (1,)
    ),
    "a persistent id with a text as type": tensor(
        b"(" + text("storage") + text("torch.FloatStorage") + text("0") + text("cpu") + integer(24) + b"NtQ", (1,), (1,)
    ),
    "a persistent id of five parts": tensor(
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + integer(24) + b"tQ", (1,), (1,)
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_lie_within_their_storage_are_refused(tmp_path, name):
    refusal(tmp_path, torch_file(state_dict({"a": GOOD, "w": TENSORS[name]}), VALUES))


def test_a_storage_has_one_size_and_dtype(tmp_path):
    other = tensor(reference("0", 24, np.dtype("<i4")), (1,), (1,))
    assert "one dtype and size" in refusal(tmp_path, torch_file(state_dict({"a": GOOD, "w": other}), VALUES))


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": 1},
        {"magic": "x"},
        {"version": 1002},
        {"little_endian": False},
        {"little_endian": 1},
        {"keys": []},
        {"keys": ["0", "0"]},
        {"keys": [0]},
        {"keys": {"0": 1}},
        {"rest": b"\0"},
    ],
    ids=str,
)
def test_files_of_another_form_are_refused(tmp_path, changes):
    refusal(tmp_path, torch_file(state_dict({"w": GOOD}), VALUES, **changes))


def test_a_file_cut_anywhere_is_refused(tmp_path):
    content = torch_file(state_dict({"w": GOOD}), VALUES)
    assert read(tmp_path, content)["w"].shape == (4, 6)
    for length in range(len(content)):
        refusal(tmp_path, content[:length])


def test_a_file_with_any_byte_changed_is_read_or_refused_with_one_line(tmp_path):
    content = torch_file(state_dict({"w": GOOD}), VALUES)
    for position in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            changed = bytearray(content)
            changed[position] ^= flip
            message = ""
            try:
                found = read(tmp_path, bytes(changed))
            except FormatError as error:
                message, found = str(error), {}
            assert "\n" not in message
            assert all(value.size <= 24 for value in found.values())


def test_references_that_grow_exponentially_cost_no_more_than_their_bytes(tmp_path):
    doubled = b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 2000 + b"."
    refusal(tmp_path, torch_file(doubled, VALUES))
    lists = b"\x80\x02]q\x00" + b"](h\x00h\x00eq\x00" * 2000 + b"."
    refusal(tmp_path, torch_file(lists, VALUES))
    deep = b"\x80\x02" + b")" + b"\x85" * 1_000_000 + b"."
    refusal(tmp_path, torch_file(deep, VALUES))
    key = b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 64 + b"0}h\x00Ns."
    refusal(tmp_path, torch_file(key, VALUES))


def test_calls_with_one_large_tuple_many_times_take_no_quadratic_time(tmp_path):
    shape = b"(" + b"K\x01" * 500_000 + b"tq\x00"
    call = REBUILD + b"(" + STORAGE + b"K\x00h\x00h\x00\x89}tR"
    refusal(tmp_path, torch_file(b"\x80\x02" + shape + call * 10_000 + b".", VALUES))


def test_a_pickle_may_have_four_megabytes():
    content = b"\x80\x02]" + b"N" * LARGEST_PICKLE + b"."
    with pytest.raises(FormatError, match="complete pickle"):
        read_pickle(memoryview(content), 0, {}, lambda key: key)


def test_a_folder_and_a_zip_archive_are_refused(tmp_path):
    with pytest.raises(FormatError, match="a folder or a device"):
        read_torch_weights(tmp_path)
    assert "_use_new_zipfile_serialization=False" in refusal(tmp_path, b"PK\x03\x04" + b"\0" * 100)


def test_a_file_of_more_than_two_gigabytes_is_refused_unread(tmp_path):
    path = tmp_path / "weights.pth"
    with open(path, "wb") as file:
        file.truncate(2**31 + 1)  # a sparse file: takes no space
    with pytest.raises(FormatError, match="at most 2,147,483,648 bytes"):
        read_torch_weights(path)


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    for value in (np.nan, np.inf):
        values = {"0": np.full(24, value, np.float32)}
        assert "finite numbers" in refusal(tmp_path, torch_file(state_dict({"w": GOOD}), values))


def torch_states(torch):
    """Yield names and state dicts: dtypes, views with strides and offsets, shared storages, a whole network."""
    names = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8"]
    yield "dtypes", {name: torch.arange(6, dtype=getattr(torch, name)) for name in names}
    base = torch.arange(60.0).reshape(3, 4, 5)
    yield (
        "views",
        {
            "permuted": base.permute(2, 0, 1),
            "sliced": base[1:, ::2, 1:4],
            "row": base[2, 3],
            "scalar": base[1, 2, 3],
            "diagonal": base[0].diagonal(),
            "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
            "empty": torch.empty(0, 3),
        },
    )
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    yield "network", network.state_dict()


@pytest.mark.parametrize("number", range(3), ids=["dtypes", "views", "network"])
def test_files_are_read_as_pytorch_reads_them(tmp_path, number):
    torch = pytest.importorskip("torch")
    _, state = list(torch_states(torch))[number]
    path = tmp_path / "weights.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    found, expected = read_torch_weights(path), torch.load(path, weights_only=True)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.numpy().dtype
        assert np.array_equal(found[name], value.numpy())
        assert found[name].shape == tuple(value.shape)


def test_other_objects_that_pytorch_saves_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pth"
    others = [torch.nn.Linear(2, 3), {"w": torch.zeros(2).expand(8, 2)}, {"w": torch.zeros(2, dtype=torch.bfloat16)}]
    for other in [*others, [torch.zeros(2)], {"w": torch.nn.Parameter(torch.zeros(2))}]:
        torch.save(other, path, _use_new_zipfile_serialization=False)
        with pytest.raises(FormatError, match=r"^weights\.pth: expected"):
            read_torch_weights(path)
    torch.save({"w": torch.zeros(2)}, path)
    with pytest.raises(FormatError, match="expected a"):
        read_torch_weights(path)
