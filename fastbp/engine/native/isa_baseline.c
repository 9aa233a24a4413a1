/* Kernels for any processor: SSE2 on x86-64, NEON on aarch64, whatever the compiler makes of
 * 128-bit vectors elsewhere. */
#include "kernels.h"
#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__aarch64__)
#include <arm_neon.h>
#define SQRT_F32(v) vsqrtq_f32((float32x4_t)(v))
#define SQRT_F64(v) vsqrtq_f64((float64x2_t)(v))
#define ROWS_128 6 /* 32 registers */
#define ISA_NAME "neon"
#elif defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
#define SQRT_F32(v) _mm_sqrt_ps((__m128)(v))
#define SQRT_F64(v) _mm_sqrt_pd((__m128d)(v))
#define ROWS_128 3 /* 16 registers */
#define ISA_NAME "sse2"
#else
#define ROWS_128 3
#define ISA_NAME "generic"
#endif

#define VBYTES 16
#define ISA baseline
#include "isa.h"
