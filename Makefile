# SPDX-License-Identifier: Apache-2.0
# A thin cover over CMake, Ninja and scripts/; `make help` lists the targets.
BUILD ?= build
PREFIX ?= /usr/local
JOBS ?= $(shell nproc)
CMAKE_FLAGS ?=

.PHONY: help build test demo install lint format clean
.NOTPARALLEL:

help:
	@echo 'make demo     build, get a small real model, quantise it, explain it, write text'
	@echo 'make test     build and run all tests'
	@echo 'make build    the command $(BUILD)/nvfp4, the libraries, the tests'
	@echo 'make install  headers, library, command into PREFIX=$(PREFIX) (DESTDIR is honoured)'
	@echo 'make lint     style and structure; needs scripts/bootstrap --ci'
	@echo 'make format   clang-format over all C files'
	@echo 'make clean    remove $(BUILD)'
	@echo 'CMAKE_FLAGS, BUILD, JOBS and PREFIX may be set, e.g. make test BUILD=build-clang CMAKE_FLAGS=-DCMAKE_C_COMPILER=clang'

build:
	@scripts/bootstrap
	@cmake -G Ninja -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) >/dev/null
	cmake --build $(BUILD) -j $(JOBS)

test: build
	ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

demo: build
	scripts/demo $(BUILD)

install: build
	cmake --install $(BUILD)

lint: build
	scripts/lint/all $(BUILD)

format:
	clang-format -i $$(git ls-files -co --exclude-standard '*.c' '*.h')

clean:
	rm -rf $(BUILD)
