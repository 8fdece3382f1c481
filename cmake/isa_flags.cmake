# SPDX-License-Identifier: Apache-2.0
# isa -> the processor it is built for (CMAKE_SYSTEM_PROCESSOR, a regular expression) and its compiler flags. One row an isa.
set(NVFP4_ISA_any_PROCESSOR ".*")
set(NVFP4_ISA_any_FLAGS "")
set(NVFP4_ISA_avx512_PROCESSOR "^(x86_64|AMD64|amd64)$")
set(NVFP4_ISA_avx512_FLAGS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma")
set(NVFP4_ISA_avx512vnni_PROCESSOR "^(x86_64|AMD64|amd64)$")
set(NVFP4_ISA_avx512vnni_FLAGS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mfma")
set(NVFP4_ISA_avx512bf16_PROCESSOR "^(x86_64|AMD64|amd64)$")
set(NVFP4_ISA_avx512bf16_FLAGS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mfma")
set(NVFP4_ISA_amx_int8_PROCESSOR "^(x86_64|AMD64|amd64)$")
set(NVFP4_ISA_amx_int8_FLAGS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-mamx-tile;-mamx-int8")
set(NVFP4_ISA_amx_bf16_PROCESSOR "^(x86_64|AMD64|amd64)$")
set(NVFP4_ISA_amx_bf16_FLAGS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mfma;-mamx-tile;-mamx-bf16")
set(NVFP4_ISA_avx2_PROCESSOR "^(x86_64|AMD64|amd64)$")
set(NVFP4_ISA_avx2_FLAGS "-mavx2;-mfma;-mf16c")
set(NVFP4_ISA_avxvnni_PROCESSOR "^(x86_64|AMD64|amd64)$")
set(NVFP4_ISA_avxvnni_FLAGS "-mavx2;-mfma;-mf16c;-mavxvnni")

# AArch64; NEON is in its baseline.
set(NVFP4_ISA_neon_PROCESSOR "^(aarch64|arm64)$")
set(NVFP4_ISA_neon_FLAGS "")
set(NVFP4_ISA_dotprod_PROCESSOR "^(aarch64|arm64)$")
set(NVFP4_ISA_dotprod_FLAGS "-march=armv8.2-a+dotprod")
set(NVFP4_ISA_i8mm_PROCESSOR "^(aarch64|arm64)$")
set(NVFP4_ISA_i8mm_FLAGS "-march=armv8.2-a+i8mm")

# NVIDIA GPUs, own kernels and those of libraries: the host side is plain C; whether there is device code is up to cmake/cuda.cmake.
set(NVFP4_ISA_cuda_PROCESSOR ".*")
set(NVFP4_ISA_cuda_FLAGS "")
