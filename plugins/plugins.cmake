# SPDX-License-Identifier: Apache-2.0
# Plug-ins: each is a shared object that is built against the public headers alone and links nothing of the library. docs/hardware.md says how to make and use them.
function(nvfp4_add_plugin name)
  add_library(plugin_${name} MODULE ${ARGN})
  target_include_directories(plugin_${name} PRIVATE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/plugins)
  target_link_libraries(plugin_${name} PRIVATE nvfp4_warnings Threads::Threads ${CMAKE_DL_LIBS})
  set_target_properties(plugin_${name} PROPERTIES PREFIX "" OUTPUT_NAME nvfp4_plugin_${name} LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/plugins)
  install(TARGETS plugin_${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/nvfp4)
endfunction()

# FlashInfer: plain C over the C ABI of modules that the user gives; it needs nothing to be built.
nvfp4_add_plugin(flashinfer plugins/flashinfer/plugin.c plugins/flashinfer/modules.c plugins/flashinfer/trtllm_layout.c)

# CUTLASS: C++ templates of NVIDIA's, one tile for each family of GPUs and type of y. On request: some 2 minutes and 4 GB a file.
option(NVFP4_PLUGIN_CUTLASS "Build the CUTLASS plug-in (needs nvcc 12.9 or newer and CUTLASS's headers)" OFF)
if(NVFP4_PLUGIN_CUTLASS)
  find_path(NVFP4_CUTLASS cutlass/cutlass.h DOC "Folder of CUTLASS's headers: cutlass_library/source/include of Python's package nvidia-cutlass")
  if(NOT NVFP4_CUTLASS)
    message(FATAL_ERROR "NVFP4_PLUGIN_CUTLASS=ON needs -DNVFP4_CUTLASS=.../cutlass_library/source/include of Python's package nvidia-cutlass (pip download --no-deps nvidia-cutlass)")
  endif()
  if(NVFP4_CUDA_MISSING)
    message(FATAL_ERROR "NVFP4_PLUGIN_CUTLASS=ON: ${NVFP4_CUDA_MISSING}")
  endif()
  execute_process(COMMAND ${NVFP4_NVCC} --list-gpu-arch OUTPUT_VARIABLE nvfp4_output)
  if(NOT nvfp4_output MATCHES "compute_103")
    message(FATAL_ERROR "NVFP4_PLUGIN_CUTLASS=ON needs nvcc 12.9 or newer, which knows families of GPUs (sm_100f); found: ${NVFP4_CUDA_BUILD}")
  endif()
  get_filename_component(nvfp4_cuda_root ${NVFP4_NVCC} REALPATH)
  cmake_path(GET nvfp4_cuda_root PARENT_PATH nvfp4_cuda_root)
  cmake_path(GET nvfp4_cuda_root PARENT_PATH nvfp4_cuda_root)
  find_library(NVFP4_CUDART cudart_static HINTS ${nvfp4_cuda_root} ENV CUDA_HOME PATH_SUFFIXES lib64 PATHS /usr/local/cuda REQUIRED)
  find_path(NVFP4_CCCL cuda/std/version HINTS ${nvfp4_cuda_root} ENV CUDA_HOME PATH_SUFFIXES include/cccl include PATHS /usr/local/cuda REQUIRED)
  set(nvfp4_objects "")
  foreach(sm 100 120)
    foreach(y 0 1)
      set(object ${CMAKE_BINARY_DIR}/plugins/cutlass_gemm_${sm}_${y}.o)
      list(APPEND nvfp4_objects ${object})
      add_custom_command(OUTPUT ${object} DEPENDS plugins/cutlass/gemm.cu plugins/cutlass/gemm.h
        COMMAND ${NVFP4_NVCC} -c -std=c++17 -O2 -DNDEBUG --expt-relaxed-constexpr -gencode=arch=compute_${sm}f,code=sm_${sm}f
        -DNVFP4_SM=${sm} -DNVFP4_Y_BF16=${y} -Xcompiler=-fPIC,-fvisibility=hidden -Xfatbin=-compress-all -I${CMAKE_SOURCE_DIR}/plugins
        -isystem ${NVFP4_CUTLASS} -isystem ${NVFP4_CUTLASS}/../tools/util/include -isystem ${NVFP4_CCCL} -o ${object} ${CMAKE_SOURCE_DIR}/plugins/cutlass/gemm.cu
        COMMENT "nvcc gemm.cu, sm_${sm}f" VERBATIM)
    endforeach()
  endforeach()
  nvfp4_add_plugin(cutlass plugins/cutlass/plugin.c ${nvfp4_objects})
  target_link_libraries(plugin_cutlass PRIVATE ${NVFP4_CUDART} stdc++ rt)
endif()
