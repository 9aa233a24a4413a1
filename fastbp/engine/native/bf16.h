/* Products whose operands are rounded to bfloat16: the second, narrow table of kernels.
 *
 * One `fb_bf16` table per way a processor has of multiplying bfloat16 (a "path"). Sums stay float32.
 * No kernel allocates or knows a thread; none is reached where `matmul_precision` is "highest".
 * What is rounded are the panels of kernels.h in float32, S[p][i][16] (P = 16); what comes of them
 * are operands, matrices of bfloat16 (uint16_t) in the order in which a product reads them:
 *   rows     left operand of `product`:         A[q][i][32]       = S(i, 32 q + j)
 *   pairs    right operand of every product:    B[p][i / 2][16][2] = S(i + h, 16 p + n)
 *   across   right operand, of S^T:             B[i / 16][n / 2][16][2] = S(i + r, n + h)
 *   left     left operand of `weight_gradient`: L[p][i / 32][512], the 16 columns of 32 rows: as
 *            [16][32], columns first, for tiles; as in `pairs` for vectors
 * Everything past the last row or column that a product reads is 0 in the operand.
 *
 * Precision (`terms`): 1, "medium", an operand is the nearest bfloat16 x1 of x. 2, "high": x1 and
 * x2, the nearest of x - x1, and the product is x1 y1 + x1 y2 + x2 y1 (Henry, Tang and Heinecke,
 * arXiv 1904.06376). A panel of an operand then holds its term x1 and, half a panel further, x2.
 *
 * Rounding: to nearest, ties to even; subnormal numbers are taken as 0, in sums and products too;
 * NaN and infinity stay (in "high" x2 of an infinity is NaN: not finite either way).
 *
 * Bits. Tiles: a sum starts from the bias (or 0, or what is there) and goes up in steps of 32 k;
 * a step adds (sum of its even k) + (sum of its odd k), each a chain of fused multiply-adds from 0;
 * in "high" the three products of a step one after the other. Vectors: one chain, each pair of k
 * with its odd one first, all fused. So they depend on where k is cut into 32s alone: never on
 * tiles, blocks of rows or threads. Both orders are those of the hardware: tdpbf16ps of an Intel
 * Xeon (measured 2026-11-29), vdpbf16ps of an AMD Zen 4 (2026-11-30: 3.2e6 of 3.2e6 results). */
#ifndef FASTBP_BF16_H
#define FASTBP_BF16_H

#include <stdint.h>
#include <string.h>

enum { FB_BF16_ROWS = 32 }; /* of a step of tiles */

typedef struct {
    const char *path;
    /* From where it pays off, for 1 and 2 terms: MFLOP of a step's products (negative: never), and
     * rows of a minibatch. And how many inputs a layer must have: few of them fill no step. */
    double least_work[2];
    int64_t least_rows, least_inputs;
    double times_as_fast[2]; /* about, of a step: fewer threads then pay off */
    int64_t strip;           /* panels of a unit of weights: the width of its weight gradient's tile */
    int64_t group;           /* shares of rows begin at multiples of it: 16, or a step's 32 */

    /* Around all that a thread computes here: the tile registers, where there are any. */
    void (*begin)(void);
    void (*end)(void);

    /* S IN, n_panels of them s_panel apart; the operand OUT, its panels a_panel apart (each of them
     * `terms` long). Rows from `rows` up to `padded` (even) become 0. */
    void (*round_rows)(const float *s, int64_t s_panel, int64_t rows, int64_t n_panels, uint16_t *a,
                       int64_t a_panel, int terms);
    void (*round_pairs)(const float *s, int64_t s_panel, int64_t rows, int64_t padded,
                        int64_t n_panels, uint16_t *b, int64_t b_panel, int terms);
    void (*round_across)(const float *s, int64_t s_panel, int64_t rows, int64_t n_panels,
                         uint16_t *b, int64_t b_panel, int terms);
    void (*round_left)(const float *s, int64_t s_panel, int64_t rows, int64_t padded,
                       int64_t n_panels, uint16_t *l, int64_t l_panel, int terms);

    /* C[i, :] = bias + sum_k A[i, k] B[k, :], then the epilogue (kernels.h); A rows IN, B pairs or
     * across IN, C panels OUT, rows 16 apart; gate IN, laid out as C. bias NULL: 0 */
    void (*product)(const uint16_t *a, int64_t a_panel, const uint16_t *b, int64_t b_panel,
                    const float *bias, float *c, int64_t c_panel, const float *gate, int epilogue,
                    int64_t rows, int64_t n_k, int64_t n_panels, int terms);
    /* G[k, :] (+)= sum_i A[i, k] D[i, :]; A left IN, D pairs IN, G panels OUT */
    void (*weight_gradient)(const uint16_t *a, int64_t a_panel, const uint16_t *d, int64_t d_panel,
                            float *g, int64_t g_panel, int64_t rows, int64_t n_k, int64_t n_panels,
                            int accumulate, int terms);
} fb_bf16;

/* bf16.c: the paths that run here, best first; the last one is "emulation", which is never chosen
 * unasked. */
int fb_n_bf16_paths(void);
const fb_bf16 *fb_bf16_path(int index);
int fb_bf16_is_fast(int index);          /* whether it is taken unasked */
int fb_bf16_is_allowed(const fb_bf16 *); /* asks the system for what a path needs, once a process */

/* bf16_amx.c */
int fb_amx_is_allowed(void);

static inline float fb_flushed(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    if (!(u & 0x7f800000u))
        u &= 0x80000000u;
    memcpy(&x, &u, 4);
    return x;
}

static inline uint16_t fb_to_bf16(float x)
{
    uint32_t u;
    x = fb_flushed(x);
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline float fb_from_bf16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, 4);
    return fb_flushed(x);
}

#endif
