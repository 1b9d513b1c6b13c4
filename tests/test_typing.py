"""The types of the package are visible to its users, and duplicated signatures agree."""

import ast
import inspect
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import framecnn
from framecnn import Sequential
from framecnn.training import fit

ROOT = Path(__file__).parents[1]


def test_the_package_says_that_it_is_typed():
    assert files("framecnn").joinpath("py.typed").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["framecnn"]


def test_mypy_knows_every_public_name():
    tree = ast.parse(Path(framecnn.__file__).read_text(encoding="utf-8"))
    known = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = {(node.module, node.names[0].name) for node in known[0].body}
    names = {(f"framecnn.{module}", name) for name, module in framecnn._HOMES.items()}
    assert imports == names | {("framecnn", module) for module in framecnn._MODULES}


def test_a_model_is_fitted_with_the_arguments_of_the_training_loop():
    method, function = (list(inspect.signature(each).parameters.values()) for each in (Sequential.fit, fit))
    assert method[1:] == function[1:]
    assert inspect.signature(Sequential.fit).return_annotation == inspect.signature(fit).return_annotation


TYPED = """
import framecnn
from framecnn import ConvLayer, FrameClassifier, InputLayer, KMeansClassifier, PoolingLayer, Sequential

classifier: FrameClassifier = FrameClassifier(n_filters=8).fit([[0]], [1], groups=[2])
classifier.save("model.safetensors")
loaded: FrameClassifier = FrameClassifier.load("model.safetensors")
head: KMeansClassifier = framecnn.estimators.KMeansClassifier.load("head.safetensors")
shares = loaded.predict_proba_files(["a.jpg"]).sum()
result = framecnn.evaluation.evaluate
model = Sequential([InputLayer((8, 8, 3)), ConvLayer(4, kernel_size=3, strides=(1, 2)), PoolingLayer(2)])
rows, columns = ConvLayer(4, kernel_size=3).kernel_size
area: int = rows * columns
history = model.fit([], [], epochs=3, progress=None)
losses: list[float] = list(history.loss)
"""
WRONG = {
    'ConvLayer(4, kernel_size="3")': "arg-type",
    "ConvLayer(4, kernel_size=3).kernel_size + 1.5": "operator",
    "PoolingLayer(2, size=3)": "call-arg",
    "model.fit([], [], epoch=3)": "call-arg",
    "model.fit([], [], epochs=None)": "arg-type",
    "classifier.fit([[0]], [1], group=[2])": "call-arg",
    "classifier.predict_files(3)": "arg-type",
    "framecnn.FrameClasifier()": "attr-defined",
    "framecnn.networks.Sequental": "attr-defined",
}


def test_mypy_checks_what_users_write(tmp_path):
    pytest.importorskip("mypy")
    lines = TYPED.strip().splitlines() + list(WRONG)
    (tmp_path / "user.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--follow-imports=silent",
            "--config-file",
            "",
            "--ignore-missing-imports",
            "user.py",
        ],
        cwd=tmp_path,
        env={"MYPYPATH": str(Path(framecnn.__file__).parents[1]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if line.startswith("user.py")]
    numbers = [int(line.split(":")[1]) for line in errors if ": error: " in line]
    kinds = [line.rsplit("[", 1)[1].removesuffix("]") for line in errors if ": error: " in line]
    first = len(lines) - len(WRONG) + 1
    assert list(zip(numbers, kinds, strict=True)) == list(enumerate(WRONG.values(), start=first)), done.stdout
