# SPDX-License-Identifier: Apache-2.0
# The plug-ins of plugins/, on the mock driver, with mocks of what they call.
add_library(mock_flashinfer MODULE ${CMAKE_CURRENT_SOURCE_DIR}/plugins/flashinfer_mock.c ${CMAKE_CURRENT_SOURCE_DIR}/mock/fp4_product.c)
target_include_directories(mock_flashinfer PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/plugins)
target_link_libraries(mock_flashinfer PRIVATE nvfp4_static mock_cuda nvfp4_warnings)
set_target_properties(mock_flashinfer PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

function(nvfp4_add_plugin_test name)
  add_executable(test_plugin_${name} ${CMAKE_CURRENT_SOURCE_DIR}/plugins/test_${name}.c ${CMAKE_CURRENT_SOURCE_DIR}/plugins/plugin_support.c)
  target_include_directories(test_plugin_${name} PRIVATE ${CMAKE_SOURCE_DIR}/plugins)
  target_link_libraries(test_plugin_${name} PRIVATE test_support)
  set_target_properties(test_plugin_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME plugins/${name} COMMAND test_plugin_${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  # With the mock libraries of vendors: the real ones leak where there is no real driver.
  set_tests_properties(plugins/${name} PROPERTIES ENVIRONMENT LD_LIBRARY_PATH=${NVFP4_MOCK_VENDOR_FOLDER}:${NVFP4_MOCK_FOLDER})
endfunction()

nvfp4_add_plugin_test(flashinfer)
target_compile_definitions(test_plugin_flashinfer PRIVATE PLUGIN="$<TARGET_FILE:plugin_flashinfer>" MOCK="$<TARGET_FILE:mock_flashinfer>")
add_dependencies(test_plugin_flashinfer plugin_flashinfer mock_flashinfer)

# plugin.c of the CUTLASS plug-in with a mock in the place of gemm.cu.
add_library(mock_plugin_cutlass MODULE ${CMAKE_SOURCE_DIR}/plugins/cutlass/plugin.c ${CMAKE_CURRENT_SOURCE_DIR}/plugins/cutlass_mock.c
  ${CMAKE_CURRENT_SOURCE_DIR}/mock/fp4_product.c)
target_include_directories(mock_plugin_cutlass PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/plugins)
target_link_libraries(mock_plugin_cutlass PRIVATE nvfp4_static mock_cuda nvfp4_warnings)
set_target_properties(mock_plugin_cutlass PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
nvfp4_add_plugin_test(cutlass)
target_compile_definitions(test_plugin_cutlass PRIVATE PLUGIN="$<TARGET_FILE:mock_plugin_cutlass>")
add_dependencies(test_plugin_cutlass mock_plugin_cutlass)

# It compares our declarations with TVM-FFI's, if they are there: NVFP4_TVM_FFI is the folder tvm_ffi/include of Python's package apache-tvm-ffi.
nvfp4_add_plugin_test(tvm_ffi)
find_path(NVFP4_TVM_FFI tvm/ffi/c_api.h)
if(NVFP4_TVM_FFI)
  target_include_directories(test_plugin_tvm_ffi SYSTEM PRIVATE ${NVFP4_TVM_FFI})
endif()

# The same through checkkern: a part of its cases; of FlashInfer, whose workspace is large, a smaller one.
add_test(NAME checkkern/mock_plugin_cutlass COMMAND checkkern --plugins $<TARGET_FILE:mock_plugin_cutlass> -k plugin_cutlass_w4a4 --sparse 8)
add_test(NAME checkkern/mock_plugin_flashinfer COMMAND checkkern --plugins $<TARGET_FILE:plugin_flashinfer> -k plugin_flashinfer_*_w4a4 --sparse 60)
set_tests_properties(checkkern/mock_plugin_cutlass checkkern/mock_plugin_flashinfer PROPERTIES ENVIRONMENT
  "LD_LIBRARY_PATH=${NVFP4_MOCK_VENDOR_FOLDER}:${NVFP4_MOCK_FOLDER};MOCK_CUDA=sm=100;NVFP4_FLASHINFER_TVM_FFI=$<TARGET_FILE:mock_flashinfer>;NVFP4_FLASHINFER_MODULE=$<TARGET_FILE:mock_flashinfer>;NVFP4_FLASHINFER_CUBINS=/")
