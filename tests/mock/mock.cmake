# SPDX-License-Identifier: Apache-2.0
# The mock CUDA driver. Tests that need it get LD_LIBRARY_PATH=NVFP4_MOCK_FOLDER; without a GPU and without a toolkit they run what a GPU would run.
set(NVFP4_MOCK_FOLDER ${CMAKE_BINARY_DIR}/tests/mock)
add_library(mock_cuda SHARED ${CMAKE_CURRENT_SOURCE_DIR}/mock/libcuda.c ${CMAKE_CURRENT_SOURCE_DIR}/mock/kernels.c
  ${CMAKE_CURRENT_SOURCE_DIR}/sm120/simulate.c ${CMAKE_CURRENT_SOURCE_DIR}/sm100/simulate.c)
target_include_directories(mock_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/mock ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(mock_cuda PRIVATE nvfp4_static)
set_target_properties(mock_cuda PROPERTIES OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${NVFP4_MOCK_FOLDER})

# Mock libraries of NVIDIA's, in a folder of their own: libcublas, which the benchmarks use if it is there, would take the mock libcublasLt for its own.
set(NVFP4_MOCK_VENDOR_FOLDER ${NVFP4_MOCK_FOLDER}/vendor)
add_library(mock_cublaslt SHARED ${CMAKE_CURRENT_SOURCE_DIR}/mock/libcublasLt.c ${CMAKE_CURRENT_SOURCE_DIR}/mock/fp4_product.c)
target_include_directories(mock_cublaslt PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/mock)
target_link_libraries(mock_cublaslt PRIVATE nvfp4_static mock_cuda)
set_target_properties(mock_cublaslt PROPERTIES OUTPUT_NAME cublasLt SOVERSION 13 LIBRARY_OUTPUT_DIRECTORY ${NVFP4_MOCK_VENDOR_FOLDER})
add_library(mock_cudnn SHARED ${CMAKE_CURRENT_SOURCE_DIR}/mock/libcudnn.c ${CMAKE_CURRENT_SOURCE_DIR}/mock/fp4_product.c)
target_include_directories(mock_cudnn PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/mock)
target_link_libraries(mock_cudnn PRIVATE nvfp4_static mock_cuda)
set_target_properties(mock_cudnn PROPERTIES OUTPUT_NAME cudnn SOVERSION 9 LIBRARY_OUTPUT_DIRECTORY ${NVFP4_MOCK_VENDOR_FOLDER})

# A driver of which cuDNN believes that it is there, so that it makes plans for GPUs that are described to it.
set(NVFP4_MOCK_PLAN_FOLDER ${NVFP4_MOCK_FOLDER}/plans)
add_library(mock_plan_driver SHARED ${CMAKE_CURRENT_SOURCE_DIR}/mock/libcuda_plans.c)
target_link_libraries(mock_plan_driver PRIVATE nvfp4_warnings)
set_target_properties(mock_plan_driver PROPERTIES OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${NVFP4_MOCK_PLAN_FOLDER})
