# Every target makes what it needs. On a Debian machine that has only python3 (3.11), make and git, as root:
#   make lint     make test     make drill
.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/bash
PY := .venv/bin/python
DRILL ?= first-light
ARGS ?=
EXAMPLES ?= 20000
RUNS ?= 200
ENGINES ?= docker-20.10 docker-20.10-userns docker-26.1 docker-26.1-containerd podman
# What an engine can make differ: quarantine, its proof and its leaks, the engine's contract, the comparison. MATRIX=tests/integration for all.
MATRIX ?= $(addprefix tests/integration/test_,leaks.py modes.py engine_contract.py corpus.py stopped.py)

# Bytecode is kept: without it each test worker, and each irkit that a test starts, compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup lint format test test-unit test-thorough test-packaging test-integration test-matrix fuzz kills nightly drill bench engine-up engine-down bare-check clean venv

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -nE 's/^([a-z-]+):.*## (.*)/  \1	\2/p' $(MAKEFILE_LIST)

setup: ## Debian packages (as root) and .venv; does only what is missing
	@scripts/setup

venv:
	@scripts/setup --venv-only

lint: venv ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy --strict irkit

format: venv ## let ruff format the code
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

test: setup test-unit test-thorough test-packaging test-integration ## all tests: unit, thorough, packaging, integration (root: with private engines, Docker 20.10 and 26.1)

test-unit: venv ## unit tests, without a network; ARGS="-k name" for some of them
	scripts/no-net $(PY) -m pytest -n auto --dist worksteal -m "not thorough" tests/unit $(ARGS)

test-thorough: venv ## the dear unit tests: exhaustive, of random input, of large input, without a network
	scripts/no-net $(PY) -m pytest -n auto --dist worksteal -m thorough tests/unit $(ARGS)

test-packaging: venv
	$(PY) -m pytest -n auto --dist worksteal tests/packaging $(ARGS)

test-integration: venv ## tests with real engines, several private ones; nothing of them is left running
	scripts/test-integration tests/integration $(ARGS)
	IRKIT_ENGINE=docker-26.1 scripts/test-integration tests/integration/test_contain.py tests/integration/test_leaks.py tests/integration/test_remote.py $(ARGS)

test-matrix: setup ## what engines can make differ, with each flavour in turn; ENGINES="podman ..." for some of them, MATRIX=tests/integration for all tests
	@failed=; for e in $(ENGINES); do \
	  printf '\n==== %s\n' "$$e"; \
	  IRKIT_TEST_COLD=1 IRKIT_ENGINE=$$e scripts/test-integration $(MATRIX) $(ARGS) || failed="$$failed $$e"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed with:$$failed"; exit 1; fi; echo "passed with each of: $(ENGINES)"

fuzz: venv ## fuzz the loader, conditions, configuration and alerts; EXAMPLES=20000 a test
	IRKIT_EXAMPLES=$(EXAMPLES) scripts/no-net $(PY) -m pytest -n auto --dist worksteal tests/unit/playbook/test_fuzz.py tests/unit/playbook/test_conditions.py tests/unit/test_documents.py tests/unit/watch/test_watch_alert.py tests/unit/watch/test_watch_sources.py

kills: venv ## kill and resume RUNS=200 runs, at every journal boundary and at random times, on the private engine
	IRKIT_KILLS=$(RUNS) scripts/with-engine --images all $(PY) -m pytest tests/integration/test_resume.py -q

nightly: fuzz kills ## what takes long
	$(MAKE) test-matrix MATRIX=tests/integration

drill: venv ## play a drill, on your engine if one answers, else on a private one
	scripts/with-engine --pick --images web .venv/bin/irkit drill run $(DRILL)

bench: venv ## measure, with the private engine; PARTS="diff crowd" for some of it
	scripts/with-engine --images all $(PY) -m bench $(PARTS)

engine-up: ## start this checkout's private engine and make its images
	@scripts/engine-up
	@scripts/make-images all

engine-down: ## stop it; nothing is left running
	@scripts/engine-down

bare-check: ## prove `make drill` and `make test` in a bare Debian tree (root)
	scripts/bare-check

clean: ## remove what was made here: .venv, caches, the private engine with its images
	for e in $(ENGINES); do for n in 1 2; do IRKIT_ENGINE=$$e IRKIT_ENGINE_COPY=$$n scripts/engine-down --purge; done; done
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
