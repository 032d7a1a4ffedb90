PYTHON ?= python3
VENV ?= .venv
BIN ?= $(VENV)/bin
JOBS ?= 2

.PHONY: demo test lint docs install lower-bounds core wheel clean

# Train, evaluate and predict on this machine, without a download beside the packages.
demo: $(VENV)/.installed
	$(BIN)/python tools/demo.py

# What a change must pass. One thread per process: two processes share two cores without waiting.
test: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages against the code, and the examples in docstrings and pages.
docs:
	$(BIN)/python -m pytest tests/docs visionmtl README.md docs --doctest-glob="*.md"

# Checks in environments of their own, made anew with uv; PYTHON is then a version too.
lower-bounds core wheel:
	PYTHON=$(PYTHON) JOBS=$(JOBS) .ci/$(subst -,_,$@).sh

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "visionmtl needs Python 3.11 or newer; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[lite]"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) .venv-* build dist demo_output
