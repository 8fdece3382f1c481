# SPDX-License-Identifier: Apache-2.0
# isa -> the processor it is built for (CMAKE_SYSTEM_PROCESSOR, a regular expression) and its compiler flags. One row an isa.
set(NVFP4_ISA_any_PROCESSOR ".*")
set(NVFP4_ISA_any_FLAGS "")

# AArch64; NEON is in its baseline.
set(NVFP4_ISA_neon_PROCESSOR "^(aarch64|arm64)$")
set(NVFP4_ISA_neon_FLAGS "")
set(NVFP4_ISA_dotprod_PROCESSOR "^(aarch64|arm64)$")
set(NVFP4_ISA_dotprod_FLAGS "-march=armv8.2-a+dotprod")
set(NVFP4_ISA_i8mm_PROCESSOR "^(aarch64|arm64)$")
set(NVFP4_ISA_i8mm_FLAGS "-march=armv8.2-a+i8mm")
