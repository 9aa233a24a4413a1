/* Matrix products: forward, input gradient, weight gradient, and their narrow twins.
 *
 * Part of the template (see template.h). A tile keeps MR rows x NP panels of the result in
 * registers; each step over k reads NP panel rows of W and broadcasts MR elements of A. MR and NP
 * are compile-time constants in every instance (the switch in `*_rows`), so gcc and clang keep all
 * accumulators in registers. Rows are split into tiles of nearly equal height: a last tile of one
 * row would run at a fraction of the speed. Tile sizes were chosen by measurement (AVX-512: 14 x 2
 * forward, 8 x 3 weight gradient; AVX2: 6 x 1; the 128-bit sets: ROWS_128 x 1). */

#if VBYTES == 64
#define MR 14
#define NP_ROW 4
#define NP_MAX 2
#define GRAD_MR 8
#define GRAD_NP 3
#define GRAD_MR_ALONE 16 /* of a single panel: 8 accumulators would wait for each other */
#elif VBYTES == 32
#define MR 6
#define NP_ROW 4
#define NP_MAX 1
#define GRAD_MR 6
#define GRAD_NP 1
#define GRAD_MR_ALONE GRAD_MR
#else
#define MR ROWS_128
#define NP_ROW 1
#define NP_MAX 1
#define GRAD_MR ROWS_128
#define GRAD_NP 1
#define GRAD_MR_ALONE GRAD_MR
#endif

/* Above this many k the product runs in blocks of k, so that a pair of panels of W stays in L1;
 * and rows in blocks whose part of A stays in L2 while all of W passes. */
#define K_BLOCK 512
#define A_BLOCK_BYTES (768 * 1024)
/* Where all of W stays in L1 (leaving room for the rows that pass), the tiles of one group of rows
 * come together: A is then read once and C written once. Elsewhere the panels of W come first. */
#define W_IN_L1 (32 * 1024)
/* Rows of a minibatch that a weight-gradient tile takes at a time: 3 panels of D stay in L1. */
#define ROW_BLOCK 128

/* Rows in tiles of at most `most`: `low` tiles of `height`, then tiles one row higher. One division
 * for all of them, and none for a single tile. */
typedef struct {
    int64_t n, height, low;
} NAME(tiles);

INLINE NAME(tiles) NAME(split)(int64_t rows, int64_t most)
{
    if (rows <= most)
        return (NAME(tiles)){rows > 0, rows, 1};
    int64_t n = (rows + most - 1) / most, height = rows / n;
    return (NAME(tiles)){n, height, n - (rows - height * n)};
}

/* What becomes of a sum: nothing, relu, or zero where the gate is 0. */
INLINE vec NAME(finish)(vec y, int epilogue, const REAL *gate, int64_t at)
{
    if (epilogue == 2)
        return NAME(relu)(y);
    if (epilogue == 3)
        return (vec)((ivec)y & ~(ivec)(load(gate + at) == (REAL)0));
    return y;
}

/* One tile of C = bias + A W. first: start from bias (or 0), else from C. last: apply epilogue. */
INLINE void NAME(product_tile)(const int mr, const int np, const REAL *a, const int64_t a_row,
                               const int64_t a_column, int64_t a_panel, const REAL *w,
                               const int64_t w_row, int64_t w_panel, const REAL *bias, REAL *c,
                               int64_t c_panel, const REAL *gate, int epilogue, int first,
                               int64_t n_k)
{
    vec sum[MR][NP_MAX * NVP];
    UNROLL for (int j = 0; j < np; j++) UNROLL for (int v = 0; v < NVP; v++) {
        vec start = bias ? load(bias + j * P + v * VL) : (vec){0};
        UNROLL for (int i = 0; i < mr; i++)
            sum[i][j * NVP + v] = first ? start : load(c + j * c_panel + i * P + v * VL);
    }
    for (int64_t k0 = 0; k0 < n_k; k0 += P) {
        int n = n_k - k0 < P ? (int)(n_k - k0) : P;
        for (int k = 0; k < n; k++) {
            vec row[NP_MAX * NVP];
            UNROLL for (int j = 0; j < np; j++) UNROLL for (int v = 0; v < NVP; v++)
                row[j * NVP + v] = load(w + j * w_panel + v * VL);
            UNROLL for (int i = 0; i < mr; i++) {
                REAL s = a[i * a_row + k * a_column];
                UNROLL for (int v = 0; v < np * NVP; v++) sum[i][v] += s * row[v];
            }
            w += w_row;
        }
        a += a_panel;
    }
    UNROLL for (int j = 0; j < np; j++, c += c_panel, gate += epilogue == 3 ? c_panel : 0)
        UNROLL for (int i = 0; i < mr; i++) UNROLL for (int v = 0; v < NVP; v++)
            store(c + i * P + v * VL,
                  NAME(finish)(sum[i][j * NVP + v], epilogue, gate, i * P + v * VL));
}

#define TILE_CASE(m)                                                                               \
    case m:                                                                                        \
        NAME(product_tile)(m, np, a, a_row, a_column, a_panel, w, w_row, w_panel, bias, c,         \
                           c_panel, gate, epilogue, first, n_k);                                   \
        break;

INLINE void NAME(product_rows)(int mr, const int np, const REAL *a, const int64_t a_row,
                               const int64_t a_column, int64_t a_panel, const REAL *w,
                               const int64_t w_row, int64_t w_panel, const REAL *bias, REAL *c,
                               int64_t c_panel, const REAL *gate, int epilogue, int first,
                               int64_t n_k)
{
    switch (mr) {
        TILE_CASE(1) TILE_CASE(2) TILE_CASE(3)
#if MR >= 6
        TILE_CASE(4) TILE_CASE(5) TILE_CASE(6)
#endif
#if MR >= 14
        TILE_CASE(7) TILE_CASE(8) TILE_CASE(9) TILE_CASE(10)
        TILE_CASE(11) TILE_CASE(12) TILE_CASE(13) TILE_CASE(14)
#endif
    }
}

/* Panels p.. (NP_MAX of them, or the last one) of mr rows from row i on. */
INLINE void NAME(product_pair)(int mr, int64_t p, int64_t i, const REAL *a, int64_t a_panel,
                               const int64_t a_row, const int64_t a_column, const REAL *w,
                               const int64_t w_row, int64_t w_panel, const REAL *bias, REAL *c,
                               int64_t c_panel, const REAL *gate, int epilogue, int first,
                               int64_t n_k, int64_t n_panels)
{
    const REAL *wp = w + p * w_panel, *b = bias ? bias + p * P : NULL;
    const REAL *gp = gate ? gate + p * c_panel + i * P : NULL;
    REAL *cp = c + p * c_panel + i * P;
    if (NP_MAX == 1 || p + 1 == n_panels)
        NAME(product_rows)(mr, 1, a + i * a_row, a_row, a_column, a_panel, wp, w_row, w_panel, b,
                           cp, c_panel, gp, epilogue, first, n_k);
    else
        NAME(product_rows)(mr, NP_MAX, a + i * a_row, a_row, a_column, a_panel, wp, w_row, w_panel,
                           b, cp, c_panel, gp, epilogue, first, n_k);
}

INLINE void NAME(product_block)(const REAL *a, int64_t a_panel, const int64_t a_row,
                                const int64_t a_column, const REAL *w, const int64_t w_row,
                                int64_t w_panel, const REAL *bias, REAL *c, int64_t c_panel,
                                const REAL *gate, int epilogue, int64_t rows, int64_t n_k,
                                int64_t n_panels)
{
    NAME(tiles) tiles = NAME(split)(rows, MR);
    int64_t n_pairs = (n_panels + NP_MAX - 1) / NP_MAX, k_block = n_k;
    if (n_k > 2 * K_BLOCK - P) {
        int64_t n_blocks = n_k / K_BLOCK;
        k_block = ((n_k + n_blocks - 1) / n_blocks + P - 1) / P * P;
    }
    for (int64_t k0 = 0; k0 < n_k || k0 == 0; k0 += k_block) {
        int64_t n = n_k - k0 < k_block ? n_k - k0 : k_block;
        int tiles_first = n * n_panels * (int64_t)sizeof(vec) * NVP <= W_IN_L1;
        int64_t n_outer = tiles_first ? tiles.n : n_pairs;
        int64_t n_inner = tiles_first ? n_pairs : tiles.n;
        for (int64_t outer = 0; outer < n_outer; outer++)
            for (int64_t inner = 0; inner < n_inner; inner++) {
                int64_t t = tiles_first ? outer : inner, p = NP_MAX * (outer + inner - t);
                int64_t higher = t < tiles.low ? 0 : t - tiles.low;
                NAME(product_pair)((int)(tiles.height + (t >= tiles.low)), p,
                                   t * tiles.height + higher, a + k0 / P * a_panel, a_panel, a_row,
                                   a_column, w + k0 * w_row, w_row, w_panel, bias, c, c_panel, gate,
                                   k0 + n < n_k ? 0 : epilogue, k0 == 0, n, n_panels);
            }
    }
}

INLINE void NAME(product_any)(const REAL *a, int64_t a_panel, const int64_t a_row,
                              const int64_t a_column, const REAL *w, const int64_t w_row,
                              int64_t w_panel, const REAL *bias, REAL *c, int64_t c_panel,
                              const REAL *gate, int epilogue, int64_t rows, int64_t n_k,
                              int64_t n_panels)
{
    int64_t n_blocks = rows * n_k * (int64_t)sizeof(REAL) / A_BLOCK_BYTES + 1;
    for (int64_t block = 0, i = 0; block < n_blocks; block++) {
        int64_t n = n_blocks == 1 ? rows : (rows - i) / (n_blocks - block);
        NAME(product_block)(a + i * a_row, a_panel, a_row, a_column, w, w_row, w_panel, bias,
                            c + i * P, c_panel, gate ? gate + i * P : NULL, epilogue, n, n_k,
                            n_panels);
        i += n;
    }
}

INLINE void NAME(row_tile)(const int np, const REAL *a, int64_t a_column, int64_t a_panel,
                           const REAL *w, int64_t w_row, int64_t w_panel, const REAL *bias, REAL *c,
                           int64_t c_panel, const REAL *gate, int epilogue, int64_t n_k)
{
    vec sum[NP_ROW * NVP];
    UNROLL for (int j = 0; j < np; j++) UNROLL for (int v = 0; v < NVP; v++)
        sum[j * NVP + v] = bias ? load(bias + j * P + v * VL) : (vec){0};
    for (int64_t k0 = 0; k0 < n_k; k0 += P, a += a_panel) {
        int64_t n = n_k - k0 < P ? n_k - k0 : P;
        for (int64_t k = 0; k < n; k++, w += w_row) {
            REAL s = a[k * a_column];
            UNROLL for (int j = 0; j < np; j++) UNROLL for (int v = 0; v < NVP; v++)
                sum[j * NVP + v] += s * load(w + j * w_panel + v * VL);
        }
    }
    UNROLL for (int j = 0; j < np; j++) UNROLL for (int v = 0; v < NVP; v++)
    {
        int64_t at = j * c_panel + v * VL;
        store(c + at, NAME(finish)(sum[j * NVP + v], epilogue, gate, at));
    }
}

/* One row: the same sums, with more panels at a time, or each addition would wait for the one
 * before; and without the preparations for tiles, 280 instructions a call where 20 k take 140
 * (AVX2; counted by callgrind, November 2026). */
static void NAME(product_row)(const REAL *a, int64_t a_column, int64_t a_panel, const REAL *w,
                              int64_t w_row, int64_t w_panel, const REAL *bias, REAL *c,
                              int64_t c_panel, const REAL *gate, int epilogue, int64_t n_k,
                              int64_t n_panels)
{
    while (n_panels > 0) {
        int np = n_panels >= NP_ROW ? NP_ROW : 1;
        if (np == 1)
            NAME(row_tile)(1, a, a_column, a_panel, w, w_row, w_panel, bias, c, c_panel, gate,
                           epilogue, n_k);
        else
            NAME(row_tile)(NP_ROW, a, a_column, a_panel, w, w_row, w_panel, bias, c, c_panel, gate,
                           epilogue, n_k);
        n_panels -= np;
        w += np * w_panel;
        c += np * c_panel;
        bias = bias ? bias + np * P : bias;
        gate = gate ? gate + np * c_panel : gate;
    }
}

/* One row, or three instances for more: packed weights, flat weights (any row stride), and A in
 * columns layout. */
static void NAME(product)(const void *a, int64_t a_panel, int columns, const void *w,
                          int64_t w_row, int64_t w_panel, const void *bias, void *c,
                          int64_t c_panel, const void *gate, int epilogue, int64_t rows,
                          int64_t n_k, int64_t n_panels)
{
    if (rows == 1)
        NAME(product_row)(a, columns ? a_panel : 1, columns ? P * a_panel : a_panel, w, w_row,
                          w_panel, bias, c, c_panel, gate, epilogue, n_k, n_panels);
    else if (columns)
        NAME(product_any)(a, P * a_panel, 1, a_panel, w, P, w_panel, bias, c, c_panel, gate,
                          epilogue, rows, n_k, n_panels);
    else if (w_row == P)
        NAME(product_any)(a, a_panel, P, 1, w, P, w_panel, bias, c, c_panel, gate, epilogue, rows,
                          n_k, n_panels);
    else
        NAME(product_any)(a, a_panel, P, 1, w, w_row, w_panel, bias, c, c_panel, gate, epilogue,
                          rows, n_k, n_panels);
}

/* One output at a time: the k of a panel fill the lanes and the lanes are added at the end, for VL
 * rows at once by pairwise exchanges, or for one row; both add the lanes halves first. */
INLINE vec NAME(dot_rows)(const int mr, const REAL *a, int64_t a_panel, const REAL *wt,
                          int64_t wt_panel, int64_t n_panels)
{
    vec sum[VL];
    UNROLL for (int i = 0; i < mr; i++) sum[i] = (vec){0};
    for (int64_t p = 0; p < n_panels; p++, a += a_panel, wt += wt_panel)
        for (int v = 0; v < NVP; v++) {
            vec w = load(wt + v * VL);
            UNROLL for (int i = 0; i < mr; i++) sum[i] += load(a + i * P + v * VL) * w;
        }
    if (mr == 1)
        return splat(NAME(sum)(sum[0]));
    return NAME(sum_rows)(sum);
}

/* A group of VL rows may reach into the padding behind the last row; what it leaves there in S is
 * never read as a score. */
static void NAME(narrow_product)(const void *a_, int64_t a_panel, const void *wt_,
                                 const void *bias_, void *s_, int64_t capacity, int64_t rows,
                                 int64_t n_k, int64_t n_out)
{
    const REAL *a = a_, *wt = wt_, *bias = bias_;
    REAL *s = s_;
    int64_t n_panels = (n_k + P - 1) / P;
    for (int64_t i = 0; i < rows; i += VL)
        for (int64_t n = 0; n < n_out; n++) {
            const REAL *ai = a + i * P, *w = wt + n * P;
            vec score = rows - i == 1
                            ? NAME(dot_rows)(1, ai, a_panel, w, n_out * P, n_panels)
                            : NAME(dot_rows)(VL, ai, a_panel, w, n_out * P, n_panels);
            store(s + n * capacity + i, score + bias[n]);
        }
}

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
            UNROLL for (int v = 0; v < np * NVP; v++) sum[k][v] += s * row[v];
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
            UNROLL for (int v = 0; v < NVP; v++) store(
                g + v * VL,
                (accumulate ? load(g + v * VL) : (vec){0}) + scalar[k * scalar_k] * row[v]);
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
