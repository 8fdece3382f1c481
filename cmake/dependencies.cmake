# SPDX-License-Identifier: Apache-2.0
# jansson (JSON), pthreadpool (threads), PCRE2 (regular expressions), cmocka (tests). scripts/bootstrap installs them.
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
