# SPDX-License-Identifier: Apache-2.0
# Embeds machines/NAME.txt: generated/machines.inc holds one {"NAME", "text"} a file, in alphabetical order.
file(GLOB nvfp4_machine_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/machines/*.txt)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${nvfp4_machine_files})
set(nvfp4_machines "")
foreach(file IN LISTS nvfp4_machine_files)
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} text)
  string(REPLACE "\\" "\\\\" text "${text}")
  string(REPLACE "\"" "\\\"" text "${text}")
  string(REPLACE "\n" "\\n\"\n \"" text "${text}")
  string(APPEND nvfp4_machines "{\"${name}\",\n \"${text}\"},\n")
endforeach()
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/machines.inc CONTENT "${nvfp4_machines}" @ONLY)
