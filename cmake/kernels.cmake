# SPDX-License-Identifier: Apache-2.0
# Reads src/kernels/kernels.def: picks sources and flags, and writes generated/kernels_built.def, in which every line says
# NVFP4_KERNEL_BUILT(id) or NVFP4_KERNEL_NOT_BUILT(id, "reason").
include(isa_flags)

set(nvfp4_def ${CMAKE_SOURCE_DIR}/src/kernels/kernels.def)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${nvfp4_def})
file(STRINGS ${nvfp4_def} nvfp4_lines REGEX "^NVFP4_KERNEL\\(")

set(NVFP4_KERNEL_SOURCES "")
set(nvfp4_built "")
foreach(line IN LISTS nvfp4_lines)
  if(NOT line MATCHES "^NVFP4_KERNEL\\(([a-z0-9_]+), ([a-z]+), ([a-z0-9_]+)\\)$")
    message(FATAL_ERROR "kernels.def: cannot read the line: ${line}")
  endif()
  set(id ${CMAKE_MATCH_1})
  set(isa ${CMAKE_MATCH_3})
  string(REGEX REPLACE "^([a-z0-9]+)_(.*)$" "\\1/\\2" path ${id})
  set(source ${CMAKE_SOURCE_DIR}/src/kernels/${path}.c)
  if(NOT EXISTS ${source})
    message(FATAL_ERROR "kernels.def: ${id} needs the file ${source}")
  endif()
  if(NOT DEFINED NVFP4_ISA_${isa}_PROCESSOR)
    message(FATAL_ERROR "kernels.def: ${id} names isa '${isa}', which cmake/isa_flags.cmake does not have")
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "${NVFP4_ISA_${isa}_PROCESSOR}")
    list(APPEND NVFP4_KERNEL_SOURCES ${source})
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${NVFP4_ISA_${isa}_FLAGS}")
    string(APPEND nvfp4_built "NVFP4_KERNEL_BUILT(${id})\n")
  else()
    string(APPEND nvfp4_built
      "NVFP4_KERNEL_NOT_BUILT(${id}, \"this build is for ${CMAKE_SYSTEM_PROCESSOR}\")\n")
  endif()
endforeach()
# Sources that kernels of a folder share: layouts and helpers.
file(GLOB nvfp4_shared_kernel_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/ref/*.c)
list(APPEND NVFP4_KERNEL_SOURCES ${nvfp4_shared_kernel_sources})
list(REMOVE_DUPLICATES NVFP4_KERNEL_SOURCES)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/kernels_built.def CONTENT "${nvfp4_built}")
