/* The fast loops of the built-in activations: accelerators of the rows in fastbp/activations.py,
 * which hold the formulas and name the loop. A row is one entry of the table at the end.
 *
 * Part of the template (see template.h). n is a multiple of P. */

#define EACH(i) for (int64_t i = 0; i < n; i += VL)

#define FORWARD(name, formula)                                                                     \
    static void NAME(name##_forward)(void *a_, void *z_keep, int64_t n)                            \
    {                                                                                              \
        REAL *a = a_;                                                                              \
        if (z_keep)                                                                                \
            memcpy(z_keep, a, (size_t)n * sizeof(REAL));                                           \
        EACH(i) {                                                                                  \
            vec z = load(a + i);                                                                   \
            store(a + i, formula);                                                                 \
        }                                                                                          \
    }

/* at is f(z), or z where the row says so */
#define SLOPE(name, formula)                                                                       \
    static void NAME(name##_slope)(void *delta_, const void *at_, int64_t n)                       \
    {                                                                                              \
        REAL *delta = delta_;                                                                      \
        const REAL *from = at_;                                                                    \
        EACH(i) {                                                                                  \
            vec at = load(from + i), d = load(delta + i);                                          \
            store(delta + i, formula);                                                             \
        }                                                                                          \
    }

FORWARD(identity, z)
SLOPE(identity, (((void)at), d))
FORWARD(relu, (vec)((ivec)z & ~(ivec)(z < (REAL)0)))
SLOPE(relu, (vec)((ivec)d & ~(ivec)(at == (REAL)0)))
FORWARD(logistic, NAME(logistic)(z))
SLOPE(logistic, d * at * ((REAL)1 - at))
FORWARD(tanh, NAME(tanh)(z))
SLOPE(tanh, d * ((REAL)1 - at * at))

#define ACTIVATION(name, fused) {#name, NAME(name##_forward), NAME(name##_slope), fused}
static const fb_activation NAME(activations)[] = {
    ACTIVATION(identity, 1),
    ACTIVATION(relu, 2),
    ACTIVATION(logistic, 0),
    ACTIVATION(tanh, 0),
    {NULL, NULL, NULL, 0},
};
