# SPDX-License-Identifier: Apache-2.0
# Not a test: it prints how a GPU's tensor cores add (docs/numerics.md).
nvfp4_device_code(${CMAKE_CURRENT_SOURCE_DIR}/tensor_cores/accumulate.cu accumulate_fatbin)
add_executable(tensor_core_accumulation ${CMAKE_CURRENT_SOURCE_DIR}/tensor_cores/accumulate.c ${accumulate_fatbin})
target_link_libraries(tensor_core_accumulation PRIVATE nvfp4_static)
set_target_properties(tensor_core_accumulation PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
