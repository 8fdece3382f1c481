# SPDX-License-Identifier: Apache-2.0
# isa -> the processor it is built for (CMAKE_SYSTEM_PROCESSOR, a regular expression) and its compiler flags. One row an isa.
set(NVFP4_ISA_any_PROCESSOR ".*")
set(NVFP4_ISA_any_FLAGS "")
