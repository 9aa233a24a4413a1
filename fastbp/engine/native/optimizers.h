/* The fast loops of the built-in optimisers, accelerators of the entries in fastbp/optimizers.py.
 *
 * Part of the template (see template.h). One pass over w, g and the slots of n parameters (a
 * multiple of P):
 *   w  INOUT parameters;  g  IN gradient of the data term;  s0, s1  INOUT optimiser slots
 *   l2 the penalty's slope: the gradient stepped along is g + l2 w (0 for biases)
 *   h  step constants, computed once a step by `prepare` from the entry's hyper-parameters
 * Returns the sum of the squares of the old w, from which the loss takes its penalty: the weights
 * are here anyway. It is summed lane by lane in the dtype and then in double. Without a penalty
 * nobody reads it, and it may be anything finite. */

/* Without a penalty 0: the lanes would be added for nothing, and the next kernel would wait. */
INLINE double NAME(penalized)(vec squares, REAL l2)
{
    return l2 == 0 ? 0 : (double)NAME(sum)(squares);
}

/* v <- momentum v - rate g;  w <- w + v, or w + momentum v - rate g with Nesterov's look-ahead
 * (Sutskever et al., ICML 2013, in scikit-learn's form). Without momentum v is left alone.
 * hyper: momentum, nesterovs_momentum */
static void NAME(sgd_prepare)(const double *hyper, double learning_rate, double t, double *h)
{
    (void)t;
    h[0] = learning_rate;
    h[1] = hyper[0];
    h[2] = hyper[1];
}

INLINE vec NAME(plain_step)(REAL *w, const REAL *g, REAL rate, REAL l2)
{
    vec old = load(w), gradient = load(g) + l2 * old;
    store(w, old - rate * gradient);
    return old * old;
}

/* Two sums of squares: there is so little else to do that one would wait for its own additions. */
INLINE double NAME(plain_update)(REAL *w, const REAL *g, int64_t n, REAL rate, REAL l2)
{
    vec even = {0}, odd = {0};
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        even += NAME(plain_step)(w + i, g + i, rate, l2);
        odd += NAME(plain_step)(w + i + VL, g + i + VL, rate, l2);
    }
    if (i < n)
        even += NAME(plain_step)(w + i, g + i, rate, l2);
    return NAME(penalized)(even + odd, l2);
}

static double NAME(sgd_update)(void *w_, const void *g_, void *s0, void *s1, int64_t n, double l2_,
                               const double *h)
{
    REAL *w = w_, *v = s0;
    const REAL *g = g_, rate = (REAL)h[0], momentum = (REAL)h[1], l2 = (REAL)l2_;
    int nesterov = h[2] != 0;
    vec squares = {0};
    (void)s1;
    if (h[1] == 0)
        return NAME(plain_update)(w, g, n, rate, l2);
    EACH(i) {
        vec old = load(w + i), gradient = load(g + i) + l2 * old;
        vec step = momentum * load(v + i) - rate * gradient;
        squares += old * old;
        store(v + i, step);
        if (nesterov)
            step = momentum * step - rate * gradient;
        store(w + i, old + step);
    }
    return NAME(penalized)(squares, l2);
}

/* m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  w <- w - r m / (sqrt(v) + eps),
 * r = rate sqrt(1 - b2^t) / (1 - b1^t): epsilon outside the bias correction, as scikit-learn and
 * the text before section 2.1 of Kingma and Ba (arXiv 1412.6980). hyper: beta_1, beta_2, epsilon */
static void NAME(adam_prepare)(const double *hyper, double learning_rate, double t, double *h)
{
    h[0] = learning_rate * sqrt(1 - pow(hyper[1], t)) / (1 - pow(hyper[0], t));
    h[1] = hyper[0];
    h[2] = hyper[1];
    h[3] = hyper[2];
}

INLINE double NAME(adam_step)(void *w_, const void *g_, void *s0, void *s1, int64_t n, double l2_,
                              const double *h, int decays)
{
    REAL *w = w_, *m = s0, *v = s1;
    const REAL *g = g_, rate = (REAL)h[0], b1 = (REAL)h[1], b2 = (REAL)h[2], eps = (REAL)h[3];
    const REAL c1 = (REAL)(1 - h[1]), c2 = (REAL)(1 - h[2]), l2 = (REAL)l2_;
    const REAL kept = decays ? (REAL)h[4] : 1;
    vec squares = {0};
    EACH(i) {
        vec old = load(w + i), gradient = load(g + i) + l2 * old;
        vec first = b1 * load(m + i) + c1 * gradient;
        vec second = b2 * load(v + i) + c2 * (gradient * gradient);
        squares += old * old;
        store(m + i, first);
        store(v + i, second);
        if (decays)
            old *= kept;
        store(w + i, old - rate * NAME(over_root)(first, second, eps));
    }
    return NAME(penalized)(squares, l2);
}

static double NAME(adam_update)(void *w, const void *g, void *s0, void *s1, int64_t n, double l2,
                                const double *h)
{
    return NAME(adam_step)(w, g, s0, s1, n, l2, h, 0);
}

/* Adam's step from (1 - rate weight_decay) w (Loshchilov and Hutter, arXiv 1711.05101).
 * hyper: beta_1, beta_2, epsilon, weight_decay */
static void NAME(adamw_prepare)(const double *hyper, double learning_rate, double t, double *h)
{
    NAME(adam_prepare)(hyper, learning_rate, t, h);
    h[4] = 1 - learning_rate * hyper[3];
}

static double NAME(adamw_update)(void *w, const void *g, void *s0, void *s1, int64_t n, double l2,
                                 const double *h)
{
    return NAME(adam_step)(w, g, s0, s1, n, l2, h, 1);
}

/* v <- b v + (1 - b) g^2;  u <- momentum u + g / (sqrt(v) + eps);  w <- w - rate u
 * (Tieleman and Hinton, 2012). hyper: beta_2, epsilon, momentum */
static void NAME(rmsprop_prepare)(const double *hyper, double learning_rate, double t, double *h)
{
    (void)t;
    h[0] = learning_rate;
    h[1] = hyper[0];
    h[2] = hyper[1];
    h[3] = hyper[2];
}

static double NAME(rmsprop_update)(void *w_, const void *g_, void *s0, void *s1, int64_t n,
                                   double l2_, const double *h)
{
    REAL *w = w_, *v = s0, *u = s1;
    const REAL *g = g_, rate = (REAL)h[0], b = (REAL)h[1], eps = (REAL)h[2], momentum = (REAL)h[3];
    const REAL c = (REAL)(1 - h[1]), l2 = (REAL)l2_;
    vec squares = {0};
    EACH(i) {
        vec old = load(w + i), gradient = load(g + i) + l2 * old;
        vec second = b * load(v + i) + c * (gradient * gradient);
        vec step = momentum * load(u + i) + NAME(over_root)(gradient, second, eps);
        squares += old * old;
        store(v + i, second);
        store(u + i, step);
        store(w + i, old - rate * step);
    }
    return NAME(penalized)(squares, l2);
}

/* u = b1 m + (1 - b1) g;  w <- (1 - rate weight_decay) w - rate sign(u);  m <- b2 m + (1 - b2) g
 * (Chen et al., arXiv 2302.06675). hyper: beta_1, beta_2, weight_decay */
static void NAME(lion_prepare)(const double *hyper, double learning_rate, double t, double *h)
{
    (void)t;
    h[0] = learning_rate;
    h[1] = hyper[0];
    h[2] = hyper[1];
    h[3] = 1 - learning_rate * hyper[2];
}

/* -1, 0 or 1; NaN for what is not finite, which must not pass for a direction */
INLINE vec NAME(sign)(vec u)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    ivec one = (ivec)splat(1) | ((ivec)u & sign_bit);
    return (vec)(one & (ivec)(u != (REAL)0)) + u * (REAL)0;
}

static double NAME(lion_update)(void *w_, const void *g_, void *s0, void *s1, int64_t n, double l2_,
                                const double *h)
{
    REAL *w = w_, *m = s0;
    const REAL *g = g_, rate = (REAL)h[0], b1 = (REAL)h[1], b2 = (REAL)h[2], kept = (REAL)h[3];
    const REAL c1 = (REAL)(1 - h[1]), c2 = (REAL)(1 - h[2]), l2 = (REAL)l2_;
    vec squares = {0};
    (void)s1;
    EACH(i) {
        vec old = load(w + i), gradient = load(g + i) + l2 * old, mean = load(m + i);
        squares += old * old;
        store(m + i, b2 * mean + c2 * gradient);
        store(w + i, kept * old - rate * NAME(sign)(b1 * mean + c1 * gradient));
    }
    return NAME(penalized)(squares, l2);
}

static const fb_optimizer NAME(optimizers)[] = {
    {"sgd", 1, NAME(sgd_prepare), NAME(sgd_update)},
    {"adam", 2, NAME(adam_prepare), NAME(adam_update)},
    {"adamw", 2, NAME(adamw_prepare), NAME(adamw_update)},
    {"rmsprop", 2, NAME(rmsprop_prepare), NAME(rmsprop_update)},
    {"lion", 1, NAME(lion_prepare), NAME(lion_update)},
    {NULL, 0, NULL, NULL},
};

/* What goes with a step, each over n parameters (a multiple of P). */

/* Sum of (g + l2 w)^2, in double: the squares of large float32 gradients are no float32 numbers. */
static double NAME(gradient_squares)(const void *w_, const void *g_, int64_t n, double l2_)
{
    const REAL *w = w_, *g = g_, l2 = (REAL)l2_;
    double sums[P] = {0}, total = 0;
    for (int64_t i = 0; i < n; i += P)
        for (int l = 0; l < P; l++) {
            double gradient = (double)(g[i + l] + l2 * w[i + l]);
            sums[l] += gradient * gradient;
        }
    for (int l = 0; l < P; l++)
        total += sums[l];
    return total;
}

/* g <- factor g */
static void NAME(shrink)(void *g_, int64_t n, double factor)
{
    REAL *g = g_;
    EACH(i) store(g + i, load(g + i) * (REAL)factor);
}

/* mean <- mean + share (w - mean) */
static void NAME(average)(void *mean_, const void *w_, int64_t n, double share)
{
    REAL *mean = mean_;
    const REAL *w = w_;
    EACH(i) {
        vec old = load(mean + i);
        store(mean + i, old + (load(w + i) - old) * (REAL)share);
    }
}
