"""Docstrings have the headings that numpydoc knows, or that of layers: Shapes."""

import re
from pathlib import Path

import framecnn

HEADINGS = {
    "Parameters",
    "Attributes",
    "Shapes",
    "Returns",
    "Yields",
    "Raises",
    "Warns",
    "Notes",
    "References",
    "Examples",
}


def test_every_heading_is_one_of_numpydoc():
    root = Path(framecnn.__file__).parent
    found = {
        (heading, path.name)
        for path in root.rglob("*.py")
        for heading in re.findall(r"^ *(\w+)\n *-{3,}$", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert len(found) > 100
    assert {(heading, name) for heading, name in found if heading not in HEADINGS} == set()
