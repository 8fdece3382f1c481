/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Function clones for newer x86-64 processors, chosen by the loader (ifunc). For loops in plain C that the compiler vectorises: the source is the same, so
 * are the bits. fmaf without FMA is a call into libm: there the clones matter most.
 * Names must differ between files even of static functions: clang 14 gives their resolvers external linkage.
 * Sanitizers instrument the resolvers, which run before their runtime is ready: no clones then.
 */
#ifndef NVFP4_BASE_CLONES_H
#define NVFP4_BASE_CLONES_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NVFP4_NO_CLONES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define NVFP4_NO_CLONES 1
#endif
#endif

#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && !defined(NVFP4_NO_CLONES)
#define NVFP4_CLONES_AVX2 __attribute__((target_clones("avx2", "default")))
#define NVFP4_CLONES_FMA __attribute__((target_clones("avx512f", "fma", "default")))
#else
#define NVFP4_CLONES_AVX2
#define NVFP4_CLONES_FMA
#endif

#endif
