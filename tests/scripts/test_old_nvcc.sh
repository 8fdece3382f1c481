#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What cmake/cuda.cmake makes of CUDA compilers of several ages: a stand-in for nvcc says how old it is, and the build is configured, not built. test_old_nvcc.sh CMAKE
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

configure() { # configure VERSION
  version=$1
  printf '#!/bin/sh\necho "Cuda compilation tools, release %s, V%s.1"\n' "$1" "$1" >"$folder/nvcc"
  chmod +x "$folder/nvcc"
  rm -rf "$folder/build"
  "$cmake" -G "Unix Makefiles" -S . -B "$folder/build" -DNVFP4_NVCC="$folder/nvcc" -DNVFP4_CUDA=ON -DNVFP4_TESTS=OFF >"$folder/log" || {
    cat "$folder/log"
    exit 1
  }
}

listed() { # listed LINE: as built, or not and why
  grep -qF "$1" "$folder/build/generated/kernels_built.def" || { echo "$version: no line $1"; exit 1; }
}

targets() { # targets ARCH...: of FP4 code for compute capability 12.x
  local found
  found=$(grep -rhoE --include=build.make -e 'code=sm_12[0-9]+[af]' "$folder/build/CMakeFiles" | sort -u | sed 's/code=//' | tr '\n' ' ' || true)
  [ "$found" = "$*${*:+ }" ] || { echo "$version: targets '$found'; needs '$*'"; exit 1; }
}

cmake=$1
configure 12.4
listed 'NVFP4_KERNEL_BUILT(cuda_sm90_w4a16)'
listed 'NVFP4_KERNEL_NOT_BUILT(cuda_sm120_w4a4, "needs CUDA 12.8 or newer, and nvcc is of CUDA 12.4; install a newer toolkit and build again")'
targets

configure 12.8
listed 'NVFP4_KERNEL_BUILT(cuda_sm120_w4a4)'
targets sm_120a

configure 13.0
listed 'NVFP4_KERNEL_BUILT(cuda_sm120_w4a4)'
targets sm_120f
