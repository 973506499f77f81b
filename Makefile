# Each target sets itself up: Python >= 3.11, make and git are all that a fresh machine needs.
PYTHON ?= python3
BIN := .venv/bin
PROJECTS := core $(patsubst %/pyproject.toml,%,$(sort $(wildcard plugins/*/pyproject.toml contrib/*/pyproject.toml)))
STAMP := .venv/.installed
WORKERS ?= 2
# For a computer without a GPU see docs/releasing.md
TORCH ?= torch torchvision
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
SOURCES := $(wildcard $(addsuffix /src,$(PROJECTS)))
# Tests share the cores between workers; without this each of them would start a thread for every core.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help setup test demo reproduce lint types format bench docs test-wheels test-lowest dist clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install every distribution, editable

$(STAMP): pyproject.toml $(addsuffix /pyproject.toml,$(PROJECTS))
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mtl needs Python 3.11 or newer; set PYTHON=")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev
	$(BIN)/python -m pip install --quiet --no-build-isolation $(addprefix -e ./,$(PROJECTS))
	@touch $@

test: $(STAMP) ## run every test
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

demo: $(STAMP) ## train two networks on partially labelled images and compare them
	$(BIN)/python docs/examples/demo.py

reproduce: $(STAMP) ## a paper's table, TABLE=jtr-tab1: checks, cost, runs, comparison; ARGS="--cost"
	@test -f "docs/examples/suites/$(TABLE).toml" || { echo "reproduce: TABLE=$(TABLE): name one of" \
	  $(sort $(basename $(notdir $(wildcard docs/examples/suites/*tab*.toml)))); exit 2; }
	$(BIN)/mtl reproduce docs/examples/suites/$(TABLE).toml $(ARGS)

lint: types ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## types alone
	MYPYPATH=$(subst $(SPACE),:,$(SOURCES)) $(BIN)/mypy $(SOURCES)

format: $(STAMP) ## rewrite what ruff can fix, and the tables of hooks in the documentation
	$(BIN)/python tests/hook_tables.py
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## ratios of time and memory, as JSON, in ten minutes; longer: BENCH=peers, scaling, weighting, loading or domains
	$(BIN)/python tests/benchmarks/$(or $(BENCH),bench).py $(ARGS)

docs: $(STAMP) ## write the tables of hooks, check that the documentation is true, and build it into build/site
	$(BIN)/python tests/hook_tables.py
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -c site docs build/site
	$(TEST_ENV) $(BIN)/python -m pytest tests/test_docs.py tests/test_site.py $(ARGS)

test-wheels: $(STAMP) ## each distribution's tests, from its wheel, with nothing undeclared beside it
	$(TEST_ENV) $(BIN)/python tests/wheels.py $(ARGS)

dist: $(STAMP) ## build every wheel into dist/ and check what is in it
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist $(addprefix ./,$(PROJECTS))
	MTL_DIST=dist $(BIN)/python -m pytest -q tests/test_distributions.py

LOWEST := build/lowest
test-lowest: $(STAMP) ## core's and some plugins' tests with the lowest versions that are declared; downloads several GB
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct "./core[testing,predict]" \
		$(addprefix ./,$(filter-out core plugins/mtl-all,$(PROJECTS))) "pytest-timeout>=2.3" "hypothesis>=6.110"
	$(TEST_ENV) $(LOWEST)/bin/python -m pytest -W default -p no:cacheprovider $(or $(ARGS),core/tests plugins/mtl-jtr plugins/mtl-ial)

clean: ## remove what the targets made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
