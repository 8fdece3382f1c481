# SPDX-License-Identifier: Apache-2.0
# Device code. nvfp4_add_device_code(FILE.cu ...) compiles each file with nvcc to one compressed fatbin and puts it into the library as the array
# nvfp4_fatbin_FILE. No CUDA runtime and no C++ reach the library: the files hold device code alone. A line "// archs: sm_90a" near a file's top says for which GPUs it is compiled,
# separated by blanks; compute_N means PTX, which the driver compiles for GPUs that come later. Without such a line: sm_80 sm_90 compute_80.
# "// archs 12.9: sm_120f" is such a line for compilers from CUDA 12.9 on. There may be several, newest first; the first that fits counts. A compiler that is too old for all of them does not
# compile the file, and the kernel of its name is listed as not built.
# A line "// spills: " with the reason lets ptxas spill registers, which is an error elsewhere.
set(NVFP4_CUDA AUTO CACHE STRING "Device code for NVIDIA GPUs: AUTO (if nvcc works), ON, OFF")
set_property(CACHE NVFP4_CUDA PROPERTY STRINGS AUTO ON OFF)

set(NVFP4_CUDA_MISSING "") # why there is no device code; empty: there is
if(NVFP4_CUDA STREQUAL "OFF")
  set(NVFP4_CUDA_MISSING "CUDA kernels were switched off (NVFP4_CUDA=OFF); build with NVFP4_CUDA=ON")
elseif(CMAKE_CROSSCOMPILING AND NVFP4_CUDA STREQUAL "AUTO")
  set(NVFP4_CUDA_MISSING "this is a cross-build; build with NVFP4_CUDA=ON")
else()
  find_program(NVFP4_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin PATHS /usr/local/cuda)
  if(NOT NVFP4_NVCC)
    set(NVFP4_CUDA_MISSING "no CUDA compiler: nvcc was not found; install the CUDA toolkit, 12.0 or newer, and build again")
  elseif(NOT NVFP4_NVCC STREQUAL "${nvfp4_nvcc_tried}") # once: it takes a second
    file(WRITE ${CMAKE_BINARY_DIR}/generated/try.cu "extern \"C\" __global__ void nothing() {}\n")
    execute_process(COMMAND ${NVFP4_NVCC} -fatbin -gencode=arch=compute_90a,code=sm_90a -std=c++17 -o ${CMAKE_BINARY_DIR}/generated/try.fatbin
      ${CMAKE_BINARY_DIR}/generated/try.cu RESULT_VARIABLE nvfp4_result OUTPUT_VARIABLE nvfp4_output ERROR_VARIABLE nvfp4_output)
    if(nvfp4_result EQUAL 0)
      set(nvfp4_nvcc_tried ${NVFP4_NVCC} CACHE INTERNAL "the nvcc that compiles")
    else()
      message(STATUS "nvcc does not work: ${nvfp4_output}")
      set(NVFP4_CUDA_MISSING "no CUDA compiler: nvcc does not compile for sm_90a; install the CUDA toolkit, 12.0 or newer, with a C++ compiler that it takes")
    endif()
  endif()
  if(NVFP4_CUDA STREQUAL "ON" AND NVFP4_CUDA_MISSING)
    message(FATAL_ERROR "NVFP4_CUDA=ON: ${NVFP4_CUDA_MISSING}")
  endif()
endif()
if(NVFP4_CUDA_MISSING)
  set(NVFP4_CUDA_MAJOR 0)
  string(REPLACE ";" "," NVFP4_CUDA_BUILD "not built: ${NVFP4_CUDA_MISSING}") # a semicolon separates CMake's lists
else()
  execute_process(COMMAND ${NVFP4_NVCC} --version OUTPUT_VARIABLE nvfp4_output)
  string(REGEX MATCH "release (([0-9]+)[0-9.]*)" nvfp4_output "${nvfp4_output}")
  set(NVFP4_CUDA_VERSION ${CMAKE_MATCH_1})
  set(NVFP4_CUDA_MAJOR ${CMAKE_MATCH_2})
  set(NVFP4_CUDA_BUILD "nvcc ${NVFP4_CUDA_VERSION}")
endif()
message(STATUS "CUDA: ${NVFP4_CUDA_BUILD}")

# *out: a C file that holds the fatbin. NVFP4_CUDA_MISSING_FILE in the caller: why this compiler does not make it.
function(nvfp4_device_code source out)
  get_filename_component(name ${source} NAME_WE)
  set(fatbin ${CMAKE_BINARY_DIR}/generated/${name}.fatbin)
  set(c_file ${CMAKE_BINARY_DIR}/generated/fatbin_${name}.c)
  set(${out} ${c_file} PARENT_SCOPE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source}) # for the lines read here
  file(STRINGS ${source} lines REGEX "^// archs( [0-9.]+)?: ")
  if(NOT lines)
    set(lines "// archs: sm_80 sm_90 compute_80")
  endif()
  set(archs "")
  foreach(line IN LISTS lines)
    string(REGEX MATCH "^// archs ?([0-9.]*): (.*)$" line "${line}")
    set(needed "${CMAKE_MATCH_1}")
    if(NOT NVFP4_CUDA_MISSING AND NOT archs AND NVFP4_CUDA_VERSION VERSION_GREATER_EQUAL "0${needed}")
      string(REPLACE " " ";" archs "${CMAKE_MATCH_2}")
    endif()
  endforeach()
  if(archs)
    set(gencode "")
    foreach(arch IN LISTS archs)
      string(REGEX REPLACE "^(sm|compute)_" "compute_" virtual ${arch})
      list(APPEND gencode -gencode=arch=${virtual},code=${arch})
    endforeach()
    set(spills "-Xptxas=-warn-spills")
    file(STRINGS ${source} reason REGEX "^// spills: " LIMIT_COUNT 1)
    if(reason)
      set(spills "")
    endif()
    add_custom_command(OUTPUT ${fatbin} DEPENDS ${source} DEPFILE ${fatbin}.d
      COMMAND ${NVFP4_NVCC} -fatbin ${gencode} -std=c++17 -O3 -fmad=false -Xfatbin=-compress-all -Werror=all-warnings ${spills}
      -I${CMAKE_SOURCE_DIR}/include -I${CMAKE_SOURCE_DIR}/src -MD -MF ${fatbin}.d -o ${fatbin} ${source}
      COMMENT "nvcc ${name}.cu" VERBATIM)
  else()
    file(WRITE ${fatbin} "none") # the host side is compiled all the same
    if(NOT NVFP4_CUDA_MISSING)
      set(NVFP4_CUDA_MISSING_${name} "needs CUDA ${needed} or newer, and nvcc is of CUDA ${NVFP4_CUDA_VERSION}; install a newer toolkit and build again" PARENT_SCOPE)
    endif()
  endif()
  file(CONFIGURE OUTPUT ${c_file} CONTENT "/* generated by cmake/cuda.cmake */
__asm__(\".pushsection .rodata\\n.balign 64\\n.globl nvfp4_fatbin_${name}\\n.hidden nvfp4_fatbin_${name}\\n\"
        \"nvfp4_fatbin_${name}:\\n.incbin \\\"${fatbin}\\\"\\n.balign 8\\n.popsection\");
")
  set_source_files_properties(${c_file} PROPERTIES OBJECT_DEPENDS ${fatbin})
endfunction()

# Device code, and the host side of src/cuda and src/kernels/cuda, and of what calls vendors' libraries beside it; which of the kernels are listed is said by kernels.def.
file(GLOB nvfp4_device_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*/*.cu ${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.cu)
file(GLOB NVFP4_CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/cuda/*.c ${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.c
  ${CMAKE_SOURCE_DIR}/src/kernels/vendor/*.c)
foreach(source IN LISTS nvfp4_device_sources)
  nvfp4_device_code(${source} c_file)
  list(APPEND NVFP4_CUDA_SOURCES ${c_file})
endforeach()
