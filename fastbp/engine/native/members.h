/* The first layer of a member of a network: the weights that all share, each row times the member's
 * own multiplier of that input, W_m = diag(r) W.
 *
 * Part of the template (see template.h). Both forms of wide weights (see kernels.h): rows are w_row
 * apart and panels w_panel apart. With U = X^T delta, the gradient of W_m, the chain rule gives W
 * diag(r) U, and r_k the sum over the outputs of W[k, :] U[k, :].
 *
 * Over CSR rows of W_m are summed along runs of inputs: V = C W_m, where C[k, j] is 1 if j <= k is
 * in the run of k. A row x of the matrix then gives x V = (x C) W_m: it stands for x C. The
 * gradient of W_m is then C^T U, with U that of V: sums from the end of a run. */

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

/* V[k, :] = r[k] W[k, :], plus V[k - 1, :] where continues[k]; n elements of a row, rows w_row apart
 * in both. Where only some rows are wanted each row has a slot of V: -1 is never read, one that only
 * leads to another may have the same slot as that. */
static void NAME(run_rows)(const void *w_, int64_t w_row, const void *r_, const uint8_t *continues,
                           const int32_t *slots, void *v_, int64_t n_k, int64_t n)
{
    const REAL *w = w_, *r = r_;
    const int64_t whole = n / VL * VL;
    for (int64_t k = 0; k < n_k; k++, w += w_row) {
        if (slots && slots[k] < 0)
            continue;
        REAL *v = (REAL *)v_ + (slots ? slots[k] : k) * w_row;
        if (continues[k]) {
            const REAL *before = (REAL *)v_ + (slots ? slots[k - 1] : k - 1) * w_row;
            for (int64_t j = 0; j < whole; j += VL)
                store(v + j, load(before + j) + r[k] * load(w + j));
            for (int64_t j = whole; j < n; j++)
                v[j] = before[j] + r[k] * w[j];
        } else {
            for (int64_t j = 0; j < whole; j += VL)
                store(v + j, r[k] * load(w + j));
            for (int64_t j = whole; j < n; j++)
                v[j] = r[k] * w[j];
        }
    }
}

/* With S[k, :] the sum of U from row k to the end of its run: G[k, :] (+)= r[k] S[k, :] and
 * g_r[k] (+)= sum_h W[k, h] S[k, h]. U is 0 then. All are laid out as W, rows w_row apart. */
static void NAME(run_gradient)(const void *w_, int64_t w_row, const void *r_,
                               const uint8_t *continues, void *u_, void *g_, void *g_r_,
                               int64_t n_k, int64_t n_panels, int accumulate, int accumulate_r)
{
    const vec zero = {0};
    const REAL *r = r_;
    REAL *g_r = g_r_;
    for (int64_t k = n_k - 1; k >= 0; k--) {
        const REAL *w = (const REAL *)w_ + k * w_row;
        REAL *u = (REAL *)u_ + k * w_row, *after = u + w_row, *g = (REAL *)g_ + k * w_row;
        const int goes_on = k + 1 < n_k && continues[k + 1], is_read = continues[k];
        vec sum[NVP];
        UNROLL for (int v = 0; v < NVP; v++) sum[v] = zero;
        for (int64_t j = 0; j < n_panels * P; j += P)
            UNROLL for (int v = 0; v < NVP; v++)
            {
                const int64_t at = j + v * VL;
                vec slope = load(u + at);
                if (goes_on) {
                    slope += load(after + at);
                    store(after + at, zero);
                }
                store(u + at, is_read ? slope : zero);
                vec old = accumulate ? load(g + at) : zero;
                store(g + at, old + r[k] * slope);
                sum[v] += load(w + at) * slope;
            }
        vec all = sum[0];
        UNROLL for (int v = 1; v < NVP; v++) all += sum[v];
        REAL total = NAME(sum)(all);
        g_r[k] = accumulate_r ? g_r[k] + total : total;
    }
}
