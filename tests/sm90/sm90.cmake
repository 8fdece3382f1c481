# SPDX-License-Identifier: Apache-2.0
# The kernels of sm90_w4a16.cu, and the quantiser before them, on the CPU (tests/sm90/simulate.h); and with faults of host.py, each of which must be found. Their device code is C++.
if(CMAKE_CROSSCOMPILING)
  return()
endif()
include(CheckLanguage)
check_language(CXX)
if(NOT CMAKE_CXX_COMPILER)
  return()
endif()
enable_language(CXX)

set(faults 42)
set(host ${CMAKE_BINARY_DIR}/generated/sm90_host)
file(GLOB device_code CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.cuh)
add_custom_command(OUTPUT ${host}/kernels/cuda/sm90_mid.cuh
  COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/sm90/host.py ${CMAKE_SOURCE_DIR}/src/kernels/cuda ${host}/kernels/cuda ${faults}
  DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/sm90/host.py ${device_code} ${CMAKE_SOURCE_DIR}/src/kernels/cuda/mma_layout.cu)
add_executable(sm90_check ${CMAKE_CURRENT_SOURCE_DIR}/sm90/check.cpp ${CMAKE_CURRENT_SOURCE_DIR}/sm90/schedule.cpp ${CMAKE_CURRENT_SOURCE_DIR}/sm90/simulate.cpp ${host}/kernels/cuda/sm90_mid.cuh)
target_compile_features(sm90_check PRIVATE cxx_std_17)
target_compile_definitions(sm90_check PRIVATE __CUDACC__ __CUDA_ARCH__=900)
target_compile_options(sm90_check PRIVATE -O2 -fno-strict-aliasing) # device code reads pairs of floats as words
target_include_directories(sm90_check BEFORE PRIVATE ${host} ${CMAKE_CURRENT_SOURCE_DIR}) # before src
target_link_libraries(sm90_check PRIVATE nvfp4_static)
set_target_properties(sm90_check PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME sm90/check_0 COMMAND sm90_check 0)
if(NOT NVFP4_SANITIZE) # what is found is found without one
  foreach(fault RANGE 1 ${faults})
    add_test(NAME sm90/check_${fault} COMMAND sm90_check ${fault})
  endforeach()
endif()
