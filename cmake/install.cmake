# SPDX-License-Identifier: Apache-2.0
# make install: headers, libraries, the command, nvfp4.pc, nvfp4Config.cmake.
install(FILES include/nvfp4/nvfp4.h include/nvfp4/kernel.h include/nvfp4/quantize.h include/nvfp4/convert.h include/nvfp4/model.h include/nvfp4/bench.h include/nvfp4/inspect.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/nvfp4)
install(TARGETS nvfp4_shared EXPORT nvfp4Targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET nvfp4_tool)
  install(TARGETS nvfp4_tool RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(EXPORT nvfp4Targets NAMESPACE nvfp4:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nvfp4)

include(CMakePackageConfigHelpers)
configure_package_config_file(cmake/nvfp4Config.cmake.in ${CMAKE_BINARY_DIR}/nvfp4Config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nvfp4)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/nvfp4ConfigVersion.cmake COMPATIBILITY SameMinorVersion)
configure_file(cmake/nvfp4.pc.in ${CMAKE_BINARY_DIR}/nvfp4.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/nvfp4Config.cmake ${CMAKE_BINARY_DIR}/nvfp4ConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/nvfp4)
install(FILES ${CMAKE_BINARY_DIR}/nvfp4.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
