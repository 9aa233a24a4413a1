/* Kernels for x86-64 with AVX-512 (F, BW, DQ, VL: every part since Skylake-SP). The target is set for
 * this file alone; cpu.c calls into it only where the processor and the operating system agree. */
#include "kernels.h"
#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

#define SQRT_F32(v) _mm512_sqrt_ps((__m512)(v))
#define SQRT_F64(v) _mm512_sqrt_pd((__m512d)(v))
#define RSQRT_F32(v) _mm512_rsqrt14_ps((__m512)(v))
#define RSQRT_F64(v) _mm512_rsqrt14_pd((__m512d)(v))
#define RCP_F32(v) _mm512_rcp14_ps((__m512)(v))
#define RCP_F64(v) _mm512_rcp14_pd((__m512d)(v))
#define VBYTES 64
#define ISA avx512
#define ISA_NAME "avx512"
#include "isa.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
