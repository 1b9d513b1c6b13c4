"""Forged model files, complete and with a digest that fits: loading gives a consistent model or one FormatError."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mutations
import numpy as np
import pytest
from refusals import little_memory, refusal, write_models

from framecnn import DenseLayer, FormatError, load
from framecnn.estimators.state import pack_names
from framecnn.storage import container


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


def forged(tmp_path, source, **changes):
    """Return a file with other values in description or tensors, and a digest that fits."""
    description, tensors = container.read(source)
    for key, value in changes.items():
        *parents, last = key.split("__")
        target = tensors if parents[:1] == ["tensors"] else description
        for name in parents[1:] if target is tensors else parents:
            target = target[int(name) if isinstance(target, list) else name]
        target[last.replace("_of_", "/")] = value
    container.write(tmp_path / "forged", description, tensors)
    return tmp_path / "forged"


def layers(*others):
    return [{"layer": "InputLayer", "shape": [8, 8, 3], "scale": 1.0}, *others]


def conv(**settings):
    plain = {"strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1], "groups": 1, "use_bias": False}
    return {"layer": "ConvLayer", "filters": 1, "kernel_size": [1, 1], "kernel_initializer": "zeros"} | plain | settings


def pooling(**settings):
    plain = {"strides": [2, 2], "padding": "valid", "dilation_rate": [1, 1], "mode": "max", "pool_size": [2, 2]}
    return {"layer": "PoolingLayer"} | plain | settings


BANK = {"layer": "FilterBankLayer", "filters": 10**9, "kernel_size": [3, 3], "strides": [1, 1], "contrast": 1.0}


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (
            layers(conv(kernel_size=[2, 2], dilation_rate=[2**20] * 2, padding=[[2**19, 2**19]] * 2)),
            "expected an input with its border of at most 1,073,741,824 values, got (1048584, 1048584, 3)",
        ),
        (layers(conv(filters=10**9)), "expected at most 268,435,456 values per frame, got (8, 8, 1000000000)"),
        (layers(BANK | {"thresholds": [0.5]}), "expected at most 268,435,456 values per frame"),
        (layers({"layer": "FlatteningLayer"}, {**DenseLayer(10**9).config}), "values per frame, got (1000000000,)"),
        (layers(conv(padding=[[10**8, 0], [0, 10**8]])), "ConvLayer: expected an input with its border of at most"),
        (layers(pooling(padding=[[10**9, 0], [0, 0]])), "use less of them"),
        (layers(pooling(mode="adaptive_max", pool_size=[10**9, 10**9], strides=[10**9, 10**9])), "values per frame"),
        (layers(pooling(pool_size=[10**8, 1], padding=[[10**8 - 1, 10**8 - 1], [0, 0]])), "values per frame"),
        ([{"layer": "InputLayer", "shape": [10**12, 1, 1], "scale": 1.0}, pooling()], "up to 2,147,"),
        (
            [{"layer": "InputLayer", "shape": [2**62, 4], "scale": 1.0}, {"layer": "FlatteningLayer"}],
            "up to 2,147",
        ),
        (layers(conv(filters=2**70)), "ConvLayer: expected filters of at most 2,147,483,647"),
        (layers(conv(strides=[2**70, 2**70])), "expected strides as"),
        (layers({"layer": "Layer"}), "layer: expected one of ActivationLayer, BatchNormLayer"),
        (layers({"layer": "os.system", "command": "ls"}), "got 'os.system'"),
        (layers({"layer": ["ConvLayer"]}), "got ['ConvLayer']"),
        (layers({}), "got None"),
        (layers("ConvLayer"), "expected one of ActivationLayer"),
        (layers(conv(further=1)), "unexpected keyword argument 'further'"),
        (layers(conv(filters="many")), "got 'many'"),
        (layers({"layer": "ConvLayer", "filters": 1, "kernel_size": 1}), "load_state_dict"),
        (layers({"layer": "FlatteningLayer"}, {"layer": "ActivationLayer", "function": "relu"}), "all settings"),
        (layers({"layer": "ActivationLayer", "function": "relu", "negative_slope": 1e39}), "settings in the range of"),
        ([], "expected an InputLayer first, got no layer"),
        ([{"layer": "FlatteningLayer"}], "expected an InputLayer first, got FlatteningLayer"),
        ("InputLayer", "expected one of ActivationLayer"),
        (3, "cannot be built"),
    ],
)
def test_a_network_of_impossible_layers_is_refused(tmp_path, models, chain, message):
    path = tmp_path / "m"
    description = container.read(models / "network")[0] | {"layers": chain}
    container.write(path, description, {})
    with little_memory():
        assert message in refusal(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Estimator"}, "expected a model of Sequential or FrameClassifier or "),
        ({"kind": ["Sequential"]}, "cannot be built (TypeError"),
        ({"dtype": "float16"}, "cannot be built (KeyError: 'float16')"),
        ({"dtype": "float64"}, "expected tensors of float64"),
        ({"further": 1}, "expected a description of all settings and nothing else"),
        ({"tensors__dense_1_of_kernel": np.zeros((2, 3), np.float32)}, "expected dense_1/kernel as (3, 2), got (2, 3)"),
        ({"tensors__dense_2_of_kernel": np.zeros((2, 3), np.float32)}, "expected dense_2/kernel as absent"),
        ({"tensors__dense_1_of_bias": np.zeros(2)}, "expected tensors of float32"),
    ],
)
def test_a_network_whose_parts_do_not_fit_together_is_refused(tmp_path, models, change, message):
    assert message in refusal(forged(tmp_path, models / "network", **change))


FLOATS = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters__grid": [3, 4]}, "expected the same pooling grid in all parts"),
        ({"parameters__random_state": -1}, "expected random_state as None or an integer"),
        ({"parameters__random_state": "0"}, "expected random_state as None or an integer"),
        ({"parameters__frame_shape": [16, 16, 3]}, "expected the same frame shape in all parts"),
        ({"parameters__filters": "evil"}, "expected filters as one of"),
        ({"parameters__n_filters": -1}, "expected n_filters as None or a positive integer"),
        ({"parameters__depth": 3}, "expected depth 1 or 2"),
        ({"parameters__alpha": -1}, "expected alpha 'auto' or a positive number"),
        ({"parameters__clusters_per_class": 0}, "expected clusters_per_class as a positive integer"),
        ({"parameters__projection": "other"}, "expected projection 'discriminant' or None"),
        ({"parameters__projection": None}, "expected the same projection in all parts"),
        (
            {"head__parameters__projection": None},
            "expected no tensors beside those of clusters, projection and outliers",
        ),
        ({"parameters__further": 1}, "unexpected keyword argument 'further'"),
        ({"parameters": {}}, "expected a description of all settings"),
        ({"parameters": []}, "cannot be built (AttributeError"),
        ({"head__classes__values": ["across", "blobs"]}, "expected head/cluster_centers of shape (3, 2)"),
        (
            {"head__classes__values": ["across", "across", "down"]},
            "expected at least two labels, sorted",
        ),
        ({"head__classes__values": ["down", "blobs", "across"]}, "sorted, without duplicates"),
        ({"head__classes__values": ["across"]}, "expected at least two labels"),
        ({"head__classes__values": ["across", "blobs", 3]}, "expected labels of dtype <U6"),
        ({"head__classes__values": ["across", "blobs", "down and on"]}, "expected labels of dtype <U6"),
        ({"head__classes__values": [["across"], ["blobs"], ["down"]]}, "expected labels of dtype <U6"),
        ({"head__classes__values": ["a", "b", "c\0"]}, "expected labels of dtype <U6"),
        ({"head__classes__values": "abc"}, "expected labels of dtype <U6"),
        ({"head__classes__values": {"a": 1}}, "expected labels of dtype <U6"),
        ({"head__classes__dtype": "<U9999999"}, "expected labels of at most 67108864 bytes"),
        ({"head__classes__dtype": "<U1000000000"}, "expected labels that are numbers, bools or strings"),
        ({"head__classes__dtype": "|V8"}, "expected labels that are numbers, bools or strings"),
        ({"head__classes__dtype": "<M8[s]"}, "expected labels that are numbers, bools or strings"),
        ({"head__classes__dtype": "i4,i4"}, "expected labels that are numbers, bools or strings"),
        ({"head__classes__dtype": "<i8"}, "cannot be built (ValueError: invalid literal"),
        ({"head__classes__dtype": "<f1"}, "cannot be built (TypeError: data type '<f1' not understood"),
        ({"head__classes__dtype": None}, "cannot be built (TypeError"),
        ({"features__frames": None}, "expected backbones for frames, and none for feature vectors"),
        ({"features__frames__shape": [16, 20, 1]}, "expected the same frame shape in all parts"),
        ({"features__frames__resize": "cropped"}, "expected resize 'stretched' and values 'integer' or 'float'"),
        ({"features__frames__values": "complex"}, "expected resize 'stretched' and values 'integer' or 'float'"),
        ({"features__parameters__grid": [4, 4]}, "expected grid as (rows, columns) that divide 6 and 4"),
        ({"features__averages_flips": 1}, "expected averages_flips as true or false"),
        ({"features__n_features_in": 961}, "expected n_features_in as the number of values of a frame"),
        ({"features__backbones": []}, "expected no tensors beside those of backbones"),
        ({"features__backbones__0__layers__2__pool_size": [3, 4]}, "expected no strides, padding or dilation_rate"),
        ({"head__temperature": 0}, "expected a positive temperature"),
        ({"head__temperature": -1.5}, "expected a positive temperature"),
        ({"head__temperature": 5e-324}, "expected a positive temperature"),
        ({"head__temperature": "1.5"}, "expected a number"),
        ({"head__temperature": True}, "expected a number"),
        ({"head__alpha": None}, "expected a number"),
        ({"head__alpha": -0.5}, "expected a positive alpha"),
        ({"accuracies": [[["1", 1], 0.5]]}, "expected a pooling grid of integers"),
        ({"accuracies": [[[1, 1], "0.5"]]}, "expected a number"),
        ({"accuracies": [[[1, 1], 0.5], [[1, 1], 0.5]]}, "expected a description of all settings"),
        ({"accuracies": [1]}, "cannot be built (TypeError"),
        ({"features__further": 1}, "expected a description of all settings"),
        ({"tensors__head_of_cluster_labels": np.array([0, 1, 3])}, "expected labels and prototypes in range"),
        ({"tensors__head_of_cluster_labels": np.array([0, 1, -1])}, "expected labels and prototypes in range"),
        ({"tensors__head_of_cluster_labels": FLOATS}, "expected int64 labels and prototypes"),
        ({"tensors__head_of_prototypes": np.array([0, 1, -1])}, "expected labels and prototypes in range"),
        ({"tensors__head_of_prototypes": FLOATS}, "expected int64 labels and prototypes"),
        ({"tensors__head_of_offset": np.ones(3)}, "expected arrays of the same float dtype"),
        ({"tensors__head_of_offset": np.ones(2, np.float32)}, "expected head/offset of shape (3,)"),
        ({"tensors__head_of_weights": np.ones((3, 3), np.float32)}, "expected head/weights of shape (32, 3)"),
        (
            {"tensors__head_of_cluster_centers": np.ones((3, 2), np.float32)},
            "expected head/cluster_centers of shape (3, 3)",
        ),
        ({"tensors__features_of_scale": np.zeros(32, np.float32)}, "expected positive scales"),
        ({"tensors__features_of_scale": np.ones((32, 1), np.float32)}, "expected one mean and one scale per feature"),
        ({"tensors__features_of_mean": np.ones(31, np.float32)}, "expected one mean and one scale per feature"),
        ({"features__backbones__0__layers__1__contrast": 1e-80}, "expected settings in the range of float32"),
        ({"tensors__further": FLOATS}, "expected no tensors beside those of features and head"),
        ({"tensors__features_of_mean": np.ones(32)}, "expected mean and scale of the same float dtype"),
        (
            {"tensors__features_of_mean": np.ones(32), "tensors__features_of_scale": np.ones(32)},
            "expected features and head of the same float dtype",
        ),
        (
            {
                "tensors__head_of_mean": np.ones(31, np.float32),
                "tensors__head_of_weights": np.ones((31, 3), np.float32),
            },
            "expected outliers/mean of shape (31,)",
        ),
        ({"head__outliers__threshold": -1}, "expected an outlier threshold of at least 0"),
        ({"head__outliers__threshold": None}, "expected a number"),
        (
            {"tensors__head_of_outliers_of_rows": np.arange(24)[::-1].copy()},
            "expected outliers/rows in ascending order",
        ),
        ({"tensors__head_of_outliers_of_rows": np.arange(24.0)}, "expected outliers/rows as int64"),
        ({"tensors__head_of_outliers_of_rows": np.arange(23)}, "expected outliers/samples of shape (23, "),
        ({"tensors__head_of_outliers_of_mean": np.ones(31, np.float32)}, "expected outliers/components of shape (31, "),
        ({"tensors__head_of_outliers_of_mean": np.ones(32)}, "expected outliers of the same float dtype"),
        (
            {"tensors__head_of_outliers_of_blanks": np.ones((2, 3), np.float32)},
            "expected outliers/blanks of shape (2, ",
        ),
        ({"tensors__head_of_outliers_of_components": FLOATS}, "expected outliers/mean and components of 1 and 2"),
        ({"tensors__head_of_outliers_of_further": FLOATS}, "expected outliers of nine arrays or fewer"),
        (
            {"tensors__head_of_outliers_of_network_scale": np.ones(2, np.float32)},
            "expected outliers/network_scale of shape (0,)",
        ),
        (
            {"tensors__head_of_outliers_of_network_mean": np.ones((2, 2), np.float32)},
            "expected outliers/mean and components of 1 and 2",
        ),
        ({"tensors__training_names": np.array([2**56 + 1])}, "expected names that end with a zero byte"),
        ({"tensors__training_names": FLOATS}, "expected names as an int64 array of one dimension"),
        ({"tensors__training_names": np.array([0])}, "expected names that are not empty"),
        ({"tensors__training_names": pack_names(np.array(["a.png"]))}, "expected a name for each training frame"),
        ({"tensors__training_names": pack_names(np.array(["a", 2**24 * "b"]))}, "expected names of at most 67108864"),
        ({"tensors__training_names": np.zeros(2**17 + 1, np.int64)}, "expected at most 1,048,576 names"),
    ],
    ids=str,
)
def test_a_classifier_whose_parts_do_not_fit_together_is_refused(tmp_path, models, change, message):
    assert message in refusal(forged(tmp_path, models / "frames", **change))


def test_a_head_for_other_features_is_refused(tmp_path, models):
    _, tensors = container.read(models / "frames")
    names = "head/mean", "head/weights", "head/outliers/mean", "head/outliers/components"
    fewer = {f"tensors__{name.replace('/', '_of_')}": np.ascontiguousarray(tensors[name][:-1]) for name in names}
    message = "expected a head for as many features as are computed"
    assert message in refusal(forged(tmp_path, models / "frames", **fewer))


def test_a_temperature_that_overflows_is_refused_where_it_does(tmp_path, models):
    path = forged(tmp_path, models / "frames", head__temperature=3e-308)
    head = load(path).head_
    with pytest.raises(FormatError, match="KMeansClassifier: expected finite probabilities for finite input, got NaN"):
        head.probabilities(np.full((1, 3), 10.0))


def test_a_scale_that_makes_other_cells_is_refused(tmp_path, models):
    wide = {
        "features__backbones__0__layers__2__pool_size": [12, 8],
        "features__backbones__0__layers__2__strides": [12, 8],
    }
    assert "expected 6 x 4 cells at every scale" in refusal(forged(tmp_path, models / "frames", **wide))


@pytest.mark.parametrize("missing", ["parameters", "features", "head", "accuracies", "versions"])
def test_a_description_without_one_of_its_parts_is_refused(tmp_path, models, missing):
    description, tensors = container.read(models / "frames")
    del description[missing]
    container.write(tmp_path / "m", description, tensors)
    assert f"cannot be built (KeyError: '{missing}')" in refusal(tmp_path / "m")


@pytest.mark.parametrize("first", [0, 5_000])
def test_a_mutated_file_gives_a_model_or_a_format_error_and_neither_runs_code_nor_writes(models, first):
    """10,000 files, damaged or forged with a digest that fits, under an audit hook and a memory limit."""
    script = Path(mutations.__file__)
    paths = sorted(models.iterdir())
    run = subprocess.run(
        [sys.executable, script, str(first), "5000", *paths], capture_output=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr.decode()
    counts = json.loads(run.stdout)
    assert (counts["others"], counts["broken"]) == ([], [])
    assert counts["loaded"] + counts["refused"] == 5000
    assert min(counts["loaded"], counts["refused"]) > 200


def test_the_audit_hook_notices_what_it_forbids(tmp_path):
    acts = [
        "exec('1')",
        "open('x', 'w')",
        "os.mkdir('folder')",
        "subprocess.Popen(['true']).wait()",
        "socket.socket()",
        "pickle.loads(b'cbuiltins\\nlen\\n.')",
        "import wave",
    ]
    code = "\n    ".join(["import os, pickle, socket, subprocess, mutations", "def load(path):", *acts])
    code = code.replace("\n    def", "\ndef") + "\n    raise mutations.FormatError('mutant.safetensors: no model')\n"
    code += "mutations.load, mutations.mutant = load, lambda path, draw: path\nmutations.main([0], [])"
    environment = os.environ | {"PYTHONPATH": str(Path(mutations.__file__).parent)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr.decode()
    noticed = [line.split()[0] for line in json.loads(run.stdout)["broken"]]
    for event in ("compile", "exec", "open", "os.mkdir", "subprocess.Popen", "socket.__new__", "pickle.find_class"):
        assert event in noticed
    assert "import" in noticed
