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
FORWARD(relu, NAME(relu)(z))
SLOPE(relu, (vec)((ivec)d & ~(ivec)(at == (REAL)0)))
FORWARD(logistic, NAME(logistic)(z))
SLOPE(logistic, d * at * ((REAL)1 - at))
FORWARD(tanh, NAME(tanh)(z))
SLOPE(tanh, d * ((REAL)1 - at * at))

FORWARD(leaky_relu, select_((ivec)(z > (REAL)0), z, z * (REAL)0.01))
SLOPE(leaky_relu, select_((ivec)(at > (REAL)0), d, d * (REAL)0.01))
FORWARD(elu, select_((ivec)(z > (REAL)0), z, NAME(expm1)(z)))
SLOPE(elu, select_((ivec)(at > (REAL)0), d, d * (at + (REAL)1)))

#define SELU_SCALE ((REAL)1.0507009873554804934)
#define SELU_DEPTH ((REAL)1.7580993408473768600)
FORWARD(selu, select_((ivec)(z > (REAL)0), z * SELU_SCALE, NAME(expm1)(z) * SELU_DEPTH))
SLOPE(selu, d * select_((ivec)(at > (REAL)0), splat(SELU_SCALE), at + SELU_DEPTH))

/* a = max(z, 0) - |z| Q(|z|), Q the normal tail; |z| stops where the tail has vanished */
INLINE vec NAME(tail_at)(vec z, vec *size, vec *e)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    vec a = (vec)((ivec)z & ~sign_bit);
    *size = select_((ivec)(a > (REAL)TAIL_END), splat(TAIL_END), a);
    return NAME(normal_tail)(*size, e);
}
INLINE vec NAME(gelu)(vec z)
{
    vec size, e, tail = NAME(tail_at)(z, &size, &e);
    return select_((ivec)(z < (REAL)0), (vec){0}, z) - size * tail;
}
INLINE vec NAME(gelu_slope_at)(vec z)
{
    vec size, e, tail = NAME(tail_at)(z, &size, &e);
    vec part = size * e * (REAL)0.39894228040143267794; /* |z| times the density at z */
    return select_((ivec)(z < (REAL)0), tail - part, (REAL)1 - (tail - part));
}
FORWARD(gelu, NAME(gelu)(z))
SLOPE(gelu, d * NAME(gelu_slope_at)(at))

/* z p, p = logistic(z); 0 where p is, also for z = -inf */
INLINE vec NAME(silu)(vec z)
{
    vec p = NAME(logistic)(z);
    return (vec)((ivec)(z * p) & ~(ivec)(p == (REAL)0));
}
FORWARD(silu, NAME(silu)(z))
/* p + z p (1 - p) */
SLOPE(silu, d * (NAME(logistic)(at) + NAME(silu)(at) * NAME(logistic)(-at)))

/* tanh(softplus(z)) = t / below with e = exp(-|z|): t = 1 + 2 e, below = t + 2 e^2 for z >= 0, else
 * t = e (e + 2), below = t + 2 */
INLINE vec NAME(mish_parts)(vec z, vec *e, vec *below)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    *e = exp_((vec)((ivec)z | sign_bit));
    ivec negative = (ivec)(z < (REAL)0);
    vec square = *e * *e, twice = *e * (REAL)2;
    vec t = twice + select_(negative, square, splat(1));
    *below = t + select_(negative, splat(2), square * (REAL)2);
    return t;
}
INLINE vec NAME(mish)(vec z)
{
    vec e, below, t = NAME(mish_parts)(z, &e, &below);
    return (vec)((ivec)(z * (t / below)) & ~(ivec)(t == (REAL)0));
}
/* (t + z w / below) / below, w = 4 e (1 + e), for z >= 0 times e: the slope of the tangent part */
INLINE vec NAME(mish_slope_at)(vec z)
{
    vec e, below, t = NAME(mish_parts)(z, &e, &below), inverse = (REAL)1 / below;
    vec w = (e * (REAL)4) * (e + (REAL)1) * select_((ivec)(z < (REAL)0), splat(1), e);
    return (t + z * (w * inverse)) * inverse;
}
FORWARD(mish, NAME(mish)(z))
SLOPE(mish, d * NAME(mish_slope_at)(at))

INLINE vec NAME(softplus)(vec z)
{
    vec p;
    return NAME(softplus_parts)(z, &p);
}
FORWARD(softplus, NAME(softplus)(z))
SLOPE(softplus, d * -NAME(expm1)(-at))

#define ACTIVATION(name, fused) {#name, NAME(name##_forward), NAME(name##_slope), fused}
static const fb_activation NAME(activations)[] = {
    ACTIVATION(identity, 1),
    ACTIVATION(relu, 2),
    ACTIVATION(logistic, 0),
    ACTIVATION(tanh, 0),
    ACTIVATION(leaky_relu, 0),
    ACTIVATION(elu, 0),
    ACTIVATION(selu, 0),
    ACTIVATION(gelu, 0),
    ACTIVATION(silu, 0),
    ACTIVATION(mish, 0),
    ACTIVATION(softplus, 0),
    {NULL, NULL, NULL, 0},
};
