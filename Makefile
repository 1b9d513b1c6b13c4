# Each target is one plain command; the README shows what stands behind them.
PYTHON ?= python3
BIN = .venv/bin
NUMERICAL = $(addprefix tests/test_,$(addsuffix .py,every_size kernels layers gradients batch_norm depthwise grouped \
	fused_branches programs features classifier onnx_export onnx_import))

.PHONY: demo test lint bench clean

demo: .venv/demo
	$(BIN)/framecnn demo

test: .venv/dev
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

# What computes, under another instruction set: make test-avx512, test-avx2, test-neon, test-plain
test-%: .venv/dev
	FRAMECNN_ISA=$* $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal $(NUMERICAL)

lint: .venv/dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: .venv/bench
	$(BIN)/python -m benchmarks.run

.venv/%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
