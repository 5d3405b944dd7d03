# The everyday commands. Everything is installed into .venv; nothing outside this folder is changed.
PYTHON ?= python3
BIN := .venv/bin
# Test files that run at the same time.
WORKERS ?= 2
# Folders or files of slow tests; all if empty.
SLOW ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test slow lint realdata reference docs lowest lock audit sbom coverage mutation clean

demo: .venv/run.stamp  ## install the running side and tag the shipped sample
	$(BIN)/mmgcs demo

test: .venv/dev.stamp  ## install everything and run the quick tests
	$(BIN)/python -m pytest -m "not realdata and not slow" -rs --durations=10 -n $(WORKERS) --dist loadfile

slow: .venv/dev.stamp  ## the slow tests: crashes, faults, fuzzing, long trainings, the documentation's commands
	$(BIN)/python -m pytest -m "slow and not realdata" -rs --durations=10 -n $(WORKERS) --dist loadfile $(SLOW)

lint: .venv/dev.stamp  ## style, types, import directions, dependencies, unused code, spelling and plain words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src
	$(BIN)/vulture
	$(BIN)/codespell -D - -D tools/plain_words.txt

realdata: .venv/dev.stamp  ## the tests on real films: where MMGCS_REALDATA points, or in ../shared/data; skipped without
	$(BIN)/python -m pytest -m realdata -rs

reference: .venv/dev.stamp  ## rewrite the generated parts of the documentation
	$(BIN)/python tools/reference.py

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

lowest:  ## the quick tests with the oldest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade uv
	.venv-lowest/bin/uv pip compile --quiet --no-header --resolution lowest-direct --all-extras pyproject.toml \
	  --output-file .venv-lowest/lowest.txt
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --constraint .venv-lowest/lowest.txt \
	  -e ".[train,weights,db,scale]" --group dev
	.venv-lowest/bin/python -m pytest -m "not realdata and not slow"

lock:  ## write deploy/requirements.txt: what a deployment installs, by version and SHA-256
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate \
	  --custom-compile-command "make lock" pyproject.toml --output-file deploy/requirements.txt

.venv-deploy/stamp: deploy/requirements.txt pyproject.toml
	$(PYTHON) -m venv --clear .venv-deploy
	.venv-deploy/bin/python -m pip install --quiet --require-hashes --requirement deploy/requirements.txt
	.venv-deploy/bin/python -m pip install --quiet --no-deps .
	touch $@

audit: .venv-deploy/stamp  ## known faults in what a deployment installs; it asks a database on the network
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit
	.venv-audit/bin/pip-audit --require-hashes --disable-pip --requirement deploy/requirements.txt

sbom: .venv-deploy/stamp  ## write sbom.json (CycloneDX): everything that a deployment holds
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet cyclonedx-bom
	.venv-audit/bin/cyclonedx-py environment .venv-deploy/bin/python --pyproject pyproject.toml \
	  --output-reproducible --output-format JSON --output-file sbom.json

# In these a command has no room or no right to write, and coverage could not write what it saw either.
NO_ROOM := \
  tests/cli/test_tag.py::test_a_folder_that_cannot_be_written_is_refused_before_any_work \
  tests/tagging/test_pipeline.py::test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room \
  tests/training/test_faults.py::test_ctrl_c_ends_in_one_line_and_the_run_can_be_resumed

coverage: .venv/dev.stamp  ## which lines of src no test runs; under 90% is an error
	$(PIP) --group measure
	$(BIN)/python -m pytest -m "not realdata" --cov --cov-report=term:skip-covered -n $(WORKERS) --dist loadfile \
	  $(addprefix --deselect ,$(NO_ROOM))

mutation: .venv/dev.stamp  ## change what decides the numbers: a test must notice four of five; an hour or so
	$(PIP) --group measure
	$(BIN)/mutmut run
	$(BIN)/mutmut results --all true | $(BIN)/python tools/mutation_score.py

clean:  ## remove everything that these commands made
	rm -rf .venv .venv-lowest .venv-deploy .venv-audit sbom.json mutants .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build site
