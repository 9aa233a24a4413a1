/* The fast loops of the built-in optimisers, accelerators of the rows in fastbp/optimizers.py.
 *
 * Part of the template (see template.h). One pass over w, g and the slots of n parameters (a
 * multiple of P):
 *   w  INOUT parameters;  g  IN gradient of the data term;  s0, s1  INOUT optimiser slots
 *   l2 the penalty's slope: the gradient stepped along is g + l2 w (0 for biases)
 *   h  step constants, computed once a step by `prepare` from the row's hyper-parameters
 * Returns the sum of the squares of the old w, from which the loss takes its penalty: the weights
 * are here anyway. It is summed lane by lane in the dtype and then in double. */

/* v <- momentum v - rate g;  w <- w + v, or w + momentum v - rate g with Nesterov's look-ahead
 * (Sutskever et al., ICML 2013, in scikit-learn's form). hyper: momentum, nesterovs_momentum */
static void NAME(sgd_prepare)(const double *hyper, double learning_rate, double t, double *h)
{
    (void)t;
    h[0] = learning_rate;
    h[1] = hyper[0];
    h[2] = hyper[1];
}

static double NAME(sgd_update)(void *w_, const void *g_, void *s0, void *s1, int64_t n, double l2_,
                               const double *h)
{
    REAL *w = w_, *v = s0;
    const REAL *g = g_, rate = (REAL)h[0], momentum = (REAL)h[1], l2 = (REAL)l2_;
    int nesterov = h[2] != 0;
    vec squares = {0};
    (void)s1;
    EACH(i) {
        vec old = load(w + i), gradient = load(g + i) + l2 * old;
        vec step = momentum * load(v + i) - rate * gradient;
        squares += old * old;
        store(v + i, step);
        if (nesterov)
            step = momentum * step - rate * gradient;
        store(w + i, old + step);
    }
    return (double)NAME(sum)(squares);
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

static double NAME(adam_update)(void *w_, const void *g_, void *s0, void *s1, int64_t n, double l2_,
                                const double *h)
{
    REAL *w = w_, *m = s0, *v = s1;
    const REAL *g = g_, rate = (REAL)h[0], b1 = (REAL)h[1], b2 = (REAL)h[2], eps = (REAL)h[3];
    const REAL c1 = (REAL)(1 - h[1]), c2 = (REAL)(1 - h[2]), l2 = (REAL)l2_;
    vec squares = {0};
    EACH(i) {
        vec old = load(w + i), gradient = load(g + i) + l2 * old;
        vec first = b1 * load(m + i) + c1 * gradient;
        vec second = b2 * load(v + i) + c2 * (gradient * gradient);
        squares += old * old;
        store(m + i, first);
        store(v + i, second);
        store(w + i, old - rate * NAME(over_root)(first, second, eps));
    }
    return (double)NAME(sum)(squares);
}

static const fb_optimizer NAME(optimizers)[] = {
    {"sgd", 1, NAME(sgd_prepare), NAME(sgd_update)},
    {"adam", 2, NAME(adam_prepare), NAME(adam_update)},
    {NULL, 0, NULL, NULL},
};
