"""The examples in the docstrings of every module run and print what they say."""

import doctest
import importlib
import importlib.util
import pkgutil

import pytest

import framecnn

MODULES = ["framecnn", *(module.name for module in pkgutil.walk_packages(framecnn.__path__, "framecnn."))]
EXTRAS = {
    "framecnn.data.demo_clips": "skvideo",
    "framecnn.data.movie": "av",
    "framecnn.data.cutting": "av",
    "framecnn.report.page": "jinja2",
    "framecnn.testing": "hypothesis",
    "framecnn.interop.keras": "keras",
    "framecnn.interop.onnx_backend": "onnx",
    "framecnn.interop.onnx_export": "onnx",
    "framecnn.interop.onnx_import": "onnx",
}


@pytest.mark.parametrize("name", [name for name in MODULES if name != "framecnn.__main__"])
def test_the_examples_of_a_module_print_what_they_say(name, tmp_path, monkeypatch):
    extra = next((EXTRAS[prefix] for prefix in EXTRAS if name.startswith(prefix)), None)
    if extra and importlib.util.find_spec(extra) is None:
        pytest.skip(f"needs the package {extra}")
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_most_modules_show_examples():
    finder = doctest.DocTestFinder()
    showing = [name for name in MODULES if any(test.examples for test in finder.find(importlib.import_module(name)))]
    assert len(showing) > len(MODULES) / 2
