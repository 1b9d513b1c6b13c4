"""Mutants of the depthwise convolution; mutants.py kills them."""

from mutant import Mutant

TESTS = "test_depthwise.py"

DEPTHWISE_MUTANTS = [
    Mutant(
        "a strip is expanded without the last row of its last window", "kernels/expansion.py",
        "expanded_depthwise_forward",
        TESTS, "never_written and float32",
        "(axis.taps - 1) * axis.dilation + 1",
        "(axis.taps - 1) * axis.dilation",
    ),
    Mutant(
        "a tap at the first row of the frame is left out", "kernels/depthwise.py", "taps_inside",
        TESTS, "every_side and heights-1-2",
        "axis.dilation - 1 - position",
        "axis.dilation - position",
    ),
    Mutant(
        "a tap at the last row of the frame is left out", "kernels/depthwise.py", "taps_inside",
        TESTS, "every_side and heights-1-1",
        "(length - 1 - position) // axis.dilation + 1",
        "(length - 2 - position) // axis.dilation + 1",
    ),
    Mutant(
        "taps of the input gradient in the order of the kernel", "kernels/depthwise.py", "_gradients_of",
        TESTS, "every_side and widths-1-1",
        "in reversed(range(size)) if",
        "in range(size) if",
    ),
    Mutant(
        "every phase of the input gradient begins at the first tap", "kernels/depthwise.py", "depthwise_row",
        TESTS, "every_side and widths-2-1",
        "weights_at + axis.start * channels",
        "weights_at",
    ),
    Mutant(
        "filters of a channel are not adjacent", "kernels/depthwise.py", "copy_rows",
        TESTS, "number_of_channels and float32-2",
        "k * plan.multiplier + r]",
        "r * channels + k]",
    ),
    Mutant(
        "a row that only the last window needs is not copied", "kernels/depthwise.py", "copy_rows",
        TESTS, "number_of_channels and float32-2",
        "(end - 1) * axis.dilation + 1)",
        "(end - 1) * axis.dilation)",
    ),
    Mutant(
        "windows of the last block count twice", "kernels/codegen/depthwise_line.py", "accumulate_line",
        TESTS, "every_side and widths-1-1",
        "b.icmp_signed('>=', window, new)",
        "b.icmp_signed('>=', window, j)",
    ),
    Mutant(
        "a block at the right border reads the next row", "kernels/codegen/depthwise_line.py", "_walk",
        TESTS, "number_of_channels and float32-1",
        "b.icmp_signed('<=', end, taps.width)",
        "b.icmp_signed('<=', taps.first, taps.width)",
    ),
    Mutant(
        "rows of taps above the frame count for the first row", "kernels/depthwise_backward.py", "depthwise_wrt_kernel",
        TESTS, "every_side and heights-1-1",
        "to + u * plan.kernel_w * line",
        "to",
    ),
    Mutant(
        "the last vector of gradients is not shifted", "kernels/depthwise_backward.py", "depthwise_gradients",
        TESTS, "number_of_channels and float32-1",
        "total[:, total.shape[1] - (filters - whole):]",
        "total[:, whole:filters]",
    ),
    Mutant(
        "a depthwise map is pooled in registers", "kernels/conv2d.py", "conv2d",
        TESTS, "one_pass",
        "is_exchangeable and packed.algorithm != DEPTHWISE",
        "is_exchangeable",
    ),
]  # fmt: skip
