# `make train` and `make test` do all their set-up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

# The slowest files first, so that no core waits for one at the end.
TESTS = tests/test_readme.py tests/test_readme_tables.py tests/training/test_signals.py tests \
  --numprocesses auto --dist loadfile --no-loadscope-reorder

.PHONY: setup train eval test quick coverage lint types clean

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

# One thread a test process, since there is one a core; the environment may say otherwise, and then
# threads that wait must not keep a core from those that work.
test: export OMP_NUM_THREADS ?= 1
test: export OMP_WAIT_POLICY ?= PASSIVE

test: setup lint types
	$(BIN)/python -m pytest $(TESTS) -m "not slow"

# The inner loop: rules, exactness on a few families, formats; no training and no child processes.
QUICK = tests/methods tests/scorers tests/objectives tests/gates tests/targets tests/pruning \
  tests/eviction/policies tests/check tests/checkpoint/test_scorer.py \
  tests/checkpoint/test_tensors.py tests/evaluation/metrics tests/evaluation/test_metrics.py \
  tests/evaluation/test_summary.py tests/test_selectors.py tests/test_style.py \
  tests/test_imports.py

quick: export OMP_NUM_THREADS ?= 1
quick: export OMP_WAIT_POLICY ?= PASSIVE
quick: setup
	$(BIN)/python -m pytest $(QUICK) --numprocesses auto --dist loadfile

# All tests, the slow variants too, and what of the code they run; child processes are watched.
coverage: export OMP_NUM_THREADS ?= 1
coverage: export OMP_WAIT_POLICY ?= PASSIVE
coverage: setup
	$(BIN)/python -m pytest $(TESTS) --cov --cov-report=term --cov-fail-under=90

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: setup
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build results
