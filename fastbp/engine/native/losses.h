/* The fast loops of the built-in losses, accelerators of the rows in fastbp/losses.py, and the
 * output transforms of a prediction.
 *
 * Part of the template (see template.h). Vectors run over rows, so softmax costs no reduction
 * across lanes. Arguments of a loss:
 *   targets   (n_outputs or 1, capacity) columns   IN   numbers, or class codes
 *   scores    (n_outputs, capacity) columns        INOUT  raw scores -> delta = dLoss/dscore
 *   weights   (capacity,)                          IN   sample weights of the minibatch
 *   scale     1 / sum of weights: delta = scale * weight * gradient
 *   row_loss  (capacity,) double                   OUT  unweighted loss of each row
 * Loss and gradient come from the raw score, never from a probability, so saturated outputs keep
 * their digits. Deltas of rows beyond the last are 0 up to a multiple of P. */

#define LOSS_ARGUMENTS                                                                             \
    const void *targets_, void *scores_, const void *weights_, double scale_, double *row_loss,    \
        int64_t capacity, int64_t rows, int64_t n_outputs

typedef double NAME(doubles) __attribute__((vector_size(VL * 8)));
typedef double NAME(doubles_t) __attribute__((vector_size(VL * 8), aligned(8), may_alias));

/* Rows beyond the last get a value too; nobody reads it. */
INLINE void NAME(store_row_loss)(double *row_loss, vec total)
{
    *(NAME(doubles_t) *)row_loss = __builtin_convertvector(total, NAME(doubles));
}

/* Rows that exist, as a mask: padding may hold anything, NaN included. */
INLINE ivec NAME(valid_rows)(int64_t valid)
{
    BITS limit = valid < VL ? (BITS)valid : VL;
    return (ivec)(NAME(iota)() < limit);
}

/* A loss that is a sum over outputs of l(y, s): value and gradient in terms of y and s. prepare may
 * define what both need. The mean over outputs of the squared error is taken by the caller. */
#define ELEMENTWISE_LOSS(name, prepare, value, gradient)                                           \
    static void NAME(name##_loss)(LOSS_ARGUMENTS)                                                  \
    {                                                                                              \
        const REAL *targets = targets_, *weights = weights_;                                       \
        REAL *scores = scores_;                                                                    \
        REAL scale = (REAL)scale_;                                                                 \
        int64_t padded = (rows + P - 1) / P * P;                                                   \
        for (int64_t i = 0; i < padded; i += VL) {                                                 \
            ivec exists = NAME(valid_rows)(rows - i);                                              \
            vec factor = load(weights + i) * scale, total = {0};                                   \
            for (int64_t n = 0; n < n_outputs; n++) {                                              \
                vec y = load(targets + n * capacity + i), s = load(scores + n * capacity + i);     \
                prepare;                                                                           \
                total += value;                                                                    \
                vec delta = (gradient) * factor;                                                   \
                store(scores + n * capacity + i, (vec)((ivec)delta & exists));                     \
            }                                                                                      \
            NAME(store_row_loss)(row_loss + i, total);                                   \
        }                                                                                          \
    }

ELEMENTWISE_LOSS(squared_error, vec r = s - y, r * r * (REAL)0.5, r)

/* y ln y - y is a constant of the data: the loss is the half deviance, 0 at a perfect fit */
INLINE vec NAME(y_log_y)(vec y)
{
    vec r = {0};
    for (int l = 0; l < VL; l++)
        r[l] = y[l] > 0 ? (REAL)((double)y[l] * log((double)y[l])) : (REAL)0;
    return r;
}
ELEMENTWISE_LOSS(poisson, vec mean = exp_(s), NAME(y_log_y)(y) - y * s - y + mean, mean - y)

/* softplus(s) - y s, softplus(s) = max(s, 0) + ln(1 + exp(-|s|)) */
INLINE vec NAME(softplus_parts)(vec s, vec *probability)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    vec e = exp_((vec)((ivec)s | sign_bit)); /* exp(-|s|) */
    vec smaller = e / (e + (REAL)1), larger = (REAL)1 / (e + (REAL)1);
    ivec positive = (ivec)(s > (REAL)0);
    *probability = select_(positive, larger, smaller);
    return select_((ivec)(s < (REAL)0), (vec){0}, s) + NAME(log1p)(e);
}
ELEMENTWISE_LOSS(binary_log_loss, vec p; vec q = NAME(softplus_parts)(s, &p), q - y * s, p - y)

/* ln sum_n exp(s_n) - s_c for the class c of the row; gradient p_n - [n = c] */
static void NAME(log_loss_loss)(LOSS_ARGUMENTS)
{
    const REAL *targets = targets_, *weights = weights_;
    REAL *scores = scores_;
    REAL scale = (REAL)scale_;
    int64_t padded = (rows + P - 1) / P * P;
    for (int64_t i = 0; i < padded; i += VL) {
        ivec exists = NAME(valid_rows)(rows - i);
        vec code = load(targets + i), factor = load(weights + i) * scale;
        REAL *s = scores + i;
        vec top = load(s), sum = {0}, of_class = {0};
        for (int64_t n = 1; n < n_outputs; n++)
            top = NAME(max)(top, load(s + n * capacity));
        for (int64_t n = 0; n < n_outputs; n++) {
            vec shifted = load(s + n * capacity) - top, e = exp_(shifted);
            of_class = select_((ivec)(code == (REAL)n), shifted, of_class);
            sum += e;
            store(s + n * capacity, e);
        }
        vec inverse = (REAL)1 / sum;
        for (int64_t n = 0; n < n_outputs; n++) {
            vec p = load(s + n * capacity) * inverse;
            vec hit = (vec)((ivec)splat(1) & (ivec)(code == (REAL)n));
            store(s + n * capacity, (vec)((ivec)((p - hit) * factor) & exists));
        }
        NAME(store_row_loss)(row_loss + i, NAME(log)(sum) - of_class);
    }
}

static const fb_loss NAME(losses)[] = {
    {"squared_error", NAME(squared_error_loss)},
    {"poisson", NAME(poisson_loss)},
    {"binary_log_loss", NAME(binary_log_loss_loss)},
    {"log_loss", NAME(log_loss_loss)},
    {NULL, NULL},
};

/* Output transforms on row-major scores (rows, n), in place. A row's result depends on that row
 * alone: softmax runs along the row on zero-padded vectors with one fixed order of summation. */
static void NAME(transform_elements)(int kind, REAL *s, int64_t n)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    for (int64_t i = 0; i < n; i += VL) {
        vec x = {0}, y;
        int64_t valid = n - i < VL ? n - i : VL;
        memcpy(&x, s + i, (size_t)valid * sizeof(REAL));
        if (kind == FB_LOGISTIC)
            (void)NAME(softplus_parts)(x, &y);
        else if (kind == FB_EXP)
            y = exp_(x);
        else /* ln logistic(x) = min(x, 0) - ln(1 + exp(-|x|)) */
            y = select_((ivec)(x > (REAL)0), (vec){0}, x) -
                NAME(log1p)(exp_((vec)((ivec)x | sign_bit)));
        memcpy(s + i, &y, (size_t)valid * sizeof(REAL));
    }
}

/* exp(s_j - max s) / total. The total is summed in double with the rounding errors added back
 * (Neumaier 1974), so that the probabilities of a row add up to 1 within eps for any n. */
static void NAME(transform_softmax)(int kind, REAL *s, int64_t n)
{
    REAL top = s[0];
    for (int64_t j = 1; j < n; j++)
        top = s[j] > top || s[j] != s[j] ? s[j] : top;
    vec sum = {0};
    for (int64_t j = 0; j < n; j += VL) {
        int64_t valid = n - j < VL ? n - j : VL;
        vec x = splat(top);
        memcpy(&x, s + j, (size_t)valid * sizeof(REAL));
        x -= top;
        vec e = exp_(x);
        sum += (vec)((ivec)e & NAME(valid_rows)(valid));
        memcpy(s + j, kind == FB_SOFTMAX ? &e : &x, (size_t)valid * sizeof(REAL));
    }
    if (kind == FB_SOFTMAX) {
        double total = 0, lost = 0;
        for (int64_t j = 0; j < n; j++) {
            double e = (double)s[j], next = total + e;
            lost += total >= e ? (total - next) + e : (e - next) + total;
            total = next;
        }
        total += lost;
        for (int64_t j = 0; j < n; j++)
            s[j] = (REAL)((double)s[j] / total);
    } else {
        REAL log_total = NAME(log)(splat(NAME(sum)(sum)))[0];
        for (int64_t j = 0; j < n; j++)
            s[j] -= log_total;
    }
}

static void NAME(transform)(int kind, void *scores, int64_t rows, int64_t n)
{
    REAL *s = scores;
    if (kind == FB_SOFTMAX || kind == FB_LOG_SOFTMAX)
        for (int64_t i = 0; i < rows; i++)
            NAME(transform_softmax)(kind, s + i * n, n);
    else if (kind != FB_IDENTITY)
        NAME(transform_elements)(kind, s, rows * n);
}
