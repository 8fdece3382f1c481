# SPDX-License-Identifier: Apache-2.0
# Each tests/fuzz/fuzz_*.c is a target twice: replay_NAME, which ctest runs over the golden and the broken files, and, with NVFP4_FUZZ,
# fuzz_NAME with libFuzzer:
#   CC=clang cmake -B build-fuzz -DNVFP4_FUZZ=ON -DNVFP4_SANITIZE=address,undefined
#   build-fuzz/tests/fuzz_gguf -max_total_time=60 CORPUS tests/golden/broken
file(GLOB fuzz_targets CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR}/fuzz fuzz/fuzz_*.c)
if(NVFP4_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "NVFP4_FUZZ needs clang; the compiler is ${CMAKE_C_COMPILER_ID}")
  endif()
  target_compile_options(nvfp4_objects PRIVATE -fsanitize=fuzzer-no-link)
endif()
foreach(source IN LISTS fuzz_targets)
  string(REGEX REPLACE "^fuzz_(.*)\\.c$" "\\1" name ${source})
  set(targets replay_${name})
  add_executable(replay_${name} fuzz/${source} fuzz/replay.c)
  add_test(NAME fuzz/${name} COMMAND replay_${name} tests/golden WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NVFP4_FUZZ)
    list(APPEND targets fuzz_${name})
    add_executable(fuzz_${name} fuzz/${source})
    target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  endif()
  foreach(target IN LISTS targets)
    target_link_libraries(${target} PRIVATE nvfp4_static)
    set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  endforeach()
endforeach()
