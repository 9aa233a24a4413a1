/* The narrow interface between the Cython modules and the C kernels.
 *
 * One `fb_kernels` table per instruction set and dtype; the loop asks `fb_find_kernels` for one and
 * from then on sees only this file. Every array of the training dtype is a `void *`, so the loop is
 * written once for float32 and float64. No kernel allocates, knows a thread or sees Python.
 *
 * Layouts (P = 64 / itemsize lanes, one cache line, on every instruction set):
 *   panels   a matrix (rows, columns) as [ceil(columns / P)][row capacity][P], zero padded
 *   columns  a matrix (rows, columns) as [columns][row capacity]: vectors run over rows
 * Activations and hidden deltas are panels; scores, output deltas and targets are columns.
 * Wide weights (n_in, n_out) are panels over n_out; the weights of a narrow output layer
 * (n_out <= P / 2) are panels of the transpose, [ceil(n_in / P)][n_out][P], so that no lane is wasted.
 *
 * Bits: every row of a product sums over k in the same order whatever the number of rows, the
 * thread's share or the place of the row, so results do not depend on a row's neighbours. */
#ifndef FASTBP_KERNELS_H
#define FASTBP_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __FAST_MATH__
#error "fastbp needs IEEE arithmetic: NaN tests and fixed summation orders break under -ffast-math"
#endif

/* As engine/contract.py has them; the constants of a step hold learning rate and t, too. */
enum { FB_MAX_HYPER = 6, FB_MAX_SLOTS = 2, FB_MAX_CONSTANTS = FB_MAX_HYPER + 2 };

/* Where an activation is computed: in its own loops, nowhere (identity), in the product (relu). */
enum { FB_OWN_LOOP, FB_NO_LOOP, FB_IN_PRODUCT };

/* What a product does to a sum before it stores it: nothing; relu; 0 where gate[i, :] == 0, which
 * is relu's slope (gate laid out as the result). */
enum { FB_AS_IT_IS, FB_RELU, FB_GATE };

/* An elementwise activation over n contiguous elements (n a multiple of P). */
typedef struct {
    const char *name;
    /* a IN pre-activation z, OUT f(z); slopes OUT f'(z) where f' is a formula of z; NULL: not wanted */
    void (*forward)(void *a, void *slopes, int64_t n);
    /* delta INOUT *= f'(z); at IN f(z) or, where f' is a formula of z, the slopes kept by forward */
    void (*slope)(void *delta, const void *at, int64_t n);
    int fused; /* FB_OWN_LOOP, ... */
} fb_activation;

/* One batch of rows: see losses.h for the argument list. */
typedef struct {
    const char *name;
    void (*loss)(const void *targets, void *scores, const void *weights, double scale,
                 double *row_loss, int64_t capacity, int64_t rows, int64_t n_outputs,
                 const double *hyper);
} fb_loss;

/* One step over n contiguous parameters: see optimizers.h. */
typedef struct {
    const char *name;
    int n_slots;
    void (*prepare)(const double *hyper, double learning_rate, double t, double *h);
    double (*update)(void *w, const void *g, void *s0, void *s1, int64_t n, double l2,
                     const double *h);
} fb_optimizer;

/* CSR rows; row i of a minibatch is X[order[i]]. index_bytes is 4 or 8 (indptr and indices alike). */
typedef struct {
    const void *data, *indices, *indptr;
    int index_bytes;
} fb_csr;

typedef struct {
    const char *isa;
    int itemsize, lanes;

    /* C[i, :] = bias + sum_k A[i, k] W[k, :]; A panels IN, C panels OUT, W rows w_row apart and
     * panels w_panel apart. epilogue: FB_AS_IT_IS, ... columns: A is in columns layout, a_panel is
     * then its row capacity. */
    void (*product)(const void *a, int64_t a_panel, int columns, const void *w, int64_t w_row,
                    int64_t w_panel, const void *bias, void *c, int64_t c_panel, const void *gate,
                    int epilogue, int64_t rows, int64_t n_k, int64_t n_panels);
    /* S[n, i] = bias[n] + sum_k A[i, k] WT[n, k]; A panels IN, WT narrow weights IN, S columns OUT */
    void (*narrow_product)(const void *a, int64_t a_panel, const void *wt, const void *bias,
                           void *s, int64_t capacity, int64_t rows, int64_t n_k, int64_t n_out);
    /* G[k, :] (+)= sum_i A[i, k] D[i, :]; A panels IN (first k at a), D panels IN, G OUT, rows P
     * apart and panels g_panel apart. g_bias[:] (+)= sum_i D[i, :] OUT; NULL: not wanted. n_k 0:
     * g_bias alone */
    void (*weight_gradient)(const void *a, int64_t a_panel, const void *d, int64_t d_panel, void *g,
                            int64_t g_panel, void *g_bias, int64_t rows, int64_t n_k,
                            int64_t n_panels, int accumulate);
    /* G[kp][n][:] (+)= sum_i D[n, i] A[i, kp, :]; D columns IN, A panels IN.
     * g_bias[n] (+)= sum_i D[n, i] OUT; NULL: not wanted */
    void (*narrow_gradient)(const void *d, int64_t capacity, const void *a, int64_t a_panel,
                            void *g, void *g_bias, int64_t rows, int64_t n_out, int64_t n_panels,
                            int accumulate);

    /* g[:] += h[:], n elements, a multiple of P */
    void (*add)(void *g, const void *h, int64_t n);

    /* A[i, :] = X[order[i], :] (order NULL: X[i, :]); X rows ldx apart IN, no read at or past
     * x_end, A panels OUT */
    void (*gather)(const void *x, const void *x_end, int64_t ldx, const int64_t *order,
                   int64_t rows, int64_t n_columns, void *a, int64_t a_panel);
    /* T[c, i] = Y[order[i], c]; Y rows ldy apart IN, T columns OUT, zero up to a multiple of P */
    void (*gather_columns)(const void *y, int64_t ldy, const int64_t *order, int64_t rows,
                           int64_t n_columns, void *t, int64_t capacity);
    void (*panels_to_columns)(const void *c, int64_t c_panel, void *s, int64_t capacity,
                              int64_t rows, int64_t n_columns);
    void (*columns_to_panels)(const void *s, int64_t capacity, void *c, int64_t c_panel,
                              int64_t rows, int64_t n_columns);
    /* WT[k / P][n][k % P] = W[n / P][k][n % P] for n_k (<= P) rows of one panel of W */
    void (*transpose_block)(const void *w, int64_t n_k, void *wt);
    /* columns n_valid.. of a panel become 0 */
    void (*zero_padding)(void *panel, int64_t rows, int64_t n_valid);
    /* out[i, n] = S[n, i]; out rows n_columns apart */
    void (*columns_to_rows)(const void *s, int64_t capacity, void *out, int64_t rows,
                            int64_t n_columns);
    /* out[i, n] = columns[n][i]; out rows n_columns apart; returns whether all are finite */
    int (*join_columns)(const void *const *columns, int64_t rows, int64_t n_columns, void *out);

    /* C[i, :] = bias + sum over the non-zeros of row i of x W[k, :]; W rows w_row apart; w_end: no
     * read at or past it (flat weights have no padding after the last row) */
    void (*sparse_product)(const fb_csr *x, const int64_t *order, int64_t first, int64_t rows,
                           const void *w, int64_t w_row, const void *w_end, const void *bias,
                           void *c, int64_t c_panel, int64_t n_panels);
    /* G[k, :] += x D[i, :] for the non-zeros with k0 <= k < k1; G rows g_row apart */
    void (*sparse_gradient)(const fb_csr *x, const int64_t *order, int64_t first, int64_t rows,
                            const void *d, int64_t d_panel, void *g, int64_t g_row,
                            int64_t n_panels, int64_t k0, int64_t k1);
    /* G[k, :] = 0 for those k */
    void (*sparse_clear)(const fb_csr *x, const int64_t *order, int64_t first, int64_t rows,
                         void *g, int64_t g_row, int64_t n_panels, int64_t k0, int64_t k1);

    /* the first layer of a member: see members.h. M[k, :] = r[k] W[k, :]; M OUT, laid out as W */
    void (*scale_rows)(const void *w, int64_t w_row, int64_t w_panel, const void *r, void *m,
                       int64_t n_k, int64_t n_panels);
    /* G[k, :] (+)= r[k] U[k, :]; g_r[k] (+)= sum_h W[k, h] U[k, h]; W, r, U IN, U's rows w_row
     * apart and panels u_panel apart; G OUT, laid out as W; g_r OUT */
    void (*member_gradient)(const void *w, int64_t w_row, int64_t w_panel, const void *r,
                            const void *u, int64_t u_panel, void *g, void *g_r, int64_t n_k,
                            int64_t n_panels, int accumulate, int accumulate_r);
    /* the same over CSR, where W is row-major: V[k, :] = r[k] W[k, :] (+ V[k - 1, :] where
     * continues[k]); slots: row of V for each k, or -1, NULL: k; V OUT, its rows w_row apart */
    void (*run_rows)(const void *w, int64_t w_row, const void *r, const uint8_t *continues,
                     const int32_t *slots, void *v, int64_t n_k, int64_t n);
    /* S[k, :] = U[k, :] (+ S[k + 1, :] where continues[k + 1]); G[k, :] (+)= r[k] S[k, :];
     * g_r[k] (+)= sum_h W[k, h] S[k, h]; U INOUT: 0 afterwards; G, g_r OUT */
    void (*run_gradient)(const void *w, int64_t w_row, const void *r, const uint8_t *continues,
                         void *u, void *g, void *g_r, int64_t n_k, int64_t n_panels,
                         int accumulate, int accumulate_r);

    /* units left out of a step, and what goes with an optimiser's step: see dropout.h, optimizers.h */
    void (*dropout)(const void *a, void *out, int64_t panel, int64_t rows, int64_t n_panels,
                    uint64_t key, int64_t row, int64_t column, uint32_t threshold, double scale);
    double (*gradient_squares)(const void *w, const void *g, int64_t n, double l2);
    void (*shrink)(void *g, int64_t n, double factor);
    void (*average)(void *mean, const void *w, int64_t n, double share);

    /* row-major scores (rows, n) -> output transform in place, by name's index in fb_transforms */
    void (*transform)(int kind, void *scores, int64_t rows, int64_t n);
    int (*all_finite)(const void *x, int64_t n);
    double (*peak)(int64_t n); /* n rounds of independent multiply-adds; returns flops done */

    const fb_activation *activations; /* each ends with an entry without a name */
    const fb_loss *losses;
    const fb_optimizer *optimizers;
} fb_kernels;

enum { FB_IDENTITY, FB_LOGISTIC, FB_SOFTMAX, FB_EXP, FB_LOG_LOGISTIC, FB_LOG_SOFTMAX,
       FB_CUMULATIVE_SOFTPLUS };

/* Number x, from 0, of SplitMix64's stream with seed 0: neighbours have nothing in common. */
static inline uint64_t fb_mix(uint64_t x)
{
    x = (x + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* cpu.c */
int fb_n_instruction_sets(void);                 /* those this processor runs, best first */
const char *fb_instruction_set(int index);
const fb_kernels *fb_find_kernels(int index, int itemsize);
uint64_t fb_flush_subnormals(void);              /* returns the caller's setting */
void fb_restore_float_state(uint64_t state);
void *fb_allocate(size_t bytes);                 /* 64-byte aligned, zeroed; NULL when out of memory */
void fb_release(void *block);
int64_t fb_fail_allocation(int64_t after);       /* for tests; returns what was left of the count */
int64_t fb_clock_ns(void);                       /* monotonic */

#endif
