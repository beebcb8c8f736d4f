# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV ?= .venv
BIN := $(VENV)/bin
CMAKE := $(BIN)/cmake
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
# Two builds of one folder at once would spoil each other.
LOCK := $(shell mkdir -p build; command -v flock >/dev/null 2>&1 && echo flock build/.lock)
EDITABLE := build/editable
PACKAGE_PATH := ops:server:clients:$(EDITABLE)/protos

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## Setting up -------------------------------------------------------------------------------------

$(BIN)/python:
	@python=$$(sh .ci/check_machine) && "$$python" -m venv $(VENV)

# The stamps make a second run quick and independent of the network.
$(VENV)/.requirements: pyproject.toml constraints.txt .ci/requirements.py | $(BIN)/python
	@sh .ci/check_machine >/dev/null
	$(BIN)/python .ci/requirements.py > build/requirements.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -r build/requirements.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.requirements
	$(LOCK) env CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(BIN)/python -m pip install --quiet \
	  --no-build-isolation --no-deps --editable .
	@touch $@

.PHONY: setup
setup: $(VENV)/.installed ## Create .venv with everything in it (done once)

.PHONY: build
build: setup ## Compile what changed in the C++ sources and protos
	@$(LOCK) sh -ec '$(CMAKE) --build $(EDITABLE) --parallel $(JOBS); \
	  $(CMAKE) --install $(EDITABLE) --component python \
	    --prefix "$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path(\"platlib\"))")" >/dev/null'

## Checking ---------------------------------------------------------------------------------------

.PHONY: test
test: lint test-native test-sanitize test-python ## Lint, type check and run all tests

.PHONY: lint
lint: build ## Ruff, clang-format, import rules and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.cc' '*.h' '*.cu' '*.cuh' | xargs -r $(BIN)/clang-format --dry-run -Werror
	PYTHONPATH=$(PACKAGE_PATH) $(BIN)/lint-imports --no-cache
	$(BIN)/mypy

.PHONY: format
format: setup ## Rewrite sources to the house style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	git ls-files '*.cc' '*.h' '*.cu' '*.cuh' | xargs -r $(BIN)/clang-format -i

.PHONY: test-python
test-python: build ## Run the Python tests, a process per core (ARGS='-k name' selects)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: test-native
test-native: build ## Run the native tests, SANITIZE=thread|address under a sanitizer
ifdef SANITIZE
	$(call sanitized,$(SANITIZE))
else
	@$(LOCK) $(CMAKE) --build $(EDITABLE) --target native_tests --parallel $(JOBS)
	$(BIN)/ctest --test-dir $(EDITABLE) --output-on-failure --parallel $(JOBS)
endif

.PHONY: test-sanitize
test-sanitize: build ## Run the native tests under ThreadSanitizer and under ASan + UBSan
	$(call sanitized,thread)
	$(call sanitized,address)

define sanitized
	@$(LOCK) sh -ec '$(CMAKE) -S . -B build/$(1) -G Ninja --no-warn-unused-cli -DCMAKE_MAKE_PROGRAM="$(abspath $(BIN))/ninja" \
	  -DCMAKE_BUILD_TYPE=Release -DVOXGATE_SANITIZE=$(1) -DVOXGATE_BUILD_TESTS=ON \
	  -DVOXGATE_BUILD_OPERATORS=$(if $(filter thread,$(1)),OFF,ON) \
	  -DPython_EXECUTABLE="$(abspath $(BIN))/python" >/dev/null; \
	  $(CMAKE) --build build/$(1) --target native_tests --parallel $(JOBS)'
	$(BIN)/ctest --test-dir build/$(1) --output-on-failure --parallel $(JOBS)
endef

.PHONY: bench
bench: build ## Measure against spconv's CPU build
	$(BIN)/python -m benchmarks $(ARGS)

## Using ------------------------------------------------------------------------------------------

.PHONY: demo
demo: build ## Export a network, serve it, stream sweeps and print the answers
	$(BIN)/python deploy/demo.py $(ARGS)

.PHONY: cpp-client
cpp-client: setup ## Build the C++ client into build/cpp and run its tests
	@$(LOCK) sh -ec '$(CMAKE) -S clients/cpp -B build/cpp --no-warn-unused-cli \
	  -DVOXGATE_CLIENT_BUILD_TESTS=ON >/dev/null; $(CMAKE) --build build/cpp --parallel $(JOBS)'
	$(BIN)/ctest --test-dir build/cpp --output-on-failure

.PHONY: wheel
wheel: setup ## Build the manylinux wheel into dist/
	rm -rf build/wheels dist
	$(LOCK) env CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) $(BIN)/python -m build --wheel --no-isolation \
	  --outdir build/wheels . >/dev/null
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/wheels/voxgate-*.whl

.PHONY: test-wheel
test-wheel: wheel ## Install the wheel into an empty environment and serve with it
	$(BIN)/python -m pytest -m wheel tests/end_to_end/test_wheel.py

.PHONY: clean
clean: ## Remove what was built (.venv and downloaded headers stay)
	rm -rf $(EDITABLE) build/cpp build/thread build/address build/wheel build/wheels dist $(VENV)/.installed
