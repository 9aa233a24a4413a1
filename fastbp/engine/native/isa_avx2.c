/* Kernels for x86-64 with AVX2 and FMA. The target is set for this file alone; cpu.c calls into it
 * only where the processor and the operating system agree. */
#include "kernels.h"
#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

#define SQRT_F32(v) _mm256_sqrt_ps((__m256)(v))
#define SQRT_F64(v) _mm256_sqrt_pd((__m256d)(v))
#define VBYTES 32
#define ISA avx2
#define ISA_NAME "avx2"
#include "isa.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
