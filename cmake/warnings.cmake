# SPDX-License-Identifier: Apache-2.0
# Flags that every target of ours gets. -ffp-contract=off: the canonical results are defined operation by operation.
add_library(nvfp4_warnings INTERFACE)
target_compile_options(nvfp4_warnings INTERFACE
  -Wall -Wextra -Wshadow $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes> -Wpointer-arith -Wwrite-strings -Wvla
  -ffp-contract=off -fno-math-errno -fno-trapping-math)
if(NVFP4_WERROR)
  target_compile_options(nvfp4_warnings INTERFACE -Werror)
endif()
# The library is numeric loops: -O3 vectorises them.
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O3 -g -DNDEBUG")
endif()
