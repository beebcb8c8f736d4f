# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV ?= .venv
BIN := $(VENV)/bin
CMAKE := $(BIN)/cmake
JOBS ?= $(shell getconf _NPROCESSORS_ONLN)
# One more than there are cores: some tests wait, one of them for two minutes.
WORKERS ?= $(shell expr $(JOBS) + 1)
# Two builds of one folder at once would spoil each other.
LOCK := $(shell mkdir -p build; command -v flock >/dev/null 2>&1 && echo flock build/.lock)
EDITABLE := build/editable
PACKAGE_PATH := ops:server:clients:$(EDITABLE)/protos

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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
test: build ## Lint, type check and run all tests
	@$(MAKE) --no-print-directory --jobs=2 lint test-native # mypy has one core's work
	@$(MAKE) --no-print-directory test-sanitize test-gpu-native test-python

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
test-python: build ## Run the Python tests (ARGS='-k name' selects)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

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

# GCC's sanitizers know nothing of the 32 random bits that some kernels give addresses (Ubuntu
# 24.04): ThreadSanitizer ends at once, "unexpected memory mapping".
FIXED_ADDRESSES = $(shell setarch $$(uname -m) -R true 2>/dev/null && echo setarch $$(uname -m) -R)

define sanitized
	@$(LOCK) sh -ec '$(CMAKE) -S . -B build/$(1) -G Ninja --no-warn-unused-cli -DCMAKE_MAKE_PROGRAM="$(abspath $(BIN))/ninja" \
	  -DCMAKE_BUILD_TYPE=Release -DVOXGATE_SANITIZE=$(1) -DVOXGATE_BUILD_TESTS=ON \
	  -DVOXGATE_BUILD_OPERATORS=$(if $(filter thread,$(1)),OFF,ON) \
	  -DPython_EXECUTABLE="$(abspath $(BIN))/python" >/dev/null; \
	  $(CMAKE) --build build/$(1) --target native_tests --parallel $(JOBS)'
	$(FIXED_ADDRESSES) $(BIN)/ctest --test-dir build/$(1) --output-on-failure --parallel $(JOBS)
endef

# What needs a GPU, in parts that need not follow each other. All of them say so and end well
# where there is none. The native ones ask for nvcc, CMake and a C++ compiler alone: no network.
GPU_BUILD := build/gpu
GPU_CMAKE = $(if $(wildcard $(CMAKE)),$(CMAKE),cmake)
# Each process has a CUDA context, and memory of the GPU for it.
GPU_JOBS ?= 4
GPU_CTEST = $(if $(wildcard $(BIN)/ctest),$(BIN)/ctest,ctest) --test-dir $(GPU_BUILD) \
  --output-on-failure --parallel $(GPU_JOBS) --no-tests=error

.PHONY: test-gpu
test-gpu: ## All that needs an NVIDIA GPU: tests, compute-sanitizer, benchmark
	@if sh .ci/find_gpu; then \
	  $(MAKE) test-gpu-native test-gpu-sanitize test-gpu-python bench-gpu; fi

.PHONY: test-gpu-build
test-gpu-build:
	@if sh .ci/find_gpu nvcc; then $(LOCK) sh -ec '$(GPU_CMAKE) -S . -B $(GPU_BUILD) --no-warn-unused-cli \
	  -DCMAKE_BUILD_TYPE=Release -DVOXGATE_CUDA=ON -DVOXGATE_BUILD_TESTS=ON -DVOXGATE_GPU_TESTS=ON \
	  -DVOXGATE_BUILD_OPERATORS=OFF >/dev/null; \
	  $(GPU_CMAKE) --build $(GPU_BUILD) --target gpu_tests --parallel $(JOBS)'; fi

.PHONY: test-gpu-native
test-gpu-native: test-gpu-build ## Run the native CUDA tests on the GPU
	@if sh .ci/find_gpu nvcc >/dev/null; then $(GPU_CTEST) --label-regex gpu $(ARGS); fi

.PHONY: test-gpu-sanitize
test-gpu-sanitize: test-gpu-build ## Run them under compute-sanitizer (ARGS='-R memcheck' selects)
	@if ! sh .ci/find_gpu nvcc >/dev/null; then :; \
	  elif ! command -v compute-sanitizer >/dev/null; then echo "no compute-sanitizer here"; \
	  else $(GPU_CTEST) --label-regex sanitizer $(ARGS); fi

.PHONY: test-gpu-python
test-gpu-python: build ## Run the tests marked gpu
	@if sh .ci/find_gpu; then \
	  $(BIN)/python -m pytest -n $(GPU_JOBS) --dist loadfile -m gpu --require-gpu tests/gpu $(ARGS); fi

.PHONY: bench-gpu
bench-gpu: build ## Measure against spconv's CUDA build
	@if sh .ci/find_gpu >/dev/null; then $(BIN)/python -m benchmarks --case cuda $(ARGS); fi

.PHONY: bench
bench: build ## Measure against spconv's CPU build
	$(BIN)/python -m benchmarks $(ARGS)

.PHONY: cuda-docs
cuda-docs: build ## Write the tables of docs/cuda.md (nvcc, no GPU)
	@$(LOCK) $(CMAKE) --build $(EDITABLE) --target native_tests cuda_orin --parallel $(JOBS)
	$(BIN)/ctest --test-dir $(EDITABLE) --output-on-failure --parallel $(JOBS) --tests-regex '^cuda_'
	for table in kernels roofline queue; do $(BIN)/python -m benchmarks.cuda $$table docs/cuda.md || exit; done

## Using ------------------------------------------------------------------------------------------

.PHONY: demo
demo: build ## Export a network, serve it, stream sweeps and print the answers
	$(BIN)/python deploy/demo.py $(ARGS)

.PHONY: cpp-client
cpp-client: setup ## Build the C++ client into build/cpp and run its tests
	@$(LOCK) sh -ec '$(CMAKE) -S clients/cpp -B build/cpp --no-warn-unused-cli \
	  -DVOXGATE_CLIENT_BUILD_TESTS=ON >/dev/null; $(CMAKE) --build build/cpp --parallel $(JOBS)'
	$(BIN)/ctest --test-dir build/cpp --output-on-failure

# Of the GPUs that the wheel is for: "release" for all, or as CMake lists them ("90-real").
CUDA_ARCHITECTURES ?= release

.PHONY: wheel
wheel: setup ## Build the manylinux wheel into dist/
	rm -rf build/wheels dist
	$(LOCK) env CMAKE_BUILD_PARALLEL_LEVEL=$(JOBS) VOXGATE_CUDA_ARCHITECTURES="$(CUDA_ARCHITECTURES)" \
	  $(BIN)/python -m build --wheel --no-isolation \
	  --outdir build/wheels . >/dev/null
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --wheel-dir dist build/wheels/voxgate-*.whl

.PHONY: test-wheel
test-wheel: wheel ## Install the wheel into an empty environment and serve with it
	$(BIN)/python -m pytest -m wheel tests/end_to_end/test_wheel.py

.PHONY: clean
clean: ## Remove what was built (.venv and downloaded headers stay)
	rm -rf $(EDITABLE) $(GPU_BUILD) build/cpp build/thread build/address build/wheel build/wheels dist $(VENV)/.installed
