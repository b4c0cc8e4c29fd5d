# Everything a fresh machine needs: `make demo` and `make test`. Downloads and builds land in SHIFT_CACHE and are used again.
SHIFT_CACHE ?= $(HOME)/.cache/shift-operator
export SHIFT_CACHE
# Empty is "keep bytecode": where the environment forbids it, each of an engine's processes compiles what it imports, 24 s.
export PYTHONDONTWRITEBYTECODE :=
PYTHON ?= python3
UV := $(SHIFT_CACHE)/uv-0.13.9/bin/uv
CONTROL := .venv/control
ENGINE := .venv/engine
PYTEST := $(CONTROL)/bin/python -m pytest
# One of the two processes has all tests of an engine; tests/engine/conftest.py says in which order they begin.
ENGINE_PYTEST := $(ENGINE)/bin/python -m pytest tests/engine -q -n 2 --dist loadgroup --no-loadscope-reorder
PACKAGES := operator/shift_operator localcluster/localcluster demo

.DEFAULT_GOAL := help
.PHONY: help setup binaries promtool demo test test-unit fuzz test-integration test-engine test-engine-full test-e2e chaos lint format generate clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

$(UV): tools/requirements-uv.txt
	@echo "set-up: uv into $(SHIFT_CACHE)"
	@$(PYTHON) -m venv $(SHIFT_CACHE)/uv-0.13.9
	@$(SHIFT_CACHE)/uv-0.13.9/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tools/requirements-uv.txt
	@touch $@

# A stamp per environment: it is synced again only when its lock or a package's metadata changes, not when another
# checkout makes uv's, which all share.
$(CONTROL)/.synced: requirements-dev.txt pyproject.toml localcluster/pyproject.toml | $(UV)
	@echo "set-up: the control environment ($(CONTROL))"
	@test -x $(CONTROL)/bin/python || $(UV) venv --quiet --python $(PYTHON) $(CONTROL)
	@VIRTUAL_ENV=$(CONTROL) $(UV) pip sync --quiet --require-hashes requirements-dev.txt
	@VIRTUAL_ENV=$(CONTROL) $(UV) pip install --quiet --no-deps --no-build-isolation --editable . --editable localcluster
	@touch $@

$(ENGINE)/.synced: worker_image/requirements-cpu.txt worker_image/pyproject.toml | $(UV)
	@echo "set-up: the engine environment ($(ENGINE); vLLM for CPU, about 5 GB, linked from uv's cache)"
	@test -x $(ENGINE)/bin/python || $(UV) venv --quiet --python $(PYTHON) $(ENGINE)
	@VIRTUAL_ENV=$(ENGINE) $(UV) pip sync --quiet --require-hashes worker_image/requirements-cpu.txt
	@VIRTUAL_ENV=$(ENGINE) $(UV) pip install --quiet --no-deps --no-build-isolation --editable worker_image
	@touch $@

setup: $(CONTROL)/.synced $(ENGINE)/.synced  ## make both Python environments

binaries: $(CONTROL)/.synced  ## build the control plane's binaries (once)
	@$(CONTROL)/bin/localcluster build

demo: setup  ## apply a ShiftDeployment on a local cluster, get tokens, watch the threshold move (KEEP=1 leaves it up)
	@$(CONTROL)/bin/python -m demo $(if $(KEEP),--keep)

test: lint test-unit test-integration test-engine test-e2e  ## set-up and all tests

test-unit: $(CONTROL)/.synced  ## pure parts, seconds
	$(PYTEST) tests/unit -q

fuzz: $(CONTROL)/.synced  ## the property tests of the pure parts with new examples, ten times as many (not part of make test)
	$(PYTEST) tests/unit -q -n 2 --hypothesis-profile=fuzz

test-integration: binaries  ## the real API server, scheduler, kubelet, Prometheus and LeaderWorkerSet
	@$(CONTROL)/bin/localcluster build lws-controller
	$(PYTEST) tests/integration -q -n 2 --dist loadfile  # two clusters: most of a test is waiting

promtool: $(CONTROL)/.synced
	@$(CONTROL)/bin/localcluster build promtool

test-engine: $(ENGINE)/.synced promtool  ## real vLLM on CPU, each behaviour once
	$(ENGINE_PYTEST) -m "not full"

test-engine-full: $(ENGINE)/.synced promtool  ## the same, with every cell of the matrix of models, and each repeat
	$(ENGINE_PYTEST)

test-e2e: setup binaries  ## the demo, asserted
	$(PYTEST) tests/e2e -q

chaos: binaries  ## kill, cut and set off what the operators stand on, a quarter of an hour (not part of make test)
	$(PYTEST) tests/chaos -q

lint: $(CONTROL)/.synced  ## ruff, mypy --strict, import contracts, generated files
	$(CONTROL)/bin/ruff check .
	$(CONTROL)/bin/ruff format --check .
	$(CONTROL)/bin/mypy --strict $(PACKAGES)
	$(CONTROL)/bin/mypy --config-file worker_image/pyproject.toml worker_image/shift_engine
	PYTHONPATH=.:worker_image $(CONTROL)/bin/lint-imports --no-cache
	$(CONTROL)/bin/python -m shift_operator.api.crd --check
	$(CONTROL)/bin/python -m shift_operator.api.reference --check

format: $(CONTROL)/.synced  ## let ruff write the layout
	$(CONTROL)/bin/ruff check --fix .
	$(CONTROL)/bin/ruff format .

generate: $(CONTROL)/.synced  ## write the CRD and the reference pages from the API types
	$(CONTROL)/bin/python -m shift_operator.api.crd
	$(CONTROL)/bin/python -m shift_operator.api.reference

lock: $(UV)  ## resolve the requirements anew and write the hashed locks
	$(UV) pip compile --quiet pyproject.toml --generate-hashes -o requirements.txt
	$(UV) pip compile --quiet pyproject.toml localcluster/pyproject.toml --extra dev -c requirements.txt --generate-hashes -o requirements-dev.txt
	cd worker_image && $(UV) pip compile --quiet pyproject.toml --extra cpu --extra test --generate-hashes -o requirements-cpu.txt

clean:  ## remove the environments (the cache stays)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
