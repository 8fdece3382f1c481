# SPDX-License-Identifier: Apache-2.0
# Proofs of cuda_sm120_w4a4 without its hardware.
# 1. Whole thread blocks on the CPU, through the maps that the device code uses; and with wrong ones, which must be found.
foreach(plant RANGE 16)
  add_executable(sm120_check_${plant} ${CMAKE_CURRENT_SOURCE_DIR}/sm120/check.c)
  target_compile_definitions(sm120_check_${plant} PRIVATE PLANT=${plant})
  target_include_directories(sm120_check_${plant} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(sm120_check_${plant} PRIVATE nvfp4_static)
  set_target_properties(sm120_check_${plant} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME sm120/check_${plant} COMMAND sm120_check_${plant})
endforeach()

# 2. The device code with the instruction emulated, as a plug-in for GPUs that lack it (docs/hardware.md); here on the mock driver, which simulates thread blocks.
nvfp4_device_code(${CMAKE_CURRENT_SOURCE_DIR}/sm120/sm120_emulated.cu sm120_emulated)
add_library(sm120_emulated MODULE ${CMAKE_CURRENT_SOURCE_DIR}/sm120/plugin.c ${sm120_emulated})
target_include_directories(sm120_emulated PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(sm120_emulated PRIVATE nvfp4_static nvfp4_warnings)
set_target_properties(sm120_emulated PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME checkkern/sm120_emulated COMMAND checkkern --plugins $<TARGET_FILE:sm120_emulated> -k plugin_sm120_emulated_w4a4 --sparse 60 --timeout 120)
set_tests_properties(checkkern/sm120_emulated PROPERTIES ENVIRONMENT LD_LIBRARY_PATH=${NVFP4_MOCK_FOLDER})

# 3. The machine code, where the CUDA toolkit has its disassembler.
find_program(NVFP4_CUOBJDUMP cuobjdump HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin PATHS /usr/local/cuda)
if(NVFP4_CUOBJDUMP AND NOT NVFP4_CUDA_MISSING AND NOT NVFP4_CUDA_MISSING_sm120_w4a4)
  add_test(NAME sm120/sass COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/sm120/sass.py ${NVFP4_CUOBJDUMP} ${CMAKE_BINARY_DIR}/generated/sm120_w4a4.fatbin)
endif()
