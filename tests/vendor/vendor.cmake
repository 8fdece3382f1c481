# SPDX-License-Identifier: Apache-2.0
# What vendors' libraries answer on the GPU that is there (docs/hardware.md). Here: that the program asks them, and prints a refusal as one.
add_executable(vendor_refusals ${CMAKE_CURRENT_SOURCE_DIR}/vendor/refusals.c)
target_link_libraries(vendor_refusals PRIVATE nvfp4_static)
set_target_properties(vendor_refusals PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
add_test(NAME vendor/refusals COMMAND vendor_refusals)
set_tests_properties(vendor/refusals PROPERTIES ENVIRONMENT "${NVFP4_MOCK_VENDOR_ENVIRONMENT};MOCK_CUDA=sm=90;MOCK_CUBLASLT=refuse=status;MOCK_CUDNN=refuse"
  PASS_REGULAR_EXPRESSION "vendor_cublaslt_w4a4 +cuBLASLt 13.1.0 has no NVFP4 product for this GPU.*vendor_cudnn_w4a4 +cuDNN 9.19.0 has no NVFP4 product for this GPU")
