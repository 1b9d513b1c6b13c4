"""What a mutant is; those of the package are in mutants.py."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A change of an excerpt of a definition, written as by ``ast.unparse``, and the tests that should fail."""

    name: str
    file: str
    definition: str
    tests: str
    words: str
    before: str
    after: str
