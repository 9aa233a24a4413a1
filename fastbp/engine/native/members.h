/* The first layer of a member of a network: the weights that all share, each row times the member's
 * own multiplier of that input, W_m = diag(r) W.
 *
 * Part of the template (see template.h). Both forms of wide weights (see kernels.h): rows are w_row
 * apart and panels w_panel apart. With U = X^T delta, the gradient of W_m, the chain rule gives W
 * diag(r) U, and r_k the sum over the outputs of W[k, :] U[k, :]. */

#define MEMBER_ROWS 4 /* rows of a gradient at a time: one sum would wait for its own additions */

/* M[k, :] = r[k] W[k, :]; M laid out as W */
static void NAME(scale_rows)(const void *w_, int64_t w_row, int64_t w_panel, const void *r_,
                             void *m_, int64_t n_k, int64_t n_panels)
{
    const REAL *w = w_, *r = r_;
    REAL *m = m_;
    for (int64_t p = 0; p < n_panels; p++, w += w_panel, m += w_panel)
        for (int64_t k = 0; k < n_k; k++)
            UNROLL for (int v = 0; v < NVP; v++)
                store(m + k * w_row + v * VL, r[k] * load(w + k * w_row + v * VL));
}

/* Rows k.. of member_gradient, `height` of them: the sum of a row has the same order in any tile. */
INLINE void NAME(member_rows)(const int height, const REAL *w, int64_t w_row, int64_t w_panel,
                              const REAL *r, const REAL *u, int64_t u_panel, REAL *g, REAL *g_r,
                              int64_t n_panels, int accumulate, int accumulate_r)
{
    vec sum[MEMBER_ROWS];
    UNROLL for (int k = 0; k < height; k++) sum[k] = (vec){0};
    for (int64_t p = 0; p < n_panels; p++, w += w_panel, u += u_panel, g += w_panel)
        UNROLL for (int k = 0; k < height; k++) UNROLL for (int v = 0; v < NVP; v++)
        {
            const int64_t at = k * w_row + v * VL;
            vec slope = load(u + at), old = accumulate ? load(g + at) : (vec){0};
            store(g + at, old + r[k] * slope);
            sum[k] += load(w + at) * slope;
        }
    UNROLL for (int k = 0; k < height; k++)
    {
        REAL total = NAME(sum)(sum[k]);
        g_r[k] = accumulate_r ? g_r[k] + total : total;
    }
}

/* G[k, :] (+)= r[k] U[k, :]; g_r[k] (+)= sum_h W[k, h] U[k, h]; U's rows as W's, panels u_panel
 * apart; G laid out as W */
static void NAME(member_gradient)(const void *w_, int64_t w_row, int64_t w_panel, const void *r_,
                                  const void *u_, int64_t u_panel, void *g_, void *g_r_,
                                  int64_t n_k, int64_t n_panels, int accumulate, int accumulate_r)
{
    const REAL *w = w_, *r = r_, *u = u_;
    REAL *g = g_, *g_r = g_r_;
    int64_t k = 0;
    for (; k + MEMBER_ROWS <= n_k; k += MEMBER_ROWS)
        NAME(member_rows)(MEMBER_ROWS, w + k * w_row, w_row, w_panel, r + k, u + k * w_row,
                          u_panel, g + k * w_row, g_r + k, n_panels, accumulate, accumulate_r);
    for (; k < n_k; k++)
        NAME(member_rows)(1, w + k * w_row, w_row, w_panel, r + k, u + k * w_row, u_panel,
                          g + k * w_row, g_r + k, n_panels, accumulate, accumulate_r);
}
