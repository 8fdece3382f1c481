# SPDX-License-Identifier: Apache-2.0
# jansson (JSON), pthreadpool (threads), PCRE2 (regular expressions), cmocka (tests); OpenBLAS with LAPACKE (GPTQ), optional. scripts/bootstrap installs them.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.11)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8>=10.30)

# pthreadpool ships no pkg-config file in Debian.
find_path(PTHREADPOOL_INCLUDE_DIR pthreadpool.h REQUIRED)
find_library(PTHREADPOOL_LIBRARY pthreadpool REQUIRED)

add_library(nvfp4_dependencies INTERFACE)
target_include_directories(nvfp4_dependencies SYSTEM INTERFACE ${PTHREADPOOL_INCLUDE_DIR})
target_link_libraries(nvfp4_dependencies INTERFACE
  PkgConfig::JANSSON PkgConfig::PCRE2 ${PTHREADPOOL_LIBRARY} Threads::Threads ${CMAKE_DL_LIBS} m)

option(NVFP4_LAPACK "Build the quantiser's GPTQ if OpenBLAS and LAPACKE are there" ON)
if(NVFP4_LAPACK)
  pkg_check_modules(OPENBLAS IMPORTED_TARGET openblas)
  pkg_check_modules(LAPACKE IMPORTED_TARGET lapacke)
endif()
if(OPENBLAS_FOUND AND LAPACKE_FOUND)
  target_link_libraries(nvfp4_dependencies INTERFACE PkgConfig::LAPACKE PkgConfig::OPENBLAS)
  target_compile_definitions(nvfp4_dependencies INTERFACE NVFP4_LAPACK)
endif()
