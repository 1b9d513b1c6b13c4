"""Code generation: intrinsics that write LLVM vector instructions into the compiled kernels."""

__all__: list[str] = []
