# Every target prepares what it needs, with plain `python3 -m venv` and pip; what is there already is not fetched again.
#   make demo                 three days of a small shop, from files to figures
#   make demo ENGINE=sail     the same on the engine that needs no Java
#   make test                 the tests that need no JVM, minutes; make test ARGS="tests/daemon -k trigger" some of them
#   make test-quick           the tests that need no engine and are quick, a minute
#   make test-all             all tests, with more cases, on both engines
#   make bench                measure against a pipeline by hand; make bench ARGS="--engine both --cases small million"
#   make check                ruff and mypy
#   make format               ruff's own order
#   make install VENV=/opt/lakegate   an environment of its own, which needs this folder no more
#   make docs                 the pages that are made from the code, and the site in build/site
#   make lock                 resolve the dependencies anew
#   make clean                remove what was built; make distclean removes the environment, too

PYTHON ?= python3
VENV ?= .venv
ENGINE ?= spark
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
# Hashes for everything, and no isolated build: it would fetch a setuptools that no lock names.
LOCKED := $(PIP) --require-hashes --no-build-isolation --use-pep517

.PHONY: demo test test-quick test-all bench check format install lock clean distclean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed $(VENV)/.jars
	$(BIN)/lakegate demo --engine $(ENGINE)

# tests/README.md says how long each takes and what the shorter ones leave out.
PYTEST = $(BIN)/python -m pytest --dist worksteal
# The shorter ones keep their files in memory where it has room: they wait for no disk. `make test-all` uses a disk.
IN_MEMORY = $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print "PYTEST_DEBUG_TEMPROOT=/dev/shm"}')

test: $(VENV)/.installed-dev $(VENV)/.jars
	$(IN_MEMORY) $(PYTEST) -n 3 -m "not (spark or slow)" $(ARGS)

test-quick: $(VENV)/.installed-dev $(VENV)/.jars
	$(IN_MEMORY) $(PYTEST) -n 3 -m "not (spark or sail or slow or long)" $(ARGS)

# In two runs: one process does not hold both engines.
test-all: $(VENV)/.installed-dev $(VENV)/.jars
	$(PYTEST) -n 2 --hypothesis-profile=all -m "not spark" $(ARGS)
	$(PYTEST) -n 2 --hypothesis-profile=all -m spark $(ARGS)

# docs/speed.md says what is measured. It takes an hour on both engines; nothing else should run meanwhile.
bench: $(VENV)/.installed-dev $(VENV)/.jars
	$(BIN)/python benchmarks/bench.py $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Lakegate needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@echo "Preparing $(VENV): once, some 700 MB, a few minutes."
	$(PYTHON) -m venv $(VENV)
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > $(VENV)/setuptools.lock
	$(PIP) --require-hashes -r $(VENV)/setuptools.lock
	$(LOCKED) -r requirements.lock
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(LOCKED) -r requirements-dev.lock
	@touch $@

# Delta's jars, which its wheel does not carry, and what Java saves so that sessions start in half the time (without
# it they start all the same); the folders lie in the environment.
$(VENV)/.jars: pipeline/engine/jar_list.py pipeline/engine/jars.py pipeline/engine/class_data_sharing.py $(VENV)/.installed
	$(BIN)/python -m pipeline.engine.jars
	$(BIN)/python -m pipeline.engine.class_data_sharing || true
	@touch $@

install: $(VENV)/.installed $(VENV)/.jars
	$(PIP) --no-build-isolation --no-deps --force-reinstall .

# NO_MKDOCS_2_WARNING: an advertisement in colours that a log does not need.
.PHONY: docs
docs: $(VENV)/.installed-dev
	$(BIN)/python docs/tools/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# A lock without this machine in it: no paths, no hosts, markers instead of one Python's answers.
RESOLVE = build/uv/bin/uv pip compile --quiet --universal --all-extras --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --fork-strategy fewest pyproject.toml
NOTE = \# Every package with its hashes, for Python 3.11 to 3.13. Made from pyproject.toml by `make lock`; install with

lock: pyproject.toml
	$(PYTHON) -m venv build/uv
	build/uv/bin/python -m pip --disable-pip-version-check install --quiet uv
	printf '%s\n' '$(NOTE)' '# `pip install --require-hashes -r requirements.lock`.' > build/runtime.lock
	$(RESOLVE) --group pyproject.toml:build >> build/runtime.lock
	printf '%s\n' '$(NOTE)' '# `pip install --require-hashes -r requirements-dev.lock`.' > build/dev.lock
	$(RESOLVE) --group pyproject.toml:dev --constraint build/runtime.lock >> build/dev.lock
	mv build/runtime.lock requirements.lock
	mv build/dev.lock requirements-dev.lock

clean:
	rm -rf build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
