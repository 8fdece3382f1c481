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
