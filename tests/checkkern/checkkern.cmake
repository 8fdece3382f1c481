# SPDX-License-Identifier: Apache-2.0
# checkkern: proves and times every kernel. Its wrong kernels, a plug-in, are what it must fail.
file(GLOB checkkern_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/checkkern/*.c)
add_executable(checkkern ${checkkern_sources})
target_link_libraries(checkkern PRIVATE nvfp4_static)
add_test(NAME checkkern COMMAND checkkern WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
