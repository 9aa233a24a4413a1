/* Matrix products with weights: forward, the delta of the layer below, and their narrow twins.
 *
 * Part of the template (see template.h). Each step over k reads NP panel rows of W and broadcasts
 * MR elements of A into a tile: MR rows x NP panels of the result in registers. MR and NP are
 * compile-time constants in every instance (the switch in `*_rows`), so gcc and clang keep all
 * accumulators there. Rows are split into tiles of nearly equal height: a last tile of one row would
 * run at a fraction of the speed. bf16_vectors.c includes this file, too: its elements are pairs of
 * bfloat16, and its MULTIPLY_ADD takes a pair. Tile sizes were chosen by measurement (AVX-512: 14 x 2 forward,
 * 8 x 3 weight gradient; AVX2: 6 x 1; the 128-bit sets: ROWS_128 x 1). */

#ifndef MULTIPLY_ADD
#define MULTIPLY_ADD(sum, s, row) sum += (s) * (row)
#endif

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

/* Above this many k the product runs in blocks of k, so that a pair of panels of W stays in L1;
 * and rows in blocks whose part of A stays in L2 while all of W passes. */
#define K_BLOCK 512
#define A_BLOCK_BYTES (768 * 1024)
/* Where all of W stays in L1 (leaving room for the rows that pass), the tiles of one group of rows
 * come together: A is then read once and C written once. Elsewhere the panels of W come first. */
#define W_IN_L1 (32 * 1024)

/* What becomes of a sum: nothing, relu, or zero where the gate is 0. */
INLINE vec NAME(finish)(vec y, int epilogue, const REAL *gate, int64_t at)
{
    if (epilogue == FB_RELU)
        return NAME(relu)(y);
    if (epilogue == FB_GATE)
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
                UNROLL for (int v = 0; v < np * NVP; v++) MULTIPLY_ADD(sum[i][v], s, row[v]);
            }
            w += w_row;
        }
        a += a_panel;
    }
    UNROLL for (int j = 0; j < np; j++, c += c_panel, gate += epilogue == FB_GATE ? c_panel : 0)
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
                                   k0 + n < n_k ? FB_AS_IT_IS : epilogue, k0 == 0, n, n_panels);
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
                MULTIPLY_ADD(sum[j * NVP + v], s, load(w + j * w_panel + v * VL));
        }
    }
    UNROLL for (int j = 0; j < np; j++) UNROLL for (int v = 0; v < NVP; v++)
    {
        int64_t at = j * c_panel + v * VL;
        store(c + at, NAME(finish)(sum[j * NVP + v], epilogue, gate, at));
    }
}

/* One row: the same sums, with more panels at a time, or each addition would wait for the one
 * before; and without the preparations for tiles, which would take longer than 20 k do. */
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
