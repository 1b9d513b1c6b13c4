"""Mutants of passes through branches, programs and the memory that they use."""

from mutant import Mutant

BRANCHES = "test_fused_branches.py"

BRANCH_MUTANTS = [
    Mutant(
        "a residual is not added to the last pixels",
        "kernels/codegen/conv_block.py",
        "_convolving",
        BRANCHES,
        "other_branch_at_every_size and direct",
        "b.select(one, at, y_at)",
        "y_at",
    ),
    Mutant(
        "half blocks begin a filter early",
        "kernels/matrix.py",
        "multiply_range",
        BRANCHES,
        "1x1 and filters",
        "n_valid <= plan.narrow",
        "n_valid <= plan.narrow + 1",
    ),
    Mutant(
        "a gate belongs to the next frame",
        "kernels/merge.py",
        "merge",
        BRANCHES,
        "merged_at_every_depth and multiply",
        "len(rows) // max(len(others), 1)",
        "max(len(rows) // max(len(others), 1) - 1, 1)",
    ),
    Mutant(
        "hard_swish ends a step early",
        "kernels/codegen/vectors.py",
        "Emitter._hard",
        BRANCHES,
        "special_values and hard_swish",
        "self.constant(-3)",
        "self.constant(-2.999)",
    ),
    Mutant(
        "threads do not wait for each other",
        "kernels/program.py",
        "run_calls",
        "test_programs.py",
        "from_the_first",
        "items, give_way)",
        "0, give_way)",
    ),
    Mutant(
        "memory that an array lies in is used again",
        "kernels/buffers.py",
        "_Buffers.free",
        "test_programs.py",
        "no_array_lies",
        "if buffer.is_free",
        "if buffer.size",
    ),
]
