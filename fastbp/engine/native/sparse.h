/* The first layer over CSR rows: forward and weight gradient cost what the non-zeros cost.
 *
 * Part of the template (see template.h). Weights and gradient are row-major here (rows w_row apart),
 * because a non-zero touches one whole row. Non-zeros are taken in stored order, rows in minibatch
 * order, so every sum has one order whoever computes it. Indices were checked before (they are
 * inside the matrix). */

INLINE int64_t NAME(index_at)(const void *p, int index_bytes, int64_t i)
{
    return index_bytes == 8 ? ((const int64_t *)p)[i] : (int64_t)((const int32_t *)p)[i];
}
#define index_at NAME(index_at)

#define SPARSE_PANELS (VBYTES == 64 ? 8 : 2) /* panels of a row kept in registers */

INLINE vec NAME(load_before)(const REAL *p, const REAL *end)
{
    if (p + VL <= end)
        return load(p);
    vec v = {0};
    REAL *lane = (REAL *)&v;
    for (int l = 0; l < VL && p + l < end; l++)
        lane[l] = p[l];
    return v;
}

INLINE void NAME(sparse_row)(const int np, const fb_csr *x, int64_t from, int64_t to,
                             const REAL *w, int64_t w_row, const REAL *w_end, const REAL *bias,
                             REAL *c, int64_t c_panel)
{
    const REAL *data = x->data;
    vec sum[8 * NVP];
    UNROLL for (int v = 0; v < np * NVP; v++) sum[v] = load(bias + v * VL);
    for (int64_t j = from; j < to; j++) {
        const REAL *row = w + index_at(x->indices, x->index_bytes, j) * w_row;
        REAL s = data[j];
        if (row + np * P <= w_end)
            UNROLL for (int v = 0; v < np * NVP; v++) sum[v] += s * load(row + v * VL);
        else
            UNROLL for (int v = 0; v < np * NVP; v++)
                sum[v] += s * NAME(load_before)(row + v * VL, w_end);
    }
    UNROLL for (int p = 0; p < np; p++) UNROLL for (int v = 0; v < NVP; v++)
        store(c + p * c_panel + v * VL, sum[p * NVP + v]);
}

#define SPARSE_CASE(n)                                                                             \
    case n:                                                                                        \
        NAME(sparse_row)(n, x, from, to, w + p * P, w_row, w_end, bias + p * P,                    \
                         c + p * c_panel + i * P, c_panel);                                        \
        break;

static void NAME(sparse_product)(const fb_csr *x, const int64_t *order, int64_t first,
                                 int64_t rows, const void *w_, int64_t w_row, const void *w_end,
                                 const void *bias_, void *c_, int64_t c_panel, int64_t n_panels)
{
    const REAL *w = w_, *bias = bias_;
    REAL *c = c_;
    for (int64_t i = 0; i < rows; i++) {
        int64_t row = order ? order[first + i] : first + i;
        int64_t from = index_at(x->indptr, x->index_bytes, row);
        int64_t to = index_at(x->indptr, x->index_bytes, row + 1);
        for (int64_t p = 0; p < n_panels; p += SPARSE_PANELS)
            switch (n_panels - p < SPARSE_PANELS ? n_panels - p : SPARSE_PANELS) {
                SPARSE_CASE(1) SPARSE_CASE(2)
#if VBYTES == 64
                SPARSE_CASE(3) SPARSE_CASE(4) SPARSE_CASE(5) SPARSE_CASE(6) SPARSE_CASE(7)
                SPARSE_CASE(8)
#endif
            }
    }
}

/* Rows k0 <= k < k1 of np panels of G, what row i of D gives to them. */
INLINE void NAME(sparse_outer)(const int np, const fb_csr *x, int64_t from, int64_t to,
                               const REAL *d, int64_t d_panel, REAL *g, int64_t g_row, int64_t k0,
                               int64_t k1)
{
    const REAL *data = x->data;
    vec delta[8 * NVP];
    UNROLL for (int p = 0; p < np; p++) UNROLL for (int v = 0; v < NVP; v++)
        delta[p * NVP + v] = load(d + p * d_panel + v * VL);
    for (int64_t j = from; j < to; j++) {
        int64_t k = index_at(x->indices, x->index_bytes, j);
        if (k < k0 || k >= k1)
            continue;
        REAL s = data[j], *target = g + k * g_row;
        UNROLL for (int v = 0; v < np * NVP; v++)
            store(target + v * VL, load(target + v * VL) + s * delta[v]);
    }
}

#define OUTER_CASE(n)                                                                              \
    case n:                                                                                        \
        NAME(sparse_outer)(n, x, from, to, d + p * d_panel + i * P, d_panel, g + p * P, g_row, k0, \
                           k1);                                                                    \
        break;

static void NAME(sparse_gradient)(const fb_csr *x, const int64_t *order, int64_t first,
                                  int64_t rows, const void *d_, int64_t d_panel, void *g_,
                                  int64_t g_row, int64_t n_panels, int64_t k0, int64_t k1)
{
    const REAL *d = d_;
    REAL *g = g_;
    for (int64_t i = 0; i < rows; i++) {
        int64_t row = order ? order[first + i] : first + i;
        int64_t from = index_at(x->indptr, x->index_bytes, row);
        int64_t to = index_at(x->indptr, x->index_bytes, row + 1);
        for (int64_t p = 0; p < n_panels; p += SPARSE_PANELS)
            switch (n_panels - p < SPARSE_PANELS ? n_panels - p : SPARSE_PANELS) {
                OUTER_CASE(1) OUTER_CASE(2)
#if VBYTES == 64
                OUTER_CASE(3) OUTER_CASE(4) OUTER_CASE(5) OUTER_CASE(6) OUTER_CASE(7) OUTER_CASE(8)
#endif
            }
    }
}

static void NAME(sparse_clear)(const fb_csr *x, const int64_t *order, int64_t first, int64_t rows,
                               void *g, int64_t g_row, int64_t n_panels, int64_t k0, int64_t k1)
{
    for (int64_t i = 0; i < rows; i++) {
        int64_t row = order ? order[first + i] : first + i;
        int64_t to = index_at(x->indptr, x->index_bytes, row + 1);
        for (int64_t j = index_at(x->indptr, x->index_bytes, row); j < to; j++) {
            int64_t k = index_at(x->indices, x->index_bytes, j);
            if (k >= k0 && k < k1)
                memset((REAL *)g + k * g_row, 0, (size_t)(n_panels * P) * sizeof(REAL));
        }
    }
}
