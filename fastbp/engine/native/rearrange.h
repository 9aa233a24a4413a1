/* Moving data between layouts: users' rows, panels, columns, and the transpose W^T.
 *
 * Part of the template (see template.h). Nothing is computed here. */

/* Mask of the first n lanes of a panel row. */
INLINE void NAME(lanes_below)(ivec *mask, int64_t n)
{
    UNROLL for (int v = 0; v < NVP; v++) mask[v] = (ivec)(NAME(iota)() + v * VL < (BITS)n);
}

#define GATHER_AHEAD 8 /* rows whose lines are asked for early: they lie anywhere in memory */

static void NAME(gather)(const void *x_, const void *end_, int64_t ldx, const int64_t *order,
                         int64_t rows, int64_t n_columns, void *a_, int64_t a_panel)
{
    const REAL *x = x_, *end = end_;
    REAL *a = a_;
    int64_t whole = n_columns / P, rest = n_columns % P;
    ivec keep[NVP];
    NAME(lanes_below)(keep, rest);
    for (int64_t i = 0; i < rows; i++) {
        const REAL *from = x + (order ? order[i] : i) * ldx;
        REAL *to = a + i * P;
        if (order && i + GATHER_AHEAD < rows) {
            const REAL *next = x + order[i + GATHER_AHEAD] * ldx;
            for (int64_t j = 0; j < n_columns && j < 16 * P; j += P)
                __builtin_prefetch(next + j);
        }
        for (int64_t p = 0; p < whole; p++, from += P, to += a_panel)
            UNROLL for (int v = 0; v < NVP; v++) store(to + v * VL, load(from + v * VL));
        if (rest && from + P <= end) { /* the next row's first values are masked away */
            UNROLL for (int v = 0; v < NVP; v++)
                store(to + v * VL, (vec)((ivec)load(from + v * VL) & keep[v]));
        } else if (rest) {
            vec tail[NVP] = {{0}};
            memcpy(tail, from, (size_t)rest * sizeof(REAL));
            UNROLL for (int v = 0; v < NVP; v++) store(to + v * VL, tail[v]);
        }
    }
}

static void NAME(gather_columns)(const void *y_, int64_t ldy, const int64_t *order, int64_t rows,
                                 int64_t n_columns, void *t_, int64_t capacity)
{
    const REAL *y = y_;
    REAL *t = t_;
    int64_t padded = (rows + P - 1) / P * P;
    for (int64_t n = 0; n < n_columns; n++, y++, t += capacity) {
        if (rows < padded)
            UNROLL for (int v = 0; v < NVP; v++) store(t + padded - P + v * VL, (vec){0});
        if (order)
            for (int64_t i = 0; i < rows; i++)
                t[i] = y[order[i] * ldy];
        else
            for (int64_t i = 0; i < rows; i++)
                t[i] = y[i * ldy];
    }
}

/* dst[c][r] = src[r][c] for a block of P x P, n_rows of src valid, the others taken as 0 */
INLINE void NAME(transpose_panel)(const REAL *src, int64_t n_rows, REAL *dst, int64_t dst_row,
                                  int64_t dst_rows)
{
    for (int r0 = 0; r0 < P; r0 += VL)
        for (int c0 = 0; c0 < P && c0 < dst_rows; c0 += VL) {
            vec v[VL];
            UNROLL for (int r = 0; r < VL; r++)
                v[r] = r0 + r < n_rows ? load(src + (r0 + r) * P + c0) : (vec){0};
            NAME(transpose)(v);
            UNROLL for (int c = 0; c < VL; c++)
                if (c0 + c < dst_rows)
                    store(dst + (c0 + c) * dst_row + r0, v[c]);
        }
}

static void NAME(panels_to_columns)(const void *c_, int64_t c_panel, void *s_, int64_t capacity,
                                    int64_t rows, int64_t n_columns)
{
    const REAL *c = c_;
    REAL *s = s_;
    for (int64_t n = 0; n < n_columns; n += P, c += c_panel)
        for (int64_t i = 0; i < rows; i += P)
            NAME(transpose_panel)(c + i * P, rows - i, s + n * capacity + i, capacity,
                                  n_columns - n);
}

static void NAME(columns_to_panels)(const void *s_, int64_t capacity, void *c_, int64_t c_panel,
                                    int64_t rows, int64_t n_columns)
{
    const REAL *s = s_;
    REAL *c = c_;
    for (int64_t n = 0; n < n_columns; n += P, c += c_panel)
        for (int64_t i = 0; i < rows; i += P)
            for (int r0 = 0; r0 < P; r0 += VL)
                for (int c0 = 0; c0 < P; c0 += VL) {
                    vec v[VL];
                    UNROLL for (int k = 0; k < VL; k++) v[k] =
                        n + c0 + k < n_columns ? load(s + (n + c0 + k) * capacity + i + r0)
                                               : (vec){0};
                    NAME(transpose)(v);
                    UNROLL for (int r = 0; r < VL; r++)
                        store(c + (i + r0 + r) * P + c0, v[r]);
                }
}

static void NAME(transpose_block)(const void *w, int64_t n_k, void *wt)
{
    NAME(transpose_panel)(w, n_k, wt, P, P);
}

static void NAME(zero_padding)(void *panel_, int64_t rows, int64_t n_valid)
{
    REAL *panel = panel_;
    ivec keep[NVP];
    NAME(lanes_below)(keep, n_valid);
    for (int64_t i = 0; i < rows; i++, panel += P)
        UNROLL for (int v = 0; v < NVP; v++)
            store(panel + v * VL, (vec)((ivec)load(panel + v * VL) & keep[v]));
}

/* Rows of columns that lie anywhere: VL rows of VL columns at a time, ROWS_AT_ONCE rows down. The
 * last VL columns overlap those before, so that no lane is wasted. */
static int NAME(join_columns)(const void *const *columns, int64_t rows, int64_t n_columns,
                              void *out_)
{
    enum { ROWS_AT_ONCE = 256 }; /* of 16 columns, in and out, half of a first-level cache */
    REAL *out = out_, rest = 0;
    vec sum = {0};
    int64_t whole = n_columns < VL ? 0 : rows / VL * VL;
    for (int64_t top = 0; top < whole; top += ROWS_AT_ONCE) {
        int64_t end = top + ROWS_AT_ONCE < whole ? top + ROWS_AT_ONCE : whole;
        for (int64_t n = 0; n < n_columns; n += VL) {
            int64_t c = n + VL <= n_columns ? n : n_columns - VL;
            for (int64_t i = top; i < end; i += VL) {
                vec v[VL];
                UNROLL for (int k = 0; k < VL; k++)
                {
                    v[k] = load((const REAL *)columns[c + k] + i);
                    sum += v[k] * (REAL)0; /* as in all_finite */
                }
                NAME(transpose)(v);
                UNROLL for (int r = 0; r < VL; r++) store(out + (i + r) * n_columns + c, v[r]);
            }
        }
    }
    for (int64_t i = whole; i < rows; i++)
        for (int64_t n = 0; n < n_columns; n++) {
            REAL x = ((const REAL *)columns[n])[i];
            rest += x * (REAL)0;
            out[i * n_columns + n] = x;
        }
    return NAME(sum)(sum) + rest == 0;
}

static void NAME(columns_to_rows)(const void *s_, int64_t capacity, void *out_, int64_t rows,
                                  int64_t n_columns)
{
    const REAL *s = s_;
    REAL *out = out_;
    if (n_columns == 1)
        memcpy(out, s, (size_t)rows * sizeof(REAL));
    else
        for (int64_t i = 0; i < rows; i++)
            for (int64_t n = 0; n < n_columns; n++)
                out[i * n_columns + n] = s[n * capacity + i];
}
