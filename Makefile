# Two commands on a fresh machine: `make run`, `make test`. `make help` lists them all.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
SOURCES := src tests benchmarks
PEERS := benchmarks/peers
# Half as many processes again as cores; a test is handed out when one is free, so that none is left with the long ones.
PARALLEL := --numprocesses=auto --maxschedchunk=1

.DEFAULT_GOAL := help
.PHONY: help install run test check format lint types bench bench-peers chaos containers-test clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …"; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3-venv is needed: install it with the system's package manager"; exit 1; }

$(VENV)/.service: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the service into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.development: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the service and the development tools into $(VENV)"
	@$(PIP) --editable '.[dev]'
	@touch $(VENV)/.service $@

install: $(VENV)/.service ## Install the service into .venv

run: install ## Start the service on a private Redis, and print a curl line to paste
	@echo "Starting the service; Ctrl-C stops it"
	@LOG_LEVEL=$${LOG_LEVEL:-debug} RETRY_TIME=$${RETRY_TIME:-5} exec $(BIN)/redis-scheduler

test: $(VENV)/.development ## Run the test suite on private Redis servers (4 minutes)
	@echo "Running the tests"
	@$(BIN)/pytest $(PARALLEL)

check: $(VENV)/.development format-check lint types test ## Check format, lint, types and tests: what CI runs

.PHONY: format-check
format-check: $(VENV)/.development ## Check that the code is formatted
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { echo "Not formatted; run: make format"; exit 1; }

format: $(VENV)/.development ## Format the code
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

lint: $(VENV)/.development ## Look for faults that a linter finds
	@$(BIN)/ruff check $(SOURCES)

types: $(VENV)/.development ## Check types, strictly
	@$(BIN)/mypy $(SOURCES)

bench: $(VENV)/.development ## Measure everything but the peers on this machine (20 minutes)
	@set -e; for name in burst lateness api scale idle start failing; do $(BIN)/python -m benchmarks.$$name; echo; done

# Celery and arq need different releases of redis-py: an environment for each.
$(PEERS)/.venv/%/.installed: $(PEERS)/requirements-%.txt
	@echo "Installing $* into $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --requirement $<
	@touch $@

$(PEERS)/node_modules/.installed: $(PEERS)/package.json
	@echo "Installing BullMQ and undici into $(PEERS)/node_modules"
	@node --version >/dev/null && npm --version >/dev/null || { echo "Node 20.18 or newer and npm are needed"; exit 1; }
	@npm install --prefix $(PEERS) --no-package-lock --no-audit --no-fund --engine-strict --loglevel error
	@touch $@

bench-peers: $(VENV)/.development $(addprefix $(PEERS)/,.venv/celery/.installed .venv/arq/.installed node_modules/.installed) ## Measure the service beside BullMQ, Celery and arq (needs Node)
	@$(BIN)/python -m benchmarks.peers

chaos: $(VENV)/.development ## Inject every fault with the full numbers, and print one table (15 minutes)
	@CHAOS=full $(BIN)/pytest -o faulthandler_timeout=300 tests/chaos

containers-test: $(VENV)/.development ## Run the suite on redis:8 and valkey/valkey:8, and test image and compose (needs Docker)
	@REDIS_IMAGES=redis:8,valkey/valkey:8 $(BIN)/pytest -o faulthandler_timeout=600 tests/integration tests/scripts tests/containers

clean: ## Remove what was made here, but no data
	@rm -rf $(VENV) $(PEERS)/.venv $(PEERS)/node_modules build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
