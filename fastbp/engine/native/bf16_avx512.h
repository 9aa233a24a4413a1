/* Rounding to the operands of bf16.h with AVX512_BF16, for bf16_amx.c and bf16_vectors.c.
 *
 * The instruction rounds as bf16.h says whatever the thread's float state is. Expects the target
 * pragma and ISA; vector.h is here for its NAME(transpose), by which 16 vectors of 16 dwords are
 * exchanged, and for the products of bf16_vectors.c. */
#define VBYTES 64
#define DTYPE f32
#define REAL float
#define REAL_BYTES 4
#define BITS int32_t
#define UBITS uint32_t
#include "names.h"
#include "vector.h"

/* A function of `terms`, which its body takes as a constant. */
#define BY_TERMS(body, ...) (terms == 1 ? body(1, __VA_ARGS__) : body(2, __VA_ARGS__))

/* Two vectors as 32 bfloat16, `first` in the lower half. */
INLINE __m512i narrowed(__m512 first, __m512 second)
{
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

/* 16 of them as float32. */
INLINE __m512 widened(__m256i half)
{
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
}

/* Both terms of 32 values: out[0] the nearest bfloat16, out[1] that of what is left. */
INLINE void both_terms(const int terms, __m512 first, __m512 second, __m512i *out)
{
    out[0] = narrowed(first, second);
    if (terms == 2)
        out[1] = narrowed(first - widened(_mm512_castsi512_si256(out[0])),
                          second - widened(_mm512_extracti64x4_epi64(out[0], 1)));
}

INLINE __m512 row_of(const float *s, int64_t i, int64_t rows)
{
    return i < rows ? _mm512_loadu_ps(s + i * 16) : _mm512_setzero_ps();
}

INLINE void rows_of(const int terms, const float *s, int64_t s_panel, int64_t rows,
                    int64_t n_panels, uint16_t *a, int64_t a_panel)
{
    for (int64_t p = 0; p < n_panels; p += 2, s += 2 * s_panel, a += a_panel) {
        const int64_t rows_of_second = p + 1 < n_panels ? rows : 0;
        for (int64_t i = 0; i < rows; i++) {
            __m512i values[2];
            both_terms(terms, _mm512_loadu_ps(s + i * 16), row_of(s + s_panel, i, rows_of_second),
                       values);
            UNROLL for (int term = 0; term < terms; term++)
                _mm512_storeu_si512(a + term * a_panel / 2 + i * 32, values[term]);
        }
    }
}

static void vector_round_rows(const float *s, int64_t s_panel, int64_t rows, int64_t n_panels,
                              uint16_t *a, int64_t a_panel, int terms)
{
    BY_TERMS(rows_of, s, s_panel, rows, n_panels, a, a_panel);
}

/* Rows i and i + 1 of a panel, value by value. */
INLINE void pair_of_rows(const int terms, const float *s, int64_t i, int64_t rows, __m512i *out)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                           8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    both_terms(terms, row_of(s, i, rows), row_of(s, i + 1, rows), out);
    UNROLL for (int term = 0; term < terms; term++)
        out[term] = _mm512_permutexvar_epi16(order, out[term]);
}

INLINE void pairs_of(const int terms, const float *s, int64_t s_panel, int64_t rows, int64_t padded,
                     int64_t n_panels, uint16_t *b, int64_t b_panel)
{
    for (int64_t p = 0; p < n_panels; p++, s += s_panel, b += b_panel)
        for (int64_t i = 0; i < padded; i += 2) {
            __m512i values[2];
            pair_of_rows(terms, s, i, rows, values);
            UNROLL for (int term = 0; term < terms; term++)
                _mm512_storeu_si512(b + term * b_panel / 2 + i * 16, values[term]);
        }
}

static void vector_round_pairs(const float *s, int64_t s_panel, int64_t rows, int64_t padded,
                               int64_t n_panels, uint16_t *b, int64_t b_panel, int terms)
{
    BY_TERMS(pairs_of, s, s_panel, rows, padded, n_panels, b, b_panel);
}

/* out[j][i] = in[i][j], dwords; the first n rows of `out`, which are 64 bytes apart. */
INLINE void store_transposed(const __m512i *in, uint16_t *out, int n)
{
    vec v[16];
    UNROLL for (int i = 0; i < 16; i++) v[i] = (vec)in[i];
    NAME(transpose)(v);
    UNROLL for (int j = 0; j < 16; j++)
        if (j < n)
            _mm512_storeu_si512(out + j * 32, (__m512i)v[j]);
}

INLINE void across_of(const int terms, const float *s, int64_t s_panel, int64_t rows,
                      int64_t n_panels, uint16_t *b, int64_t b_panel)
{
    for (int64_t k = 0; k < rows; k += 16, b += b_panel)
        for (int64_t p = 0; p < n_panels; p += 2) {
            const float *here = s + p * s_panel + k * 16;
            const int64_t left = rows - k, left_of_second = p + 1 < n_panels ? left : 0;
            __m512i values[2][16];
            UNROLL for (int i = 0; i < 16; i++)
            {
                __m512i both[2];
                both_terms(terms, row_of(here, i, left), row_of(here + s_panel, i, left_of_second),
                           both);
                UNROLL for (int term = 0; term < terms; term++) values[term][i] = both[term];
            }
            for (int term = 0; term < terms; term++)
                store_transposed(values[term], b + term * b_panel / 2 + p * 256,
                                 left_of_second ? 16 : 8);
        }
}

static void vector_round_across(const float *s, int64_t s_panel, int64_t rows, int64_t n_panels,
                                uint16_t *b, int64_t b_panel, int terms)
{
    BY_TERMS(across_of, s, s_panel, rows, n_panels, b, b_panel);
}
