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
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Reprise needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.13"; exit 1; }
	@[ ! -L .venv ] || { echo ".venv is a link: the environment it leads to is left as it is. Remove the link, or touch .venv/.ready if that environment fits requirements.lock"; exit 1; }
	@echo "Building .venv from requirements.lock ..."
	@$(PYTHON) -m venv --clear .venv
	@$(PY) -m pip install --quiet --requirement requirements.lock
	@$(PY) -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: env
env: .venv/.ready  ## build .venv from the lock file

.PHONY: lock
lock:  ## resolve pyproject.toml anew into requirements.lock
	@tmp=$$(mktemp -d) && $(PYTHON) -m venv $$tmp && $$tmp/bin/pip install --quiet "torch==$$(sed -nE 's/^torch==//p' requirements.lock)" ".[notebooks,test,gallery,hub]" setuptools \
	  && { sed -nE '/^#/p' requirements.lock; $$tmp/bin/pip freeze --all | grep -vE '^(pip|wheel|reprise)( |=)' | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'; } > requirements.lock.new \
	  && mv requirements.lock.new requirements.lock; rm -rf $$tmp

# --- notebooks --------------------------------------------------------------------------------------------------
# SCALE=paper runs the paper's own scale; PROFILE=papers/profiles/slurm hands the jobs to SLURM; JOBS limits the cores.
# With ARGS="-p seed 1 -p model …" a paper runs with other parameters, beside its official results.
RUN = $(PY) -m shared.compendium.runner --fetch $(if $(SCALE),--scale $(SCALE)) $(if $(PROFILE),--profile $(PROFILE)) $(if $(JOBS),--cores $(JOBS))

.PHONY: figures
figures: .venv/.ready  ## run every paper's notebook: figures/<slug>/*.png, *.svg, results.json
	@$(RUN) --all

.PHONY: paper
paper: .venv/.ready  ## run one paper, P=<slug> [SCALE=paper] [ARGS="-p seed 1"]
	@$(RUN) $(P) $(ARGS)

.PHONY: new
new: .venv/.ready  ## start a paper from the template, P=<slug>
	@$(PY) -m shared.compendium.new $(P)

.PHONY: store
store: assets  ## execute P=<slug> twice in fresh kernels and store its outputs if both agree [ARGS=--once]
	@OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m shared.compendium.notebook $(P) $(ARGS)

.PHONY: check
check: assets  ## what a program can say of P=<slug> before it lands [ARGS="--only contract"]
	@OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(PY) -m shared.compendium.check $(P) $(ARGS)

.PHONY: readme
readme: .venv/.ready  ## make README's tables anew from the cards and the stored runs
	@$(PY) -m shared.compendium.ledger

.PHONY: preflight
preflight: .venv/.ready  ## what P=<slug> fetches and needs at the paper's own scale, counted without weights
	@$(PY) -m shared.compendium.preflight $(P)

.PHONY: lab
lab: assets  ## open JupyterLab on the papers
	@$(PY) -m jupyter lab --notebook-dir papers

.PHONY: gallery
gallery: .venv/.ready  ## build the static site into build/gallery
	@$(PY) -m gallery.build

# --- models and data --------------------------------------------------------------------------------------------
.PHONY: assets
assets: .venv/.ready  ## fetch the pinned real models, verified by sha256
	@$(PY) -m shared.zoo fetch

.PHONY: zoo
zoo: .venv/.ready  ## remake the shipped checkpoints and data from their recipes (minutes)
	@$(PY) -m shared.zoo make

# --- checks -----------------------------------------------------------------------------------------------------
.PHONY: test
test: assets  ## every test and every notebook; T=tests/lrp for a part, SHARD=units or 2/4, ALL=1 to run current notebooks again
	@REPRISE_SHARD=$(SHARD) REPRISE_ALL=$(ALL) $(PY) -m pytest -n 2 $(T)

.PHONY: lint
lint: .venv/.ready  ## ruff, notebooks included
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

.PHONY: bench
bench: .venv-bench/.ready  ## compare with peer libraries: ratios on the screen and in build/bench.json
	@PYTHONPATH=. .venv-bench/bin/python tests/benchmarks/run.py

.PHONY: test-federated
test-federated: .venv-federated/.ready  ## the federated room beside Flower and Opacus, in an environment of their own
	@.venv-federated/bin/python -m pytest -q --confcutdir=tests/federated -p no:cacheprovider -o addopts="--import-mode=importlib" $(or $(T),tests/federated)

# Flower pins what Snakemake and Jupyter want otherwise.
.venv-federated/.ready: pyproject.toml requirements.lock
	@echo "Building .venv-federated: our packages, Flower and Opacus ..."
	@$(PYTHON) -m venv --clear .venv-federated
	@sed -n '/^dependencies/,/^]/s/^ *"\([A-Za-z0-9_-]*\).*/^\1==/p' pyproject.toml | grep -if - requirements.lock > .venv-federated/ours.txt
	@.venv-federated/bin/pip install --quiet --requirement .venv-federated/ours.txt
	@.venv-federated/bin/pip install --quiet ".[federated]" "pytest>=8" "hypothesis>=6.100" && rm -rf build/lib *.egg-info
	@touch $@

# what pyproject.toml names, as locked, and the peers; the rest is free, since peers disagree with our tools about it
.venv-bench/.ready: pyproject.toml requirements.lock $(wildcard tests/benchmarks/requirements-*.txt)
	@echo "Building .venv-bench: our packages and the peers ..."
	@$(PYTHON) -m venv --clear .venv-bench
	@sed -n '/^dependencies/,/^]/s/^ *"\([A-Za-z0-9_-]*\).*/^\1==/p' pyproject.toml | grep -if - requirements.lock > .venv-bench/ours.txt
	@.venv-bench/bin/pip install --quiet --requirement .venv-bench/ours.txt $(addprefix --requirement ,$(wildcard tests/benchmarks/requirements-*.txt))
	@.venv-bench/bin/python -c 'import torchvision' 2>/dev/null || .venv-bench/bin/pip uninstall --quiet --yes torchvision  # a build for another torch breaks transformers
	@touch $@

# WHEELS=<folder> makes the environment from wheels that lie there, without network.
.PHONY: gpu-check
gpu-check:  ## rooms, notebooks and ratios on one CUDA device, in eight minutes [WHEELS=<folder>]
	@if [ -n "$(WHEELS)" ] && [ ! -e .venv/.ready ]; then $(PYTHON) -m venv .venv \
	  && $(PY) -m pip install --quiet --no-index --find-links "$(WHEELS)" --requirement requirements.lock && touch .venv/.ready; fi
	@$(MAKE) --no-print-directory .venv/.ready
	@$(PY) -m tests.gpu_check

.PHONY: clean
clean:  ## remove what runs and builds leave behind; keeps .venv and the fetched models
	@rm -rf build figures/*/ figures/.snakemake figures/.lock
