## make serve         runs wshost; PORT and HANDLER say where and what
## make test          runs every test on both forms, Python and compiled; checks that each package's tests cover it
## make test-compiled compiles the modules, and runs every test on them
## make test-engine   runs the tests of messages again, with every frame read by Autobahn
## make test-asan     runs the unit tests, and random conversations, on compiled modules that check their memory
## make lint          checks style and formatting
## make types         checks types
## make check         runs lint, types and test
## make matrix        runs check on the oldest CPython of 3.11 to 3.14 found, and test-compiled on each newer one; with
##                    ARGS=--ends on the newest only
## make conformance   runs the Autobahn testsuite against wshost
## make bench         compares wshost with its peers; ARGS says how, such as ARGS='--quick'
## make bench-peers   installs peers for bench from npm: Bun, Deno and Node's ws
## make torture       attacks wshost and says what it survives; ARGS='--long' attacks it for hours
## make scale         says what several processes cost, and what they survive; ARGS says how, such as ARGS='--only REGEX'
## make docs          builds the documentation into docs/_build
##
## They need Python 3.11 or later, which PYTHON may name. They install other requirements into .venv, once; VENV may
## name another directory.

PORT ?= 8080
HANDLER ?= wshost.handlers.echo
PYTHON ?=
ARGS ?=
VENV ?= .venv

BIN = $(VENV)/bin

.PHONY: help serve test test-compiled test-engine test-asan lint types check matrix conformance bench bench-peers torture scale docs
.NOTPARALLEL:

help:
	@sed -n 's/^## \{0,1\}//p' Makefile

serve: $(VENV)/.installed
	$(BIN)/twistd -n wshost --port $(PORT) --handler $(HANDLER)

PYTEST = $(BIN)/pytest --numprocesses=3 --dist=loadfile --durations=20
# The tests of the whole server. They count for no package's coverage.
WHOLE = tests/integration tests/regressions tests/benchmarks tests/scale tests/torture
# Integration tests that send frames. The others are about listening, signals and logs: the same in each form.
MESSAGES = agreement_with_wsproto answers_of_other_servers broadcast_compression costs deflate_verdicts examples \
    fast_lane_equivalence other_clients public_arguments raising_handlers unresponsive_peers
FRAMES = tests/regressions $(MESSAGES:%=tests/integration/test_%.py)

test: $(VENV)/.installed-test
	WSHOST_PURE=1 $(PYTEST) $(WHOLE:%=--ignore=%) --cov --cov-context=test --cov-report=term:skip-covered
	$(BIN)/python -m tests.package_coverage
	WSHOST_PURE=1 $(PYTEST) $(FRAMES)
	$(MAKE) test-compiled

# A module that is up to date is not compiled again.
test-compiled: $(VENV)/.installed-test
	$(BIN)/python hatch_build.py
	WSHOST_COMPILED=$(CURDIR)/wshost/compiled $(PYTEST) $(if $(SPARING),$(FRAMES))

test-engine: $(VENV)/.installed-test
	WSHOST_FAST_LANE=off $(PYTEST) tests/protocols tests/handlers $(FRAMES)

# Without the tests of packaging, which compile without the sanitizers.
SANITIZED = $(filter-out $(WHOLE:%=%/%) tests/test_packaging.py, \
    $(wildcard tests/test_*.py tests/*/test_*.py tests/*/*/test_*.py)) $(MESSAGES:%=tests/integration/test_%.py)
ASAN = build/asan
test-asan: $(VENV)/.installed-test
	CFLAGS='-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' \
	    LDFLAGS='-fsanitize=address,undefined' $(BIN)/python hatch_build.py $(ASAN)
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
	    ASAN_OPTIONS=detect_leaks=0 WSHOST_COMPILED=$(CURDIR)/$(ASAN) $(PYTEST) -m 'not uninstrumented' \
	    $(SANITIZED)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-lint $(VENV)/.installed-test
	$(BIN)/mypy

check: lint types test

# Each CPython has an environment of its own. On the oldest, both forms are checked; of the compiled one, only what sends
# frames, as the others run all tests on it, which users have.
matrix:
	@set -e; target=check; found=$$(.ci/pythons $(ARGS)); set -- $$found; \
	while [ "$$1" ]; do \
	    sparing=; if [ $$target = check ] && [ "$$3" ]; then sparing=1; fi; \
	    $(MAKE) VENV=.venv-$$1 PYTHON=$$2 SPARING=$$sparing $$target; target=test-compiled; shift 2; \
	done

conformance: $(VENV)/.installed-test
	$(BIN)/python -m tests.conformance $(ARGS)

# Users have the compiled modules, from the wheel.
bench: $(VENV)/.installed-bench
	$(BIN)/python hatch_build.py
	WSHOST_COMPILED=$(CURDIR)/wshost/compiled $(BIN)/python -m benchmarks $(ARGS)

# At the versions of the lock file. `make bench` measures the peers that it finds, and installs none of these.
bench-peers: $(VENV)/.made
	@command -v npm >/dev/null || { echo 'wshost: npm is not found; on Debian: apt install npm' >&2; exit 1; }
	mkdir -p $(VENV)/benchmarks
	cp benchmarks/npm/*.json $(VENV)/benchmarks
	npm ci --prefix $(VENV)/benchmarks --no-audit --no-fund

torture: $(VENV)/.installed-torture
	$(BIN)/python hatch_build.py
	WSHOST_COMPILED=$(CURDIR)/wshost/compiled $(BIN)/python -m torture $(ARGS)

scale: $(VENV)/.installed-scale
	$(BIN)/python hatch_build.py
	WSHOST_COMPILED=$(CURDIR)/wshost/compiled $(BIN)/python -m scale $(ARGS)

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

# Each Python is tried by running it: pyenv puts a version's name into the PATH even where it can't run.
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
