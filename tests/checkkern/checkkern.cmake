# SPDX-License-Identifier: Apache-2.0
# checkkern: proves and times every kernel. Its wrong kernels, a plug-in, are what it must fail.
file(GLOB checkkern_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/checkkern/*.c)
list(REMOVE_ITEM checkkern_sources ${CMAKE_CURRENT_SOURCE_DIR}/checkkern/checkkern.c)
add_library(checkkern_objects OBJECT ${checkkern_sources})
target_link_libraries(checkkern_objects PUBLIC nvfp4_static)
add_executable(checkkern checkkern/checkkern.c)
target_link_libraries(checkkern PRIVATE checkkern_objects)
if(TARGET test_kernels_cuda_sm90_choice) # whether its cases reach all of Hopper's kernels
  target_include_directories(test_kernels_cuda_sm90_choice PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(test_kernels_cuda_sm90_choice PRIVATE checkkern_objects)
endif()
add_test(NAME checkkern COMMAND checkkern WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})

foreach(plugin wrong wrong_well_behaved)
  add_library(checkkern_${plugin} MODULE ${CMAKE_CURRENT_SOURCE_DIR}/checkkern/wrong/wrong.c)
  target_include_directories(checkkern_${plugin} PRIVATE ${CMAKE_SOURCE_DIR}/include)
  target_link_libraries(checkkern_${plugin} PRIVATE nvfp4_warnings m)
  set_target_properties(checkkern_${plugin} PROPERTIES PREFIX "" OUTPUT_NAME ${plugin} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
endforeach()
target_compile_definitions(checkkern_wrong_well_behaved PRIVATE ONLY_WELL_BEHAVED)
add_test(NAME checkkern/wrong_kernels COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/checkkern/wrong/check.py
  $<TARGET_FILE:checkkern_wrong> ${CMAKE_CROSSCOMPILING_EMULATOR} $<TARGET_FILE:checkkern>)

# GPU kernels on the mock driver: that checkkern drives them. What proves them is a GPU.
add_test(NAME checkkern/mock_cuda COMMAND checkkern -k cuda_emulation_* --sparse 20)
set_tests_properties(checkkern/mock_cuda PROPERTIES ENVIRONMENT LD_LIBRARY_PATH=${NVFP4_MOCK_FOLDER})
add_test(NAME checkkern/mock_vendor COMMAND checkkern -k vendor_* --sparse 15)
set_tests_properties(checkkern/mock_vendor PROPERTIES ENVIRONMENT "${NVFP4_MOCK_VENDOR_ENVIRONMENT};MOCK_CUDA=sm=100")
