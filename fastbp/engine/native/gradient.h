/* Gradients of weights and biases: sums over the rows of a minibatch.
 *
 * Part of the template (see template.h). Each step over rows reads NP panels of one operand and
 * broadcasts MR elements of the other into a tile (see product.h). */

/* Rows of a minibatch that a weight-gradient tile takes at a time: 3 panels of D stay in L1. */
#define ROW_BLOCK 128

/* One tile of G (+)= sum_i scalars(i, 0..mr) x vectors(i, np panels). */
INLINE void NAME(gradient_tile)(const int mr, const int np, const REAL *scalar,
                                const int64_t scalar_row, const int64_t scalar_k,
                                const REAL *vector, int64_t vector_panel, REAL *g,
                                int64_t g_panel, int64_t rows, int accumulate)
{
    vec sum[16][GRAD_NP * NVP];
    UNROLL for (int k = 0; k < mr; k++) UNROLL for (int j = 0; j < np; j++)
        UNROLL for (int v = 0; v < NVP; v++) sum[k][j * NVP + v] =
            accumulate ? load(g + j * g_panel + k * P + v * VL) : (vec){0};
    for (int64_t i = 0; i < rows; i++) {
        vec row[GRAD_NP * NVP];
        UNROLL for (int j = 0; j < np; j++) UNROLL for (int v = 0; v < NVP; v++)
            row[j * NVP + v] = load(vector + j * vector_panel + v * VL);
        UNROLL for (int k = 0; k < mr; k++) {
            REAL s = scalar[k * scalar_k];
            UNROLL for (int v = 0; v < np * NVP; v++) MULTIPLY_ADD(sum[k][v], s, row[v]);
        }
        scalar += scalar_row;
        vector += P;
    }
    UNROLL for (int k = 0; k < mr; k++) UNROLL for (int j = 0; j < np; j++)
        UNROLL for (int v = 0; v < NVP; v++)
            store(g + j * g_panel + k * P + v * VL, sum[k][j * NVP + v]);
}

#define GRADIENT_CASE(m)                                                                           \
    case m:                                                                                        \
        NAME(gradient_tile)(m, np, scalar, scalar_row, scalar_k, vector, vector_panel, g, g_panel, \
                            rows, accumulate);                                                     \
        break;

INLINE void NAME(gradient_rows)(int mr, const int np, const REAL *scalar, const int64_t scalar_row,
                                const int64_t scalar_k, const REAL *vector, int64_t vector_panel,
                                REAL *g, int64_t g_panel, int64_t rows, int accumulate)
{
    switch (mr) {
        GRADIENT_CASE(1) GRADIENT_CASE(2) GRADIENT_CASE(3)
#if GRAD_MR >= 6
        GRADIENT_CASE(4) GRADIENT_CASE(5) GRADIENT_CASE(6)
#endif
#if GRAD_MR >= 8
        GRADIENT_CASE(7) GRADIENT_CASE(8)
#endif
    }
#if GRAD_MR_ALONE > GRAD_MR
    if (np == 1)
        switch (mr) {
            GRADIENT_CASE(9) GRADIENT_CASE(10) GRADIENT_CASE(11) GRADIENT_CASE(12)
            GRADIENT_CASE(13) GRADIENT_CASE(14) GRADIENT_CASE(15) GRADIENT_CASE(16)
        }
#endif
}

/* All tiles of mr_total rows of G over n_panels panels, for one block of rows of the minibatch. */
INLINE void NAME(gradient_block)(int64_t mr_total, const REAL *scalar, const int64_t scalar_row,
                                 const int64_t scalar_k, const REAL *vector, int64_t vector_panel,
                                 REAL *g, int64_t g_panel, int64_t rows, int64_t n_panels,
                                 int accumulate)
{
    for (int64_t p = 0; p < n_panels; p += GRAD_NP) {
        int64_t np = n_panels - p < GRAD_NP ? n_panels - p : GRAD_NP;
        NAME(tiles) tiles = NAME(split)(mr_total, np == 1 ? GRAD_MR_ALONE : GRAD_MR);
        for (int64_t t = 0, k = 0, mr; t < tiles.n; t++, k += mr) {
            mr = tiles.height + (t >= tiles.low);
            const REAL *s = scalar + k * scalar_k, *x = vector + p * vector_panel;
            REAL *gp = g + p * g_panel + k * P;
            switch (np) {
#if GRAD_NP > 1
            case 3:
                NAME(gradient_rows)((int)mr, 3, s, scalar_row, scalar_k, x, vector_panel, gp,
                                    g_panel, rows, accumulate);
                break;
            case 2:
                NAME(gradient_rows)((int)mr, 2, s, scalar_row, scalar_k, x, vector_panel, gp,
                                    g_panel, rows, accumulate);
                break;
#endif
            default:
                NAME(gradient_rows)((int)mr, 1, s, scalar_row, scalar_k, x, vector_panel, gp,
                                    g_panel, rows, accumulate);
            }
        }
    }
}

/* g[:] (+)= sum_i D[i, :]. Four partial sums in a fixed pattern: one would wait for the latency of
 * every addition. */
INLINE void NAME(panel_sums)(const REAL *d, int64_t d_panel, REAL *g, int64_t rows,
                             int64_t n_panels, int accumulate)
{
    for (int64_t p = 0; p < n_panels; p++, d += d_panel, g += P)
        for (int v = 0; v < NVP; v++) {
            vec sum[4] = {{0}, {0}, {0}, {0}};
            int64_t i = 0;
            for (; i + 4 <= rows; i += 4)
                UNROLL for (int u = 0; u < 4; u++) sum[u] += load(d + (i + u) * P + v * VL);
            for (; i < rows; i++)
                sum[0] += load(d + i * P + v * VL);
            vec total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
            store(g + v * VL, accumulate ? load(g + v * VL) + total : total);
        }
}

/* g[n] (+)= sum_i D[n, i]. Rows beyond the last are zero up to a multiple of P (the loss kernels
 * see to it). */
INLINE void NAME(column_sums)(const REAL *d, int64_t capacity, REAL *g, int64_t rows, int64_t n_out,
                              int accumulate)
{
    for (int64_t n = 0; n < n_out; n++, d += capacity) {
        vec sum = {0};
        for (int64_t i = 0; i < rows; i += VL)
            sum += load(d + i);
        REAL total = NAME(sum)(sum);
        g[n] = accumulate ? g[n] + total : total;
    }
}

/* One row, one panel of vectors: the same sums of a single term. */
INLINE void NAME(gradient_of_row)(const REAL *scalar, const int64_t scalar_k, int64_t scalar_panel,
                                  const REAL *vector, REAL *g, int64_t n_k, int accumulate)
{
    vec row[NVP];
    UNROLL for (int v = 0; v < NVP; v++) row[v] = load(vector + v * VL);
    for (int64_t k0 = 0; k0 < n_k; k0 += P, scalar += scalar_panel) {
        int64_t n = n_k - k0 < P ? n_k - k0 : P;
        for (int64_t k = 0; k < n; k++, g += P)
            UNROLL for (int v = 0; v < NVP; v++)
            {
                vec sum = accumulate ? load(g + v * VL) : (vec){0};
                MULTIPLY_ADD(sum, scalar[k * scalar_k], row[v]);
                store(g + v * VL, sum);
            }
    }
}

static void NAME(weight_gradient)(const void *a_, int64_t a_panel, const void *d_, int64_t d_panel,
                                  void *g_, int64_t g_panel, void *g_bias, int64_t rows,
                                  int64_t n_k, int64_t n_panels, int accumulate)
{
    const REAL *a = a_, *d = d_;
    REAL *g = g_;
    if (g_bias)
        NAME(panel_sums)(d, d_panel, g_bias, rows, n_panels, accumulate);
    if (rows == 1) {
        for (int64_t p = 0; p < n_panels; p++, d += d_panel, g += g_panel)
            NAME(gradient_of_row)(a, 1, a_panel, d, g, n_k, accumulate);
        return;
    }
    for (int64_t i = 0; i < rows; i += ROW_BLOCK) {
        int64_t n = rows - i < ROW_BLOCK ? rows - i : ROW_BLOCK;
        for (int64_t k = 0; k < n_k; k += P)
            NAME(gradient_block)(n_k - k < P ? n_k - k : P, a + k / P * a_panel + i * P, P, 1,
                                 d + i * P, d_panel, g + k * P, g_panel, n, n_panels,
                                 accumulate || i > 0);
    }
}

static void NAME(narrow_gradient)(const void *d_, int64_t capacity, const void *a_,
                                  int64_t a_panel, void *g_, void *g_bias, int64_t rows,
                                  int64_t n_out, int64_t n_panels, int accumulate)
{
    const REAL *d = d_, *a = a_;
    REAL *g = g_;
    if (g_bias)
        NAME(column_sums)(d, capacity, g_bias, rows, n_out, accumulate);
    if (rows == 1) {
        for (int64_t p = 0; p < n_panels; p++, a += a_panel, g += n_out * P)
            NAME(gradient_of_row)(d, capacity, P * capacity, a, g, n_out, accumulate);
        return;
    }
    for (int64_t i = 0; i < rows; i += ROW_BLOCK)
        NAME(gradient_block)(n_out, d + i, 1, capacity, a + i * P, a_panel, g, n_out * P,
                             rows - i < ROW_BLOCK ? rows - i : ROW_BLOCK, n_panels,
                             accumulate || i > 0);
}
