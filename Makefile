# `make train` and `make test` do all their set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: setup train eval test lint types clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

setup: $(VENV)/.ready

train: setup
	$(BIN)/python train.py

eval: setup
	$(BIN)/python eval.py

# The slowest files first, so that no core waits for one at the end.
test: setup lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_readme.py tests/test_readme_tables.py tests --numprocesses auto --dist loadfile --no-loadscope-reorder \
		--cov --cov-report=term --cov-fail-under=85

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build results
