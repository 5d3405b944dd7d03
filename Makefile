# The commands of a working day. Everything is installed into .venv; nothing outside this folder is changed.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint realdata docs clean

demo: .venv/run.stamp  ## install the running side and tag the shipped sample
	$(BIN)/mmgcs demo

test: .venv/dev.stamp  ## install everything and run the tests
	$(BIN)/python -m pytest -m "not realdata" -rs

lint: .venv/dev.stamp  ## style, types, the direction of imports, dependencies and code that nothing uses
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/vulture

realdata: .venv/dev.stamp  ## the tests that use ../shared/data, where it exists
	$(BIN)/python -m pytest -m realdata -rs

docs: .venv/docs.stamp  ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

.venv/python.stamp:
	$(PYTHON) -m venv .venv
	touch $@

.venv/run.stamp: .venv/python.stamp pyproject.toml
	$(PIP) -e .
	touch $@

# The constraints keep torch to a build without CUDA where the index has one; users with a GPU install without them.
.venv/dev.stamp: .venv/python.stamp pyproject.toml constraints.txt
	$(PIP) --upgrade "pip>=25.1"
	$(PIP) --constraint constraints.txt -e ".[train,weights]" --group dev
	touch $@ .venv/run.stamp

.venv/docs.stamp: .venv/dev.stamp
	$(PIP) --group docs
	touch $@

clean:  ## remove everything that these commands made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build site
