/* The fast loops of the built-in losses, accelerators of the entries in fastbp/losses, and the
 * output transforms of a prediction.
 *
 * Part of the template (see template.h). Vectors run over rows, so softmax costs no reduction
 * across lanes. Arguments of a loss:
 *   targets   (n_outputs or 1, capacity) columns   IN   numbers, or class codes
 *   scores    (n_outputs, capacity) columns        INOUT  raw scores -> delta = dLoss/dscore
 *   weights   (capacity,)                          IN   sample weights of the minibatch
 *   scale     1 / sum of weights: delta = scale * weight * gradient
 *   row_loss  (capacity,) double                   OUT  unweighted loss of each row
 *   hyper     the entry's numbers (delta of huber, ...)  IN   at least one, 0 where there is none
 * Loss and gradient come from the raw score, never from a probability, so saturated outputs keep
 * their digits (clipped_* report scikit-learn's loss, which does not). Deltas of rows beyond the last are 0 up to a multiple of P. */

#define LOSS_ARGUMENTS                                                                             \
    const void *targets_, void *scores_, const void *weights_, double scale_, double *row_loss,    \
        int64_t capacity, int64_t rows, int64_t n_outputs, const double *hyper

/* Rows beyond the last get a value too; nobody reads it. */
INLINE void NAME(store_row_loss)(double *row_loss, vec total)
{
    REAL parts[VL];
    store(parts, total);
    for (int l = 0; l < VL; l++)
        row_loss[l] = (double)parts[l];
}

/* Rows that exist, as a mask: padding may hold anything, NaN included. */
INLINE ivec NAME(valid_rows)(int64_t valid)
{
    BITS limit = valid < VL ? (BITS)valid : VL;
    return (ivec)(NAME(iota)() < limit);
}

/* A loss that is a sum over outputs of l(y, s): value and gradient in terms of y, s and the first
 * number h of the entry. prepare may define what both need. The mean over outputs of the squared
 * error is taken by the caller. */
#define ELEMENTWISE_LOSS(name, prepare, value, gradient)                                           \
    static void NAME(name##_loss)(LOSS_ARGUMENTS)                                                  \
    {                                                                                              \
        const REAL *targets = targets_, *weights = weights_;                                       \
        REAL *scores = scores_;                                                                    \
        REAL scale = (REAL)scale_, h = (REAL)hyper[0];                                             \
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
            NAME(store_row_loss)(row_loss + i, total);                                             \
        }                                                                                          \
        (void)h;                                                                                   \
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

/* r = s - y; its sign, 0 or NaN where it is that */
INLINE vec NAME(slope_of_parts)(vec r, vec above, vec below)
{
    return select_((ivec)(r > (REAL)0), above, select_((ivec)(r < (REAL)0), below, r));
}
ELEMENTWISE_LOSS(absolute_error, vec r = s - y; vec g = NAME(slope_of_parts)(r, splat(1), splat(-1)),
                 g * r, g)
/* q (y - s) for s < y, (1 - q) (s - y) for s > y */
ELEMENTWISE_LOSS(quantile, vec r = s - y;
                 vec g = NAME(slope_of_parts)(r, splat((REAL)(1 - hyper[0])), splat(-h)), g * r, g)
/* r^2 / 2 for |r| <= delta, else delta (|r| - delta / 2): c (r - c / 2), c = r clipped to +-delta */
INLINE vec NAME(clipped)(vec r, REAL delta)
{
    r = select_((ivec)(r > delta), splat(delta), r);
    return select_((ivec)(r < -delta), splat(-delta), r);
}
ELEMENTWISE_LOSS(huber, vec r = s - y; vec c = NAME(clipped)(r, h), c * (r - c * (REAL)0.5), c)

/* d + exp(-d) - 1, d = s - ln y: half the gamma deviance with log link */
ELEMENTWISE_LOSS(gamma, vec d = s - NAME(log_positive)(y); vec g = -NAME(expm1)(-d), d - g, g)

/* y^b (expm1(b d) / b - expm1(a d) / a), a = 1 - p, b = 2 - p, d = s - ln y; exp(b s) / b for y = 0.
 * Gradient exp(b s) - y exp(a s) */
INLINE vec NAME(tweedie_parts)(vec y, vec s, double power, vec *gradient)
{
    const REAL a = (REAL)(1 - power), b = (REAL)(2 - power), over_a = (REAL)(1 / (1 - power)),
               over_b = (REAL)(1 / (2 - power));
    ivec positive = (ivec)(y > (REAL)0);
    vec log_y = NAME(log_positive)(y), d = s - log_y, rising = exp_(s * b);
    vec value = exp_(log_y * b) * (NAME(expm1)(d * b) * over_b - NAME(expm1)(d * a) * over_a);
    *gradient = rising - (vec)((ivec)(y * exp_(s * a)) & positive);
    return select_(positive, value, rising * over_b);
}
ELEMENTWISE_LOSS(tweedie, vec g; vec value = NAME(tweedie_parts)(y, s, hyper[0], &g), value, g)

/* softplus(s) - y s */
ELEMENTWISE_LOSS(binary_log_loss, vec p; vec q = NAME(softplus_parts)(s, &p), q - y * s, p - y)

/* -ln p of probabilities moved into [h, 1 - h], as exact near p = 1 as p is: the loss that
 * scikit-learn reports, h being eps of the dtype. The gradient is that of the loss itself. */
INLINE vec NAME(clipped_loss)(vec p, REAL h)
{
    p = select_((ivec)(p < h), splat(h), p);
    p = select_((ivec)(p > 1 - h), splat(1 - h), p);
    vec over_p = (REAL)1 / p;
    return select_((ivec)(p < (REAL)0.5), NAME(log)(over_p), NAME(log1p)(((REAL)1 - p) * over_p));
}
ELEMENTWISE_LOSS(clipped_binary_log_loss, vec p; (void)NAME(softplus_parts)(s, &p);
                 vec right = select_((ivec)(y > (REAL)0), p, (REAL)1 - p),
                 NAME(clipped_loss)(right, h), p - y)

/* the same for the target y + h (1/2 - y) */
ELEMENTWISE_LOSS(smoothed_binary_log_loss, vec p; vec q = NAME(softplus_parts)(s, &p);
                 vec goal = y + ((REAL)0.5 - y) * h, q - goal * s, p - goal)

/* -(1 - p)^h ln p, p = logistic(m), m = s where y is 1, else -s: exp(-h softplus(m)) softplus(-m);
 * gradient -+ (1 - p)^h (1 - p + h p softplus(-m)) */
INLINE vec NAME(binary_focal_parts)(vec y, vec s, REAL h, vec *gradient)
{
    ivec yes = (ivec)(y > (REAL)0);
    vec m = select_(yes, s, -s), p, q;
    vec minus_log_q = NAME(softplus_parts)(m, &p), minus_log_p = NAME(softplus_parts)(-m, &q);
    vec weight = exp_(minus_log_q * -h), g = weight * (q + p * minus_log_p * h);
    *gradient = select_(yes, -g, g);
    return weight * minus_log_p;
}
ELEMENTWISE_LOSS(binary_focal, vec g; vec value = NAME(binary_focal_parts)(y, s, h, &g), value, g)

/* ln sum_n exp(s_n) - s_c for the class c of the row; gradient p_n - [n = c]. Smoothed, the target
 * of class n is (1 - smoothing) [n = c] + smoothing / n_outputs instead of [n = c]. */
INLINE void NAME(cross_entropy)(LOSS_ARGUMENTS, int smoothed, int clipped)
{
    const REAL *targets = targets_, *weights = weights_;
    REAL *scores = scores_;
    REAL scale = (REAL)scale_, of_all = (REAL)(hyper[0] / (double)n_outputs), h = (REAL)hyper[0];
    int64_t padded = (rows + P - 1) / P * P;
    for (int64_t i = 0; i < padded; i += VL) {
        ivec exists = NAME(valid_rows)(rows - i);
        vec code = load(targets + i), factor = load(weights + i) * scale;
        REAL *s = scores + i;
        vec top = load(s), sum = {0}, of_class = {0}, all = {0};
        for (int64_t n = 1; n < n_outputs; n++)
            top = NAME(max)(top, load(s + n * capacity));
        for (int64_t n = 0; n < n_outputs; n++) {
            vec shifted = load(s + n * capacity) - top, e = exp_(shifted);
            of_class = select_((ivec)(code == (REAL)n), shifted, of_class);
            sum += e;
            if (smoothed)
                all += shifted;
            store(s + n * capacity, e);
        }
        vec inverse = (REAL)1 / sum;
        for (int64_t n = 0; n < n_outputs; n++) {
            vec p = load(s + n * capacity) * inverse;
            vec hit = (vec)((ivec)splat(1) & (ivec)(code == (REAL)n));
            if (smoothed)
                p = p - of_all + hit * h;
            store(s + n * capacity, (vec)((ivec)((p - hit) * factor) & exists));
        }
        vec loss = NAME(log)(sum) - of_class;
        if (smoothed)
            loss += of_class * h - all * of_all;
        if (clipped)
            loss = NAME(clipped_loss)(exp_(of_class) / sum, h);
        NAME(store_row_loss)(row_loss + i, loss);
    }
}

#define LOSS_GIVEN                                                                                 \
    targets_, scores_, weights_, scale_, row_loss, capacity, rows, n_outputs, hyper

static void NAME(log_loss_loss)(LOSS_ARGUMENTS) { NAME(cross_entropy)(LOSS_GIVEN, 0, 0); }
static void NAME(smoothed_log_loss_loss)(LOSS_ARGUMENTS) { NAME(cross_entropy)(LOSS_GIVEN, 1, 0); }
static void NAME(clipped_log_loss_loss)(LOSS_ARGUMENTS) { NAME(cross_entropy)(LOSS_GIVEN, 0, 1); }

/* -(1 - p)^h ln p of the softmax probability p of the row's class c. With q = 1 - p and
 * f = q^h (q - h p ln p) the gradient is -f at c and f p_n / q elsewhere. */
static void NAME(focal_loss)(LOSS_ARGUMENTS)
{
    const REAL *targets = targets_, *weights = weights_;
    REAL *scores = scores_;
    REAL scale = (REAL)scale_, h = (REAL)hyper[0];
    int64_t padded = (rows + P - 1) / P * P;
    for (int64_t i = 0; i < padded; i += VL) {
        ivec exists = NAME(valid_rows)(rows - i);
        vec code = load(targets + i), factor = load(weights + i) * scale;
        REAL *s = scores + i;
        vec top = load(s), rest = {0}, of_class = {0};
        for (int64_t n = 1; n < n_outputs; n++)
            top = NAME(max)(top, load(s + n * capacity));
        for (int64_t n = 0; n < n_outputs; n++) {
            ivec hit = (ivec)(code == (REAL)n);
            vec shifted = load(s + n * capacity) - top, e = exp_(shifted);
            of_class = select_(hit, shifted, of_class);
            rest += (vec)((ivec)e & ~hit);
            store(s + n * capacity, e);
        }
        vec e = exp_(of_class), sum = rest + e, inverse = (REAL)1 / sum;
        vec p = e * inverse, q = rest * inverse, minus_log_p = NAME(log)(sum) - of_class;
        ivec some = (ivec)(rest != (REAL)0);
        vec weight = (vec)((ivec)exp_(NAME(log)(sum / rest) * -h) & some); /* q^h */
        vec f = weight * (q + p * minus_log_p * h), share = (vec)((ivec)(f / rest) & some);
        for (int64_t n = 0; n < n_outputs; n++) {
            vec g = select_((ivec)(code == (REAL)n), -f, load(s + n * capacity) * share);
            store(s + n * capacity, (vec)((ivec)(g * factor) & exists));
        }
        NAME(store_row_loss)(row_loss + i, weight * minus_log_p);
    }
}

/* Mean over k of the pinball losses of quantile hyper[k] at the level s_0 + softplus(s_1) + ... +
 * softplus(s_k), all for the one target of the row. The slopes of the levels from k on, times
 * logistic(s_k) for k > 0, are the gradient by s_k: their sum over all levels comes first, and on
 * the second way up each level takes its slope away. */
static void NAME(quantiles_loss)(LOSS_ARGUMENTS)
{
    const REAL *targets = targets_, *weights = weights_;
    REAL *scores = scores_;
    REAL scale = (REAL)scale_, share = (REAL)(1 / (double)n_outputs);
    int64_t padded = (rows + P - 1) / P * P;
    for (int64_t i = 0; i < padded; i += VL) {
        ivec exists = NAME(valid_rows)(rows - i);
        vec y = load(targets + i), factor = load(weights + i) * scale * share;
        REAL *s = scores + i;
        vec loss = {0}, slopes = {0};
        for (int second = 0; second < 2; second++) {
            vec level = load(s), p;
            for (int64_t k = 0; k < n_outputs; k++) {
                vec chain = splat(1);
                if (k > 0) {
                    level += NAME(softplus_parts)(load(s + k * capacity), &p);
                    chain = p;
                }
                vec r = level - y;
                vec g = NAME(slope_of_parts)(r, splat((REAL)(1 - hyper[k])), splat((REAL)-hyper[k]));
                if (second) {
                    vec delta = slopes * chain * factor;
                    store(s + k * capacity, (vec)((ivec)delta & exists));
                    slopes -= g;
                } else {
                    loss += g * r;
                    slopes += g;
                }
            }
        }
        NAME(store_row_loss)(row_loss + i, loss * share);
    }
}

static const fb_loss NAME(losses)[] = {
    {"squared_error", NAME(squared_error_loss)},
    {"poisson", NAME(poisson_loss)},
    {"binary_log_loss", NAME(binary_log_loss_loss)},
    {"log_loss", NAME(log_loss_loss)},
    {"absolute_error", NAME(absolute_error_loss)},
    {"huber", NAME(huber_loss)},
    {"quantile", NAME(quantile_loss)},
    {"quantiles", NAME(quantiles_loss)},
    {"gamma", NAME(gamma_loss)},
    {"tweedie", NAME(tweedie_loss)},
    {"smoothed_log_loss", NAME(smoothed_log_loss_loss)},
    {"smoothed_binary_log_loss", NAME(smoothed_binary_log_loss_loss)},
    {"clipped_log_loss", NAME(clipped_log_loss_loss)},
    {"clipped_binary_log_loss", NAME(clipped_binary_log_loss_loss)},
    {"focal", NAME(focal_loss)},
    {"binary_focal", NAME(binary_focal_loss)},
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

/* s_0, s_0 + softplus(s_1), ...: levels that never decrease */
static void NAME(transform_levels)(REAL *s, int64_t n)
{
    for (int64_t j = 1; j < n; j += VL) {
        vec x = {0}, p;
        int64_t valid = n - j < VL ? n - j : VL;
        memcpy(&x, s + j, (size_t)valid * sizeof(REAL));
        x = NAME(softplus_parts)(x, &p);
        memcpy(s + j, &x, (size_t)valid * sizeof(REAL));
    }
    for (int64_t j = 1; j < n; j++)
        s[j] += s[j - 1];
}

static void NAME(transform)(int kind, void *scores, int64_t rows, int64_t n)
{
    REAL *s = scores;
    if (kind == FB_SOFTMAX || kind == FB_LOG_SOFTMAX)
        for (int64_t i = 0; i < rows; i++)
            NAME(transform_softmax)(kind, s + i * n, n);
    else if (kind == FB_CUMULATIVE_SOFTPLUS)
        for (int64_t i = 0; i < rows; i++)
            NAME(transform_levels)(s + i * n, n);
    else if (kind != FB_IDENTITY)
        NAME(transform_elements)(kind, s, rows * n);
}
