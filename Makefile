# The only façade: each target first builds what it needs. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# --- environment ------------------------------------------------------------------------------------------------
.venv/.ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Reprise needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	@echo "Building .venv from requirements.lock ..."
	@$(PYTHON) -m venv --clear .venv
	@$(PY) -m pip install --quiet --requirement requirements.lock
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: env
env: .venv/.ready  ## build .venv from the lock file

.PHONY: lock
lock:  ## resolve pyproject.toml anew into requirements.lock
	@tmp=$$(mktemp -d) && $(PYTHON) -m venv $$tmp && $$tmp/bin/pip install --quiet "torch==$$(sed -nE 's/^torch==//p' requirements.lock)" ".[notebooks,test,gallery]" setuptools \
	  && { sed -nE '/^#/p' requirements.lock; $$tmp/bin/pip freeze --all | grep -vE '^(pip|wheel|reprise)( |=)' | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'; } > requirements.lock.new \
	  && mv requirements.lock.new requirements.lock; rm -rf $$tmp

# --- notebooks --------------------------------------------------------------------------------------------------
.PHONY: store
store: .venv/.ready  ## execute P=<slug> in a fresh kernel and store it with its outputs
	@$(PY) -m shared.compendium.notebook $(P)
