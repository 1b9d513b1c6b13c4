"""The mutants of mutants.py fit the code; killing them takes too long for every day."""

import ast
import re
from pathlib import Path

import pytest
from mutants import MUTANTS, ROOT, Mutant, mutated

TABLE = (Path(__file__).parent / "mutants.md").read_text()


def test_mutants_are_of_many_kinds():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 48
    assert len({mutant.file for mutant in MUTANTS}) >= 10


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_its_definition_and_has_a_row_in_the_table(mutant):
    source = (ROOT / "framecnn" / mutant.file).read_text()
    changed = ast.unparse(ast.parse(mutated(source, mutant)))
    assert changed != ast.unparse(ast.parse(source))
    row = next(line for line in TABLE.splitlines() if line.startswith(f"| {mutant.name} | {mutant.file} | `"))
    file, test = re.search(r"`(test_\w+\.py)::(\w+)", row).groups()
    assert file == mutant.tests
    assert f"def {test}(" in (ROOT / "tests" / file).read_text()


SOURCE = '''
class Scale:
    @staticmethod
    def of(x):
        """Return twice x."""
        return (x
                * 2)  # layout does not matter


def of(x):
    return x * 2
'''


def test_a_mutant_changes_one_definition_only():
    mutant = Mutant("", "", "Scale.of", "", "", "x * 2", "x * 3")
    assert mutated(SOURCE, mutant).count("x * 3") == 1
    assert "return x * 2" in mutated(SOURCE, mutant)
    ast.parse(mutated(SOURCE, mutant))


@pytest.mark.parametrize(("definition", "before"), [("Scale.by", "x * 2"), ("Scale.of", "x * 4"), ("Scale.of", "x")])
def test_a_mutant_without_one_place_is_refused(definition, before):
    with pytest.raises(ValueError, match="expected"):
        mutated(SOURCE, Mutant("", "", definition, "", "", before, ""))
