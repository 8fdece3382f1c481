#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every header compiles alone as C11; the public ones as C++17 too.
set -u
status=0
flags=(-fsyntax-only -Wall -Wextra -Werror -Iinclude)
for header in include/nvfp4/*.h; do
  clang -x c -std=c11 -Wpedantic "${flags[@]}" "$header" || status=1
  clang++ -x c++ -std=c++17 -Wpedantic "${flags[@]}" "$header" || status=1
done
# Headers of Arm kernels need an Arm compiler: the cross-build is their test. A *_body.h is a body that its includer gives names to.
for header in $(find src -name '*.h' -not -path 'src/kernels/arm/*' -not -name '*_body.h'); do
  isa=()
  case $header in src/kernels/x86/*) isa=(--target=x86_64-linux-gnu -march=sapphirerapids) ;; esac
  # A header's functions are not all used by a file that holds nothing else.
  clang -x c -std=c11 "${flags[@]}" "${isa[@]}" -Wno-unused-function -Isrc "$header" || status=1
done
exit $status
