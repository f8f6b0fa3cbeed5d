# `make help` lists the targets. All of them use the virtual environment in .venv, which `make setup` makes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.requirements-installed
STAMP := $(VENV)/.dev-requirements-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
PARALLEL ?= auto
export PIP_ROOT_USER_ACTION := ignore

.PHONY: help setup run test test-services coverage check format bench mutants lock

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
		|| sed -n 's/^\([a-z-]*\):[^#]*## /  make \1: /p' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv and install all pinned requirements (only when they changed)

$(RUN_STAMP): requirements.txt
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is not installed. On Debian or Ubuntu: apt-get install python3.11 python3.11-venv" >&2; \
		echo "Another name or place: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "$(PYTHON) does not run, or is not Python 3.11. Name another: make setup PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "No virtual environment could be made. On Debian or Ubuntu: apt-get install python3.11-venv" >&2; exit 1; }
	@echo "Installing the requirements into $(VENV) ..."
	@$(PIP) install --quiet --requirement requirements.txt
	@touch $@

$(STAMP): $(RUN_STAMP) dev_requirements.txt
	@echo "Installing what tests and checks need into $(VENV) ..."
	@$(PIP) install --quiet --requirement dev_requirements.txt
	@touch $@

run: $(RUN_STAMP) ## start everything on this machine and say what to open
	@exec $(BIN)/python manage.py quickstart

test: $(STAMP) test-services ## run the tests (TESTS="tests.relay …": some; PARALLEL=1: in one process)
	@$(BIN)/python manage.py test --parallel $(PARALLEL) $(TESTS)

test-services: $(STAMP)
	@$(BIN)/python -m tests.support.install $(if $(TESTS),--look)

coverage: $(STAMP) test-services ## run the tests and measure which lines they run (TESTS="…": some, without the floor)
	@rm -rf var/coverage && mkdir -p var/coverage
	@$(BIN)/coverage run manage.py test --parallel $(PARALLEL) $(TESTS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(TESTS),--fail-under=0)

check: $(STAMP) ## lint, format, types, layers, migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

format: $(STAMP) ## format the code and sort its imports
	$(BIN)/ruff check --fix-only --select I .
	$(BIN)/ruff format .

bench: $(STAMP) test-services ## measure the relay (BENCH="--quick speed": some of it, or quickly)
	@$(BIN)/python -m tests.bench $(BENCH)

mutants: $(STAMP) ## change modules bit by bit and see that tests fail (MUTANTS="--most 20 relay/routing.py": some of it)
	@$(BIN)/python -m tests.mutants $(MUTANTS)

lock: $(STAMP) ## pin the requirements of base_*requirements.txt (UPGRADE=1: to the newest versions)
	$(call compile,requirements.txt,base_requirements.txt)
	$(call compile,dev_requirements.txt,base_dev_requirements.txt)

define compile
CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --strip-extras --no-emit-index-url \
		--no-emit-find-links --no-emit-trusted-host --no-emit-options \
		$(if $(UPGRADE),--upgrade) --output-file $(1) $(2)
endef
