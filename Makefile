## make serve         runs wshost; PORT and HANDLER say where and what
## make test          runs every test twice, on Python and on the compiled modules; measures coverage
## make test-engine   runs the tests of messages again, with every frame read by Autobahn
## make test-asan     runs the unit tests, and random conversations, on compiled modules that check their memory
## make lint          checks style and formatting
## make types         checks types
## make check         lint, types and test
## make conformance   runs the Autobahn testsuite against wshost
## make bench         compares wshost with its peers; ARGS says how, such as ARGS='--quick'
## make docs          builds the documentation into docs/_build
##
## They need a Python >= 3.11, which PYTHON may name; what else they need they install into .venv, once.

PORT ?= 8080
HANDLER ?= wshost.handlers.echo
PYTHON ?=
ARGS ?=

BIN = .venv/bin

.PHONY: help serve test test-engine test-asan lint types check conformance bench docs
.NOTPARALLEL:

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

serve: .venv/.installed
	$(BIN)/twistd -n wshost --port $(PORT) --handler $(HANDLER)

PYTEST = $(BIN)/pytest --numprocesses=3 --dist=loadfile

# What is up to date is not compiled again.
test: .venv/.installed-test
	WSHOST_PURE=1 $(PYTEST) --cov --cov-context=test --cov-report=term:skip-covered
	$(BIN)/python -m tests.package_coverage
	$(BIN)/python hatch_build.py
	WSHOST_COMPILED=$(CURDIR)/wshost/compiled $(PYTEST)

# The other integration tests start processes, end them, and read their logs: it makes no difference to them.
MESSAGES = costs customs deflated examples half_open interop lane oracle public_arguments published raising
test-engine: .venv/.installed-test
	WSHOST_FAST_LANE=off $(PYTEST) \
	    tests/protocols tests/handlers tests/regressions $(MESSAGES:%=tests/integration/test_%.py)

# Without the tests of wheels, which compile in other ways, and of what is not compiled at all.
SANITIZED = tests/compiled tests/connections tests/fastnet tests/handlers tests/protocols tests/topics \
    $(addprefix tests/integration/test_,deflated.py lane.py oracle.py)
ASAN = build/asan
test-asan: .venv/.installed-test
	CFLAGS='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' \
	    LDFLAGS='-fsanitize=address,undefined' $(BIN)/python hatch_build.py $(ASAN)
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
	    ASAN_OPTIONS=detect_leaks=0 WSHOST_COMPILED=$(CURDIR)/$(ASAN) $(PYTEST) $(SANITIZED)

lint: .venv/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/.installed-lint .venv/.installed-test
	$(BIN)/mypy

check: lint types test

conformance: .venv/.installed-test
	$(BIN)/python -m tests.conformance

# Users have the compiled modules, from the wheel.
bench: .venv/.installed-bench
	$(BIN)/python hatch_build.py
	WSHOST_COMPILED=$(CURDIR)/wshost/compiled $(BIN)/python -m benchmarks $(ARGS)

docs: .venv/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -n docs docs/_build

# The stamps in .venv make the second run start at once; a changed pyproject.toml installs again.
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

.venv/.installed: .venv/.made pyproject.toml
	@echo 'Installing wshost into .venv'
	@$(install) .
	@touch $@

.venv/.installed-%: .venv/.made pyproject.toml
	@echo 'Installing wshost and what $* needs into .venv'
	@$(install) '.[$*]'
	@touch $@

# A Python is tried by running it: being in the PATH proves nothing (pyenv puts each version's name there).
.venv/.made:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    found=$$python; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || continue; \
	    "$$python" -m venv --clear .venv && touch $@; \
	    exit; \
	done; \
	if [ "$$found" ]; then \
	    echo "wshost: $$found can't make virtual environments; on Debian: apt install $${found##*/}-venv"; \
	else \
	    echo 'wshost: no Python >= 3.11 runs here; install one, or name it: make PYTHON=/path/to/python'; \
	fi >&2; \
	exit 1
