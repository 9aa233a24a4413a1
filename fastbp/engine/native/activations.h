/* The fast loops of the built-in activations: accelerators of the entries in fastbp/activations.py,
 * which hold the formulas and name the loop. An entry stands in the table at the end.
 *
 * Part of the template (see template.h). n is a multiple of P. */

#define EACH(i) for (int64_t i = 0; i < n; i += VL)

/* Rows whose slope is a formula of f(z): no slopes need be kept. */
#define FORWARD(name, formula)                                                                     \
    static void NAME(name##_forward)(void *a_, void *slopes, int64_t n)                            \
    {                                                                                              \
        REAL *a = a_;                                                                              \
        (void)slopes;                                                                              \
        EACH(i) {                                                                                  \
            vec z = load(a + i);                                                                   \
            store(a + i, formula);                                                                 \
        }                                                                                          \
    }
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

/* Rows whose slope is a formula of z, with `parts(z, &slope)`: value and slope share most of their
 * work, so the forward pass computes both. Where no slope is wanted its part is dead code. */
#define FORWARD_WITH_SLOPE(name, parts)                                                            \
    static void NAME(name##_forward)(void *a_, void *slopes_, int64_t n)                           \
    {                                                                                              \
        REAL *a = a_, *slopes = slopes_;                                                           \
        vec slope;                                                                                 \
        if (slopes)                                                                                \
            EACH(i) {                                                                              \
                store(a + i, NAME(parts)(load(a + i), &slope));                                    \
                store(slopes + i, slope);                                                          \
            }                                                                                      \
        else                                                                                       \
            EACH(i)                                                                                \
                store(a + i, NAME(parts)(load(a + i), &slope));                                    \
    }                                                                                              \
    SLOPE(name, d * at)

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

/* max(z, 0) - |z| Q(|z|), Q the normal tail; |z| stops where the tail has vanished */
INLINE vec NAME(gelu_parts)(vec z, vec *slope)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    ivec negative = (ivec)(z < (REAL)0);
    vec size = (vec)((ivec)z & ~sign_bit), e;
    size = select_((ivec)(size > (REAL)TAIL_END), splat(TAIL_END), size);
    vec tail = NAME(normal_tail)(size, &e);
    vec part = size * e * (REAL)0.39894228040143267794; /* |z| times the density at z */
    *slope = select_(negative, tail - part, (REAL)1 - (tail - part));
    return select_(negative, (vec){0}, z) - size * tail;
}
FORWARD_WITH_SLOPE(gelu, gelu_parts)

/* z p, p = logistic(z); 0 where p is, also for z = -inf. Slope p + z p (1 - p), the last factor by
 * e = exp(-z), which does not cancel where p is near 1. */
INLINE vec NAME(silu_parts)(vec z, vec *slope)
{
    vec e = exp_(-z), p = (REAL)1 / (e + (REAL)1);
    vec value = (vec)((ivec)(z * p) & ~(ivec)(p == (REAL)0));
    *slope = p + value * select_((ivec)(z < (REAL)0), (REAL)1 - p, e * p);
    return value;
}
FORWARD_WITH_SLOPE(silu, silu_parts)

/* z t / below, where t / below = tanh(softplus(z)) with e = exp(-|z|): t = 1 + 2 e,
 * below = t + 2 e^2 for z >= 0, else t = e (e + 2), below = t + 2. Slope (t + z w / below) / below,
 * w = 4 e (1 + e), for z >= 0 times e. */
INLINE vec NAME(mish_parts)(vec z, vec *slope)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    vec e = exp_((vec)((ivec)z | sign_bit));
    ivec negative = (ivec)(z < (REAL)0);
    vec square = e * e, twice = e * (REAL)2;
    vec t = twice + select_(negative, square, splat(1));
    vec below = t + select_(negative, splat(2), square * (REAL)2), inverse = (REAL)1 / below;
    vec w = (e * (REAL)4) * (e + (REAL)1) * select_(negative, splat(1), e);
    *slope = (t + z * (w * inverse)) * inverse;
    return (vec)((ivec)(z * (t / below)) & ~(ivec)(t == (REAL)0));
}
FORWARD_WITH_SLOPE(mish, mish_parts)
FORWARD_WITH_SLOPE(softplus, softplus_parts)

#define ACTIVATION(name, fused) {#name, NAME(name##_forward), NAME(name##_slope), fused}
static const fb_activation NAME(activations)[] = {
    ACTIVATION(identity, FB_NO_LOOP),
    ACTIVATION(relu, FB_IN_PRODUCT),
    ACTIVATION(logistic, FB_OWN_LOOP),
    ACTIVATION(tanh, FB_OWN_LOOP),
    ACTIVATION(leaky_relu, FB_OWN_LOOP),
    ACTIVATION(elu, FB_OWN_LOOP),
    ACTIVATION(selu, FB_OWN_LOOP),
    ACTIVATION(gelu, FB_OWN_LOOP),
    ACTIVATION(silu, FB_OWN_LOOP),
    ACTIVATION(mish, FB_OWN_LOOP),
    ACTIVATION(softplus, FB_OWN_LOOP),
    {NULL, NULL, NULL, 0},
};
