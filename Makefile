## make serve         runs wshost; PORT and HANDLER say where and what
## make test          runs every test, and measures that the tests of each package cover it wholly
## make test-engine   runs the tests that the fast lane matters to, with the fast lane off
## make test-compiled runs every test on the compiled modules
## make lint          checks style and formatting
## make types         checks types
## make check         runs lint, types and test
## make matrix        runs check on the oldest CPython of 3.11 to 3.14 found, and test-compiled on each newer one; with
##                    ARGS=--ends on the newest only
## make conformance   runs the Autobahn testsuite against wshost
## make bench         compares wshost with its peers; ARGS says how, such as ARGS='--quick'
## make docs          builds the documentation into docs/_build
##
## They need a Python >= 3.11, which PYTHON may name; what else they need they install into .venv, once. VENV names
## another directory.

PORT ?= 8080
HANDLER ?= wshost.handlers.echo
PYTHON ?=
ARGS ?=
VENV ?= .venv

BIN = $(VENV)/bin

.PHONY: help serve test test-engine test-compiled lint types check matrix conformance bench docs
.NOTPARALLEL:

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

serve: $(VENV)/.installed
	$(BIN)/twistd -n wshost --port $(PORT) --handler $(HANDLER)

WORKERS = --numprocesses=3 --dist=loadfile
# The tests of the whole server: no package is measured by them, and measuring takes time.
WHOLE = tests/integration tests/regressions tests/benchmarks

# Modules compiled in place would hide the sources that are measured.
test: $(VENV)/.installed-test
	$(BIN)/python hatch_build.py --clean
	$(BIN)/pytest $(WORKERS) $(WHOLE:%=--ignore=%) --cov --cov-context=test --cov-report=term:skip-covered
	$(BIN)/python -m tests.package_coverage
	$(BIN)/pytest $(WORKERS) $(WHOLE)

# The other integration tests are about listening, signals and logs: they send no frames that the engine would read.
TELLING = agreement_with_wsproto answers_of_other_servers broadcast_compression costs deflate_verdicts examples \
    fast_lane_equivalence other_clients public_arguments raising_handlers unresponsive_peers
test-engine: $(VENV)/.installed-test
	WSHOST_FAST_LANE=off $(BIN)/pytest $(WORKERS) \
	    tests/protocols tests/handlers tests/regressions $(TELLING:%=tests/integration/test_%.py)

# The compiled modules hide their sources: they go again whatever happens.
test-compiled: $(VENV)/.installed-test
	@trap '$(BIN)/python hatch_build.py --clean' EXIT; trap 'exit 1' INT TERM; set -e; \
	$(BIN)/python hatch_build.py; \
	$(BIN)/python -c 'import wshost.connections.connection as built; assert built.__file__.endswith(".so"), built.__file__'; \
	$(BIN)/pytest $(WORKERS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-lint $(VENV)/.installed-test
	$(BIN)/mypy

check: lint types test

# Each CPython has an environment of its own. The oldest checks everything; the others, what users have: the compiled form.
matrix:
	@set -e; target=check; found=$$(.ci/pythons $(ARGS)); set -- $$found; \
	while [ "$$1" ]; do $(MAKE) VENV=.venv-$$1 PYTHON=$$2 $$target; target=test-compiled; shift 2; done

conformance: $(VENV)/.installed-test
	$(BIN)/python -m tests.conformance

# Users have the compiled modules, from the wheel.
bench: $(VENV)/.installed-bench
	@trap '$(BIN)/python hatch_build.py --clean' EXIT; trap 'exit 1' INT TERM; set -e; \
	$(BIN)/python hatch_build.py; \
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -n docs docs/_build

# The stamps in $(VENV) make the second run start at once; a changed pyproject.toml installs again.
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	@echo 'Installing wshost into $(VENV)'
	@$(install) .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.made pyproject.toml
	@echo 'Installing wshost and what $* needs into $(VENV)'
	@$(install) '.[$*]'
	@touch $@

# A Python is tried by running it: being in the PATH proves nothing (pyenv puts each version's name there).
$(VENV)/.made:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    found=$$python; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
	    "$$python" -m venv --clear $(VENV) && touch $@; \
	    exit; \
	done; \
	if [ "$$found" ]; then \
	    echo "wshost: $$found can't make virtual environments; on Debian: apt install $${found##*/}-venv"; \
	else \
	    echo 'wshost: no Python >= 3.11 runs here; install one, or name it: make PYTHON=/path/to/python'; \
	fi >&2; \
	exit 1
