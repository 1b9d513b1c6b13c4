"""The faults of mutants.py can be planted; running them takes too long for every day."""

from pathlib import Path

import pytest
from mutants import MUTANTS, ROOT

README = (Path(__file__).parent / "README.md").read_text()


def test_there_are_faults_of_many_kinds():
    assert len(MUTANTS) >= 20
    assert len({fault.file for fault in MUTANTS}) >= 10


@pytest.mark.parametrize("fault", MUTANTS, ids=lambda fault: fault.what)
def test_a_fault_has_its_one_place_and_a_line_of_the_table(fault):
    text = (ROOT / "framecnn" / fault.file).read_text()
    assert text.count(fault.right) == 1
    assert fault.right != fault.wrong
    assert f"| {fault.what} | {fault.file} | `test_" in README
