# SPDX-License-Identifier: Apache-2.0
# Cross-build for 64-bit Arm, whose tests run under qemu. `scripts/bootstrap --arm` gets what it names:
#   cmake -G Ninja -S . -B build-aarch64 -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.toolchain.cmake
# Debian's cross compiler brings its own libc (/usr/aarch64-linux-gnu); jansson, PCRE2, pthreadpool and cmocka lie in .cache/aarch64/root.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

get_filename_component(nvfp4_arm_root "${CMAKE_CURRENT_LIST_DIR}/../.cache/aarch64/root" ABSOLUTE)
set(CMAKE_FIND_ROOT_PATH ${nvfp4_arm_root} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${nvfp4_arm_root}/usr/lib/aarch64-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${nvfp4_arm_root})

# QEMU_CPU in the environment is the processor that qemu plays: cortex-a72 has NEON alone, neoverse-n1 dotprod too; without it, everything.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
