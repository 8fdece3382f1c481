# SPDX-License-Identifier: Apache-2.0
# The AMX kernels over emulated tiles, as plug-ins, through checkkern: on any processor with AVX-512; elsewhere checkkern skips them.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "${NVFP4_ISA_amx_int8_PROCESSOR}")
  foreach(name amx_w4a4 amxbf16_w4a4 amxbf16k16_w4a4 amxbf16_w4a16)
    set(target emulated_${name})
    add_library(${target} MODULE ${CMAKE_CURRENT_SOURCE_DIR}/plugins/amx_emulated.c)
    target_compile_definitions(${target} PRIVATE EMULATED_SOURCE="kernels/x86/${name}.c"
      EMULATED_KERNEL=nvfp4_kernel_x86_${name} EMULATED_ID="plugin_emulated_${name}")
    target_compile_options(${target} PRIVATE ${NVFP4_ISA_avx512_FLAGS})
    target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_link_libraries(${target} PRIVATE nvfp4_static nvfp4_warnings)
    set_target_properties(${target} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME checkkern/${target} COMMAND checkkern --plugins $<TARGET_FILE:${target}> -k plugin_emulated_${name} --timeout 120)
    # More rows than a task has, and ragged tails of everything.
    add_test(NAME checkkern/${target}_tasks COMMAND checkkern --plugins $<TARGET_FILE:${target}> -k plugin_emulated_${name} --timeout 120
      --replay "m=277 n=649 k=1040 x=bf16 bias=f16 threads=2 seed=3")
  endforeach()
endif()
