# What a person and CI run. Everything works from a clean checkout: `setup` makes .venv from the lock file.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.ready
DEPLOY := .venv-deploy/bin
DEPLOY_STAMP := .venv-deploy/.ready
CLIENTS := .venv-clients/bin
CLIENTS_STAMP := .venv-clients/.ready

.PHONY: help setup demo test lint test-fast test-slow test-golden test-kubectl test-browser test-deploy test-clients coverage manifests bench lock clean

help:             ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP)   ## .venv with portway and its development tools

$(STAMP): requirements-dev.lock pyproject.toml
	@$(PYTHON) -m venv .venv || { echo "portway: python3.11 with its venv module is needed: apt-get install python3.11-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup       ## an embedded cluster with demo services, in the foreground
	$(BIN)/portway up --demo

lint: setup       ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

FAST := -n 3 -m "not slow and not kubectl and not golden and not browser and not deploy and not clients"

test-fast: setup  ## unit, property and socket tests, in parallel
	$(BIN)/pytest $(FAST)

coverage: setup   ## the fast tests again, traced line by line: which lines none of them runs
	$(BIN)/pytest $(FAST) --cov --cov-report=term:skip-covered

test-slow: setup  ## kill -9, soak and memory tests
	$(BIN)/pytest -n 2 -m slow

test-golden: setup  ## the recorded answers of a kube-apiserver, replayed against an embedded cluster
	$(BIN)/pytest -m golden

test-kubectl: setup  ## every kubectl found, against an embedded cluster
	$(BIN)/pytest -n 2 -m kubectl

test-browser: setup  ## a real Chromium: what a hostile page can do, what a person sees
	$(BIN)/pytest -m browser

$(DEPLOY_STAMP): requirements-deploy.lock pyproject.toml
	@$(PYTHON) -m venv .venv-deploy || { echo "portway: python3.11 with its venv module is needed: apt-get install python3.11-venv" >&2; exit 1; }
	$(DEPLOY)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-deploy.lock
	$(DEPLOY)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test-deploy: $(DEPLOY_STAMP)  ## container file, Helm chart, manifests, systemd unit: rendered, validated, tried
	$(DEPLOY)/pytest -n 2 -m deploy tests/deploy

$(CLIENTS_STAMP): requirements-clients.lock pyproject.toml
	@$(PYTHON) -m venv .venv-clients || { echo "portway: python3.11 with its venv module is needed: apt-get install python3.11-venv" >&2; exit 1; }
	$(CLIENTS)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-clients.lock
	$(CLIENTS)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

test-clients: $(CLIENTS_STAMP)  ## kubernetes, kubernetes_asyncio, lightkube, kr8s, kopf and generated clients, against embedded clusters
	$(CLIENTS)/pytest -n 2 -m clients tests/clients

manifests: $(DEPLOY_STAMP)    ## renew deploy/manifests from the chart
	$(DEPLOY)/python -m portway.testing.chart > deploy/manifests/portway.yaml.new
	mv deploy/manifests/portway.yaml.new deploy/manifests/portway.yaml

test: lint test-fast  ## what a change must pass before it is committed

bench: setup      ## Portway beside its peers, one table
	$(BIN)/python -m bench

COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --quiet

lock: setup       ## renew requirements*.lock
	$(BIN)/pip install --quiet uv
	$(BIN)/$(COMPILE) pyproject.toml --group dev --output-file requirements-dev.lock
	$(BIN)/$(COMPILE) pyproject.toml --constraint requirements-dev.lock --output-file requirements.lock
	$(BIN)/$(COMPILE) --group build --constraint requirements-dev.lock --output-file requirements-build.lock
	$(BIN)/$(COMPILE) pyproject.toml --group deploy --constraint requirements-dev.lock --output-file requirements-deploy.lock
	$(BIN)/$(COMPILE) pyproject.toml --group clients --constraint requirements-dev.lock --output-file requirements-clients.lock

clean:            ## remove what make made
	rm -rf .venv .venv-deploy .venv-clients .mypy_cache .ruff_cache .hypothesis .portway
