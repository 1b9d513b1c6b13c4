"""Files that are not models: loading each raises one FormatError, whose message says what to do."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import zipfile
import zlib

import mutations
import numpy as np
import pytest
from mutations import pack, unpack
from refusals import little_memory, refusal, write_models
from safetensors.numpy import save_file

from framecnn import DenseLayer, InputLayer, Sequential, load, save
from framecnn.storage import container

INCOMPLETE = "got {} bytes without a complete header: another kind of file, or one that was cut off"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def network(models):
    return (models / "network").read_bytes()


def test_the_unchanged_files_are_loaded(models):
    for path in models.iterdir():
        mutations.use(load(path))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 40])
def test_a_file_cut_in_its_header_is_refused_as_incomplete(tmp_path, network, length):
    assert INCOMPLETE.format(length) in refusal(tmp_path / "m", network[:length])


def test_a_file_cut_elsewhere_or_too_long_is_refused(tmp_path, network):
    start = 8 + int.from_bytes(network[:8], "little")
    for length in (*range(start - 3, start), *range(start, len(network))):
        refusal(tmp_path / "m", network[:length])
    for junk in (b"\0", b"junk", network):
        assert "got gaps, overlaps or a wrong length" in refusal(tmp_path / "m", network + junk)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**31, 16 * 2**20 + 1])
def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path, network, length):
    with little_memory():
        assert INCOMPLETE.format(len(network)) in refusal(tmp_path / "m", length.to_bytes(8, "little") + network[8:])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "expected a header in JSON, got a damaged one (Expecting value"),
        ("\x00\x01\x02 garbage", "got a damaged one"),
        ("{'a': 1}", "got a damaged one"),
        ("[" * 100_000, "got a damaged one (maximum recursion depth"),
        ('{"a":' * 100_000, "got a damaged one (maximum recursion depth"),
        ("[]", "expected a JSON object as header, got list"),
        ("null", "expected a JSON object as header, got NoneType"),
        ('{"a": 1, "a": 1}', "got a damaged one (duplicate key)"),
        ('{"a": NaN}', "got a damaged one (NaN is not a finite number)"),
        ('{"a": -Infinity}', "(-Infinity is not a finite number)"),
        ('{"a": 1e999}', "(1e999 is not a finite number)"),
        ('{"a": ' + "9" * 5000 + "}", "got a damaged one (Exceeds the limit"),
        ("{}", "got a .safetensors file of another program; make one: framecnn train"),
        ('{"__metadata__": null}', "of another program"),
        ('{"__metadata__": [1]}', "of another program"),
        ('{"__metadata__": {"framecnn": 3}}', "of another program"),
        ('{"__metadata__": {"framecnn": "{"}}', "got a damaged one"),
        ('{"__metadata__": {"framecnn": "[]"}}', "expected a JSON object as header, got list"),
        ('{"__metadata__": {"framecnn": "{\\"kind\\": 1, \\"kind\\": 2}"}}', "(duplicate key)"),
        ('{"__metadata__": {"framecnn": "{\\"format\\": NaN}"}}', "(NaN is not a finite number)"),
        ('{"__metadata__": {"framecnn": "{}"}}', "expected format 4, got None; save the model again"),
        ('{"__metadata__": {"framecnn": "{\\"format\\": true}"}}', "expected format 4, got True"),
        ('{"__metadata__": {"framecnn": "{\\"format\\": 0}"}}', "expected format 4, got 0"),
        (
            '{"__metadata__": {"framecnn": "{\\"format\\": 5}"}}',
            "got format 5 of a newer framecnn; pip install -U framecnn",
        ),
        (
            '{"__metadata__": {"framecnn": "{\\"format\\": 2}"}}',
            "expected format 4, got format 2 of an older framecnn; train the model again",
        ),
    ],
)
def test_a_header_that_framecnn_did_not_write_is_refused(tmp_path, header, message):
    assert message in refusal(tmp_path / "m", pack(header))


def test_a_header_in_another_encoding_is_refused(tmp_path, network):
    header, body = unpack(network)
    for encoding in ("utf-16", "utf-32"):
        text = json.dumps(header).encode(encoding)
        assert "got a damaged one" in refusal(tmp_path / "m", len(text).to_bytes(8, "little") + text + body)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_offsets": [0, 16]}, "expected tensor 'dense_1/kernel' of F32, F64, I64, with the bytes of its shape"),
        ({"data_offsets": [24, 0]}, "with the bytes of its shape"),
        ({"data_offsets": [-24, 0]}, "with the bytes of its shape"),
        ({"data_offsets": [0.0, 24.0]}, "with the bytes of its shape"),
        ({"data_offsets": [0]}, "with the bytes of its shape"),
        ({"data_offsets": [4, 28]}, "got gaps, overlaps or a wrong length"),
        ({"data_offsets": [8, 32]}, "got gaps, overlaps or a wrong length"),
        ({"data_offsets": [2**62, 2**62 + 24]}, "got gaps, overlaps or a wrong length"),
        ({"shape": [3, 3]}, "with the bytes of its shape"),
        ({"shape": [2**32, 2**32]}, "with the bytes of its shape"),
        ({"shape": [2**62, 2**62, 16]}, "with the bytes of its shape"),
        ({"shape": [0, 2]}, "with the bytes of its shape"),
        ({"shape": [-3, -2]}, "with the bytes of its shape"),
        ({"shape": [3, 2, *[1] * 7]}, "with the bytes of its shape"),
        ({"shape": [3, True, 2]}, "with the bytes of its shape"),
        ({"shape": "32"}, "with the bytes of its shape"),
        ({"shape": [6]}, "got one that was damaged or edited"),
        ({"shape": [2, 3]}, "got one that was damaged or edited"),
        ({"dtype": "F16"}, "with the bytes of its shape"),
        ({"dtype": "BOOL"}, "with the bytes of its shape"),
        ({"dtype": ["F32"]}, "with the bytes of its shape"),
        ({"dtype": "F64", "shape": [3]}, "got one that was damaged or edited"),
    ],
)
def test_a_tensor_whose_entry_does_not_match_its_bytes_is_refused(tmp_path, network, change, message):
    header, body = unpack(network)
    header["dense_1/kernel"] |= {"data_offsets": [8, 32]} | change
    header["dense_1/bias"]["data_offsets"] = [0, 8]
    if change == {"data_offsets": [8, 32]}:
        header["dense_1/bias"]["data_offsets"] = [4, 12]
    assert message in refusal(tmp_path / "m", pack(header, body))


@pytest.mark.parametrize("entry", [None, [], "F32", {}, {"dtype": "F32"}])
def test_a_tensor_without_a_complete_entry_is_refused(tmp_path, network, entry):
    header, body = unpack(network)
    assert "with the bytes of its shape" in refusal(tmp_path / "m", pack(header | {"x": entry}, body))


def test_a_tensor_whose_name_is_there_twice_is_refused(tmp_path, network):
    header, body = unpack(network)
    text = json.dumps(header)
    twice = f'{text[:-1]}, "dense_1/kernel": {json.dumps(header["dense_1/kernel"])}}}'
    assert "duplicate key" in refusal(tmp_path / "m", pack(twice, body))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_with_nan_or_infinity_is_refused(tmp_path, network, value):
    body = np.frombuffer(network[-32:], np.float32).copy()
    body[-1] = value
    message = refusal(tmp_path / "m", network[:-32] + body.tobytes())
    assert "expected finite numbers in tensor 'dense_1/kernel', got NaN or infinity" in message


def test_any_flipped_bit_of_the_tensors_is_refused(tmp_path, network):
    for bit in range(8 * (len(network) - 32), 8 * len(network)):
        data = bytearray(network)
        data[bit // 8] ^= 1 << bit % 8
        assert "damaged or edited" in refusal(tmp_path / "m", data) or "NaN" in refusal(tmp_path / "m", data)


def test_a_changed_word_of_the_description_is_refused(tmp_path, models):
    data = (models / "frames").read_bytes()
    assert data.count(b"across") == 1
    assert "damaged or edited; copy or save it again" in refusal(tmp_path / "m", data.replace(b"across", b"acro55"))


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
    return buffer.getvalue()


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (zipped(), "a zip archive, as Keras (.keras), PyTorch (.pt) and NumPy (.npz) write them"),
        *((pickle.dumps({"weights": [1.0]}, protocol), "a pickle, as joblib") for protocol in range(6)),
        *((pickle.dumps([1.0], protocol), "a pickle, as joblib") for protocol in range(6)),
        *((pickle.dumps(DenseLayer(3), protocol), "a pickle, as joblib") for protocol in range(6)),
        *((pickle.dumps(np.ones(9), protocol), "a pickle, as joblib") for protocol in range(6)),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file, as older Keras (.h5)"),
        (gzip.compress(b"model", mtime=0), "a gzip archive"),
        (gzip.compress(np.random.default_rng(0).bytes(2**20), mtime=0), "a gzip archive"),
        *((zlib.compress(b"model" * 9, level), "zlib data, as joblib") for level in (0, 1, 3, 6, 9)),
        *((zlib.compress(np.random.default_rng(0).bytes(2**20), level), "zlib data") for level in (0, 6)),
        (bz2.compress(b"model"), "a bzip2 archive, as joblib"),
        (lzma.compress(b"model"), "an xz archive, as joblib"),
        (lzma.compress(b"model", lzma.FORMAT_ALONE), "an xz archive, as joblib"),
        (npy(), "a NumPy array (.npy)"),
    ],
)
def test_a_model_of_another_program_is_named_with_what_to_do(tmp_path, content, name):
    message = refusal(tmp_path / "model.keras", content)
    assert message.startswith(f"expected a framecnn model (.safetensors), got {name}")
    assert message.endswith("; make one: framecnn train")


def test_tensors_of_another_program_are_refused(tmp_path):
    save_file({"weight": np.zeros(3)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    assert "a .safetensors file of another program" in refusal(tmp_path / "other.safetensors")


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path):
    """Headers of 640 bytes begin with the same two bytes as pickles of protocol 2."""
    for width in range(0, 600, 8):
        path = tmp_path / "m"
        description = {"kind": "x" * width}
        container.write(path, description, {"a": np.zeros(1)})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert path.read_bytes()[:8] == (640).to_bytes(8, "little")
    assert container.read(path)[0] == description
    assert "without a complete header" in refusal(path, path.read_bytes()[:600])


def test_a_folder_or_a_device_is_refused(tmp_path):
    assert refusal(tmp_path) == "expected a model file, got a folder or a device; name the file"
    os.mkfifo(tmp_path / "fifo")
    assert "got a folder or a device" in refusal(tmp_path / "fifo")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing")


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "m"
    save(Sequential([InputLayer((100,)), DenseLayer(1000)]).build(), path)

    def shorten(header):
        os.truncate(path, path.stat().st_size - 4)
        return json.loads(header["__metadata__"]["framecnn"])

    monkeypatch.setattr(container, "_description", shorten)
    assert "got a file that became shorter" in refusal(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_not_written(tmp_path, value):
    with pytest.raises(ValueError, match="expected finite numbers, got NaN or infinity in a"):
        container.write(tmp_path / "m", {}, {"a": np.array([1, value])})
    with pytest.raises(ValueError, match="not JSON compliant"):
        container.write(tmp_path / "m", {"a": value}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_description_of_other_types_is_not_written(tmp_path):
    assert container.canonical({"a": np.float32(0.5), "b": np.arange(2)}) == '{"a": 0.5, "b": [0, 1]}'
    with pytest.raises(TypeError, match="expected a value of JSON's types, got set"):
        container.write(tmp_path / "m", {"a": {1}}, {})
    assert list(tmp_path.iterdir()) == []
