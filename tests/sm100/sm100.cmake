# SPDX-License-Identifier: Apache-2.0
# cuda_sm100_w4a4 over emulated tensor memory, as a plug-in. On a Hopper GPU it runs; elsewhere, on the mock driver, its host side does, and the simulator:
#   checkkern --plugins build/tests/sm100_emulated.so -k plugin_sm100_emulated_w4a4
nvfp4_device_code(${CMAKE_CURRENT_SOURCE_DIR}/sm100/sm100_emulated.cu sm100_emulated)
add_library(sm100_emulated MODULE ${CMAKE_CURRENT_SOURCE_DIR}/sm100/plugin.c ${sm100_emulated})
target_include_directories(sm100_emulated PRIVATE ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(sm100_emulated PRIVATE nvfp4_static nvfp4_warnings)
set_target_properties(sm100_emulated PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME checkkern/sm100_emulated COMMAND checkkern --plugins $<TARGET_FILE:sm100_emulated> -k plugin_sm100_emulated_w4a4 --timeout 120
  --replay "m=37 n=130 k=1040 x=bf16 bias=f16 seed=3")
set_tests_properties(checkkern/sm100_emulated PROPERTIES ENVIRONMENT LD_LIBRARY_PATH=${NVFP4_MOCK_FOLDER})

# The machine code, where the CUDA toolkit has its disassembler (tests/sm120/sm120.cmake looks for it).
if(NVFP4_CUOBJDUMP AND NOT NVFP4_CUDA_MISSING AND NVFP4_CUDA_VERSION VERSION_GREATER_EQUAL 13.0)
  add_test(NAME sm100/sass COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/sm100/sass.py ${NVFP4_CUOBJDUMP} ${CMAKE_BINARY_DIR}/generated/sm100_w4a4.fatbin)
endif()
