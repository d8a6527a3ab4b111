PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGE := $(VENV)/.installed-package
# A file of tests a process, each of one thread: with all threads in each they would wait for one another.
# The variable keeps Lightning from turning faulthandler off with the signals that it restores.
PYTEST := OMP_NUM_THREADS=1 PYTHONFAULTHANDLER=1 $(BIN)/python -m pytest
# A process that dies ends the run: pytest-xdist 3.8 starts another one, and may then wait for ever.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --max-worker-restart 0

# An environment of another Python, or without pip, is made again.
HAS_PYTHON := $(BIN)/python -c 'import sys, pip; assert sys.version_info >= (3, 11)' 2>/dev/null

.PHONY: demo test test-all doctest lint format docs setup clean

setup: $(STAMP)

# The stamps are made last, so that an interrupted installation is taken up again.
$(STAMP): pyproject.toml
	$(HAS_PYTHON) || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(STAMP) $(PACKAGE)

# Without what only those need who change the package.
$(PACKAGE): pyproject.toml
	$(HAS_PYTHON) || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $(PACKAGE)

demo: $(PACKAGE)
	$(BIN)/python -m latentdiff.stages.demo --run.overwrite

test: setup
	$(PYTEST) $(PARALLEL)

test-all: setup
	$(PYTEST) $(PARALLEL) -m "slow or not slow"

# The examples in docstrings; make test runs them too.
doctest: setup
	$(PYTEST) tests/docs/test_doctests.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/pyright --pythonpath $(BIN)/python

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, in docs/_build/html. A broken link within it is a warning, and a warning is an error.
docs: setup
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet -b html docs docs/_build/html
	@echo docs/_build/html/index.html

clean:
	rm -rf $(VENV) docs/_build docs/reference/generated
