# What a person and CI run. Everything works from a clean checkout: `setup` makes .venv from the lock file.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: help setup demo test lint test-fast test-slow test-golden test-kubectl test-browser bench lock clean

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

test-fast: setup  ## unit, property and socket tests, in parallel, with coverage
	$(BIN)/pytest -n 4 -m "not slow and not kubectl and not golden and not browser" --cov --cov-report=term:skip-covered

test-slow: setup  ## kill -9, soak and memory tests
	$(BIN)/pytest -m slow

test-golden: setup  ## the recorded answers of a kube-apiserver, replayed against an embedded cluster
	$(BIN)/pytest -m golden

test-kubectl: setup  ## every kubectl found, against an embedded cluster
	$(BIN)/pytest -n 2 -m kubectl

test-browser: setup  ## a real Chromium: what a hostile page can do, what a person sees
	$(BIN)/pytest -m browser

test: lint test-fast  ## what a change must pass before it is committed

bench: setup      ## Portway beside its peers, one table
	$(BIN)/python -m bench

lock: setup       ## renew requirements-dev.lock
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --quiet --output-file requirements-dev.lock

clean:            ## remove what make made
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis .portway
