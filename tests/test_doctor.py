"""``framecnn doctor``."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from framecnn.cli import doctor, environment, main
from framecnn.kernels import jit

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.fixture
def declared(monkeypatch):
    """Return the extras of pyproject.toml, which the metadata of framecnn list from now on."""
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    lines = ["numpy>=2.0", *(_requirement(line, extra) for extra, lines in extras.items() for line in lines)]
    monkeypatch.setattr(metadata, "requires", lambda package: lines)
    return extras


def _requirement(line, extra):
    name, _, marker = line.partition(";")
    return f'{name}; {marker} and extra == "{extra}"' if marker else f'{name}; extra == "{extra}"'


def run(capsys):
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "")
    return out


def without(monkeypatch, *missing):
    """Hide packages from importlib.metadata."""
    version = metadata.version

    def seen(package):
        if package in missing:
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", seen)


def test_versions_machine_and_cache_are_printed(capsys, declared):
    lines = dict(line.split(None, 1) for line in run(capsys).splitlines() if line)
    assert lines["numpy"] == metadata.version("numpy")
    assert lines["pillow"] == metadata.version("pillow")
    assert lines["CPU"].endswith(f"({jit.current_isa()} kernels)")
    assert "FRAMECNN_NUM_THREADS" in lines["threads"]
    assert lines["video"].split() == ["av", metadata.version("av"), "nothing"]


def test_every_extra_for_users_is_listed(capsys, declared):
    out = run(capsys)
    for extra, lines in declared.items():
        if extra in ("dev", "bench") or all(line.startswith("framecnn") for line in lines):
            continue
        assert any(line.startswith(f"{extra} ") for line in out.splitlines())


def test_what_is_missing_comes_with_the_command_that_installs_it(capsys, monkeypatch, declared):
    without(monkeypatch, "av", "numba", "framecnn")
    lines = {line.split()[0]: line for line in run(capsys).splitlines() if line}
    assert lines["video"].split(None, 2)[1:] == ["av", "pip install 'framecnn[video]'"]
    assert lines["numba"].endswith("missing; run: pip install numba")
    assert lines["framecnn"].endswith("not installed; run: pip install .")
    assert "pip install" not in lines["report"]


@pytest.mark.parametrize(("system", "package"), [("linux", "tensorflow-cpu"), ("darwin", "tensorflow")])
def test_only_packages_of_an_operating_system_are_listed(declared, system, package):
    found = doctor.extras(["keras"], metadata.requires("framecnn"), {"sys_platform": system})
    assert found == {"keras": ["keras", package]}


def test_the_packages_of_an_extra_include_those_of_the_extras_that_it_names(declared):
    found = doctor.extras(["demo"], metadata.requires("framecnn"))
    assert found == {"demo": ["jinja2", "markupsafe", "av", "scikit-video"]}


def test_a_framecnn_that_is_not_installed_has_no_extras(capsys, monkeypatch):
    def requires(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "requires", requires)
    assert "to install" not in run(capsys)


def test_the_cache_is_printed_with_its_number_of_kernels(capsys, monkeypatch, tmp_path):
    (tmp_path / "conv_1").mkdir()
    (tmp_path / "conv_1/forward.1.nbc").write_bytes(b"")
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path)
    assert f"{tmp_path} (writable; 1 kernels are compiled," in run(capsys)


def test_a_missing_cache_is_reported_with_the_remedy(capsys, monkeypatch):
    monkeypatch.setattr(jit, "cache_directory", lambda: None)
    assert "no private and writable folder: kernels are compiled at every start; set XDG_CACHE_HOME" in run(capsys)


def test_the_processor_has_a_name_on_every_system(monkeypatch, tmp_path):
    information = tmp_path / "cpuinfo"
    monkeypatch.setattr(environment.platform, "processor", lambda: "")
    monkeypatch.setattr(environment.platform, "machine", lambda: "arm64")
    assert environment.cpu_name(information) == "arm64"
    information.write_bytes(b"processor\t: 0\nmodel name\t: Fast \xff 9000\n")
    assert environment.cpu_name(information) == "Fast � 9000"
