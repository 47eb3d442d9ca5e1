# The ledger from a bare clone: `make up` runs it, `make test` tests it. Needs Python 3.11 or newer with pip, and make.
#
# .venv holds the pinned dependencies (requirements/) and the project itself, editable. Two stamps say how far it is:
# .venv/.runtime (enough for `make up`) and .venv/.dev (tests and checks as well); each is made again when the pins or
# pyproject.toml change. A stamp holds the directory it was made in, because a virtual environment cannot be moved:
# in a copied or moved clone it is made anew.

PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python3.14 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$python && break; done)
PIP := .venv/bin/python -m pip --quiet --disable-pip-version-check --no-input
# The root user of a container needs no warning that it is root.
export PIP_ROOT_USER_ACTION := ignore
# pyright runs as pinned; it need not tell about newer ones.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

ifneq ($(shell cat .venv/.runtime 2>/dev/null),$(CURDIR))
.venv/.runtime: moved
endif

# How many processes test; much of what a test does is waiting for a disk.
WORKERS ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# A stamp is the last thing that its recipe writes, so a half-made environment is made again.
.PHONY: help up install test check format bench soak pins clean moved

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

up: .venv/.runtime ## run the ledger with its own PostgreSQL and NATS on 127.0.0.1:8080 (ARGS="--port 9000 --data DIR")
	@.venv/bin/credit-ledger up $(ARGS)

install: .venv/.dev ## make .venv with everything for running, testing and checking

test: .venv/.dev ## the whole test suite, by two processes with servers of their own (ARGS="-k name")
	.venv/bin/pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: .venv/.dev ## lint, format, types and import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright
	.venv/bin/lint-imports --no-logo

format: .venv/.dev ## put the code into shape
	.venv/bin/ruff check --fix-only --quiet .
	.venv/bin/ruff format .

bench: .venv/.dev ## measure throughput and latency (ARGS="...")
	.venv/bin/python -m bench $(ARGS)

soak: .venv/.dev ## the tests that run for minutes
	.venv/bin/pytest -m soak --timeout 3600 $(ARGS)

pins: ## write requirements/ anew from pyproject.toml, newest versions
	@$(require-python)
	PYTHON="$(PYTHON)" requirements/pin

clean: ## remove everything made here, the ledger's data excepted
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage htmlcov
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

define require-python
test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found: install it, or name it with make PYTHON=/path/to/python" >&2; exit 1; }
endef

# Debian's Python may come without ensurepip: then the pip that is there fills the environment.
define make-venv
echo "making .venv with $$($(PYTHON) --version); this takes up to a minute, once"; rm -rf .venv; \
	$(PYTHON) -m venv .venv >/dev/null 2>&1 || { rm -rf .venv; $(PYTHON) -m venv --without-pip .venv && \
	$(PYTHON) -m pip --quiet --disable-pip-version-check --python .venv/bin/python install pip; }
endef

.venv/.runtime: pyproject.toml requirements/runtime.txt requirements/build.txt
	@$(require-python)
	@test "$$(cat $@ 2>/dev/null)" = "$(CURDIR)" || { $(make-venv); }
	@$(PIP) install --no-compile -r requirements/runtime.txt -r requirements/build.txt
	@$(PIP) install --no-compile --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" > $@

.venv/.dev: .venv/.runtime requirements/dev.txt client/pyproject.toml
	@echo "adding what tests and checks need"
	@$(PIP) install -r requirements/runtime.txt -r requirements/build.txt -r requirements/dev.txt
	@$(PIP) install --no-compile --no-deps --no-build-isolation --editable client
	@echo "$(CURDIR)" > $@
