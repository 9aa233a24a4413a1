/* The path "avx512_bf16": vdpbf16ps, which adds two products to each of 16 sums, in one term
 * ("medium"). AMD's processors have it at twice the rate of float32 (Zen 4, measured 2026-11-30),
 * Intel's at half of it: there it runs only when asked for by name.
 *
 * A pair of bfloat16 fills the place of a float32, so the products are product.h and gradient.h with
 * another multiply-add; pairs pass as float32 that nothing computes with. */
#include "kernels.h"
#include "bf16.h"
#include <float.h>
#include <math.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")
#endif

/* Of product.h and gradient.h the narrow products stay unused. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define ISA pairs
#include "bf16_avx512.h"
#define MULTIPLY_ADD(sum, s, row)                                                                  \
    sum = (vec)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)_mm512_set1_ps(s), (__m512bh)(row))
#include "product.h"
#include "gradient.h"

static void vector_product(const uint16_t *a, int64_t a_panel, const uint16_t *b, int64_t b_panel,
                           const float *bias, float *c, int64_t c_panel, const float *gate,
                           int epilogue, int64_t rows, int64_t n_k, int64_t n_panels, int terms)
{
    (void)terms;
    NAME(product)(a, a_panel / 2, 0, b, P, b_panel / 2, bias, c, c_panel, gate, epilogue, rows,
                  (n_k + 1) / 2, n_panels);
}

static void vector_weight_gradient(const uint16_t *a, int64_t a_panel, const uint16_t *d,
                                   int64_t d_panel, float *g, int64_t g_panel, int64_t rows,
                                   int64_t n_k, int64_t n_panels, int accumulate, int terms)
{
    (void)terms;
    NAME(weight_gradient)(a, a_panel / 2, d, d_panel / 2, g, g_panel, NULL, (rows + 1) / 2, n_k,
                          n_panels, accumulate);
}

static void nothing(void) {}

const fb_bf16 fb_bf16_vectors = {
    .path = "avx512_bf16",
    .least_work = {0.5, -1},
    .least_rows = 16,
    .least_inputs = 8,
    .times_as_fast = {1.6, 1},
    .strip = 3,
    .group = 16,
    .begin = nothing,
    .end = nothing,
    .round_rows = vector_round_rows,
    .round_pairs = vector_round_pairs,
    .round_across = vector_round_across,
    .round_left = vector_round_pairs,
    .product = vector_product,
    .weight_gradient = vector_weight_gradient,
};

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
