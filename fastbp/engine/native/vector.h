/* Vectors of one dtype on one instruction set, and the elementary functions on them.
 *
 * Part of the template (see template.h): REAL, BITS, UBITS, VBYTES are defined. Only code without a
 * loop over data lives here. Largest errors seen, in units of last place: exp 1.1 (float64 1.3),
 * tanh 2.5, logistic 2.3; tests/test_engine_accuracy.py holds exp below 2 and the others below 3 (and the
 * activations made of them by bounds of their own). */

typedef REAL NAME(vec) __attribute__((vector_size(VBYTES)));
typedef BITS NAME(ivec) __attribute__((vector_size(VBYTES)));
typedef UBITS NAME(uvec) __attribute__((vector_size(VBYTES)));
typedef REAL NAME(uvec_t) __attribute__((vector_size(VBYTES), aligned(sizeof(REAL)), may_alias));
#define vec NAME(vec)
#define ivec NAME(ivec)
#define uvec NAME(uvec)
#define loadable NAME(uvec_t)

#define VL ((int)(VBYTES / sizeof(REAL))) /* lanes of a vector */
#define P ((int)(64 / sizeof(REAL)))      /* lanes of a panel */
#define NVP (64 / VBYTES)                 /* vectors of a panel row */

/* Unaligned access everywhere: it costs nothing on aligned addresses from AVX on, and users' arrays
 * are not aligned. */
INLINE vec NAME(load)(const REAL *p) { return *(const loadable *)p; }
INLINE void NAME(store)(REAL *p, vec v) { *(loadable *)p = v; }
INLINE vec NAME(splat)(REAL s) { return s - (vec){0}; }
INLINE vec NAME(select)(ivec mask, vec yes, vec no)
{
    return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask));
}
#define load NAME(load)
#define store NAME(store)
#define splat NAME(splat)
#define select_ NAME(select)

/* max that keeps NaN of either side: a NaN score must reach the loss */
INLINE vec NAME(max)(vec a, vec b) { return select_((ivec)((a > b) | (a != a)), a, b); }

/* max(0, x) that keeps NaN. The sets have an instruction for it, which is slower here. */
INLINE vec NAME(relu)(vec x) { return (vec)((ivec)x & ~(ivec)(x < (REAL)0)); }

/* Lane index 0, 1, 2, ... */
INLINE ivec NAME(iota)(void)
{
    ivec v;
    for (int l = 0; l < VL; l++)
        v[l] = l;
    return v;
}

#if VBYTES / REAL_BYTES == 16
#define SHUFFLE_DOWN8(a) SHUFFLE(ivec, a, a, 8,9,10,11,12,13,14,15,0,1,2,3,4,5,6,7)
#define SHUFFLE_DOWN4(a) SHUFFLE(ivec, a, a, 4,5,6,7,0,1,2,3,12,13,14,15,8,9,10,11)
#define SHUFFLE_DOWN2(a) SHUFFLE(ivec, a, a, 2,3,0,1,6,7,4,5,10,11,8,9,14,15,12,13)
#define SHUFFLE_DOWN1(a) SHUFFLE(ivec, a, a, 1,0,3,2,5,4,7,6,9,8,11,10,13,12,15,14)
#define LOW8(a, b) SHUFFLE(ivec, a, b, 0,1,2,3,4,5,6,7,16,17,18,19,20,21,22,23)
#define HIGH8(a, b) SHUFFLE(ivec, a, b, 8,9,10,11,12,13,14,15,24,25,26,27,28,29,30,31)
#define LOW4(a, b) SHUFFLE(ivec, a, b, 0,1,2,3,16,17,18,19,8,9,10,11,24,25,26,27)
#define HIGH4(a, b) SHUFFLE(ivec, a, b, 4,5,6,7,20,21,22,23,12,13,14,15,28,29,30,31)
#define LOW2(a, b) SHUFFLE(ivec, a, b, 0,1,16,17,4,5,20,21,8,9,24,25,12,13,28,29)
#define HIGH2(a, b) SHUFFLE(ivec, a, b, 2,3,18,19,6,7,22,23,10,11,26,27,14,15,30,31)
#define LOW1(a, b) SHUFFLE(ivec, a, b, 0,16,2,18,4,20,6,22,8,24,10,26,12,28,14,30)
#define HIGH1(a, b) SHUFFLE(ivec, a, b, 1,17,3,19,5,21,7,23,9,25,11,27,13,29,15,31)
#elif VBYTES / REAL_BYTES == 8
#define SHUFFLE_DOWN4(a) SHUFFLE(ivec, a, a, 4,5,6,7,0,1,2,3)
#define SHUFFLE_DOWN2(a) SHUFFLE(ivec, a, a, 2,3,0,1,6,7,4,5)
#define SHUFFLE_DOWN1(a) SHUFFLE(ivec, a, a, 1,0,3,2,5,4,7,6)
#define LOW4(a, b) SHUFFLE(ivec, a, b, 0,1,2,3,8,9,10,11)
#define HIGH4(a, b) SHUFFLE(ivec, a, b, 4,5,6,7,12,13,14,15)
#define LOW2(a, b) SHUFFLE(ivec, a, b, 0,1,8,9,4,5,12,13)
#define HIGH2(a, b) SHUFFLE(ivec, a, b, 2,3,10,11,6,7,14,15)
#define LOW1(a, b) SHUFFLE(ivec, a, b, 0,8,2,10,4,12,6,14)
#define HIGH1(a, b) SHUFFLE(ivec, a, b, 1,9,3,11,5,13,7,15)
#elif VBYTES / REAL_BYTES == 4
#define SHUFFLE_DOWN2(a) SHUFFLE(ivec, a, a, 2,3,0,1)
#define SHUFFLE_DOWN1(a) SHUFFLE(ivec, a, a, 1,0,3,2)
#define LOW2(a, b) SHUFFLE(ivec, a, b, 0,1,4,5)
#define HIGH2(a, b) SHUFFLE(ivec, a, b, 2,3,6,7)
#define LOW1(a, b) SHUFFLE(ivec, a, b, 0,4,2,6)
#define HIGH1(a, b) SHUFFLE(ivec, a, b, 1,5,3,7)
#else
#define SHUFFLE_DOWN1(a) SHUFFLE(ivec, a, a, 1,0)
#define LOW1(a, b) SHUFFLE(ivec, a, b, 0,2)
#define HIGH1(a, b) SHUFFLE(ivec, a, b, 1,3)
#endif

/* Sum of the lanes, halves first: one fixed tree. */
INLINE REAL NAME(sum)(vec v)
{
#if VBYTES / REAL_BYTES >= 16
    v += SHUFFLE_DOWN8(v);
#endif
#if VBYTES / REAL_BYTES >= 8
    v += SHUFFLE_DOWN4(v);
#endif
#if VBYTES / REAL_BYTES >= 4
    v += SHUFFLE_DOWN2(v);
#endif
    v += SHUFFLE_DOWN1(v);
    return v[0];
}

/* Transpose VL vectors of VL lanes in registers: log2(VL) rounds of pairwise exchanges. */
#define EXCHANGE(d, LOW, HIGH)                                                                     \
    UNROLL for (int r = 0; r < VL; r++) if (!(r & d))                                              \
    {                                                                                              \
        vec low = LOW(v[r], v[r + d]), high = HIGH(v[r], v[r + d]);                                \
        v[r] = low;                                                                                \
        v[r + d] = high;                                                                           \
    }
INLINE void NAME(transpose)(vec *v)
{
#if VBYTES / REAL_BYTES >= 16
    EXCHANGE(8, LOW8, HIGH8)
#endif
#if VBYTES / REAL_BYTES >= 8
    EXCHANGE(4, LOW4, HIGH4)
#endif
#if VBYTES / REAL_BYTES >= 4
    EXCHANGE(2, LOW2, HIGH2)
#endif
    EXCHANGE(1, LOW1, HIGH1)
}

/* Lane i of the result is the sum of the lanes of v[i], added in the order of `sum`. */
#define FOLD(d, LOW, HIGH) UNROLL for (int r = 0; r < d; r++) v[r] = LOW(v[r], v[r + d]) + HIGH(v[r], v[r + d]);
INLINE vec NAME(sum_rows)(vec *v)
{
#if VBYTES / REAL_BYTES >= 16
    FOLD(8, LOW8, HIGH8)
#endif
#if VBYTES / REAL_BYTES >= 8
    FOLD(4, LOW4, HIGH4)
#endif
#if VBYTES / REAL_BYTES >= 4
    FOLD(2, LOW2, HIGH2)
#endif
    FOLD(1, LOW1, HIGH1)
    return v[0];
}

/* exp(x) = 2^n (1 + q), n = round(x / ln 2), q = expm1(x - n ln 2) by its Taylor polynomial on
 * |r| <= 0.35. ln 2 in two parts (Cody and Waite, 1980), the first short enough that n * LN2_HI is
 * exact without a fused multiply-add. `half` is 2^(n-1), so that n = 128 (1024) does not overflow.
 * NaN passes through. */
#if REAL_BYTES == 4
#define ROUNDING 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer held in the low bits */
#define LN2_HI 0.693359375f
#define LN2_LO -2.12194440e-4f
#define MANTISSA 23
#define BIAS 127
#define EXP_MIN -86.98f
#define EXP_MAX 88.722839f
#define HALF_ROOT_BITS 0x3f3504f3
#else
#define ROUNDING 6755399441055744.0
#define LN2_HI 6.93147180369123816490e-01
#define LN2_LO 1.90821492927058770002e-10
#define MANTISSA 52
#define BIAS 1023
#define EXP_MIN -708.0
#define EXP_MAX 709.782712893384
#define HALF_ROOT_BITS 0x3fe6a09e667f3bcd
#endif

/* q and half for r = x - n ln 2 and t = n + ROUNDING */
INLINE void NAME(exp_reduced)(vec r, vec t, vec *q, vec *half)
{
    vec r2 = r * r;
#if REAL_BYTES == 4
    vec p = (r * (1 / 5040.0f) + 1 / 720.0f) * r2 + (r * (1 / 120.0f) + 1 / 24.0f);
    p = p * r2 + (r * (1 / 6.0f) + 0.5f);
#else
    vec r4 = r2 * r2;
    vec p = (r * (1 / 6227020800.0) + 1 / 479001600.0);
    p = p * r2 + (r * (1 / 39916800.0) + 1 / 3628800.0);
    vec o = (r * (1 / 362880.0) + 1 / 40320.0) * r2 + (r * (1 / 5040.0) + 1 / 720.0);
    vec m = (r * (1 / 120.0) + 1 / 24.0) * r2 + (r * (1 / 6.0) + 0.5);
    p = (p * r4 + o) * r4 + m;
#endif
    *q = p * r2 + r;
    *half = (vec)((((uvec)t) << MANTISSA) + ((UBITS)(BIAS - 1) << MANTISSA));
}

INLINE void NAME(exp_parts)(vec x, vec *q, vec *half)
{
    vec t = x * (REAL)1.4426950408889634 + (REAL)ROUNDING;
    vec n = t - (REAL)ROUNDING;
    vec r = x - n * (REAL)LN2_HI;
    r = r - n * (REAL)LN2_LO;
    NAME(exp_reduced)(r, t, q, half);
}

/* exp(x); 0 below EXP_MIN (where 2^(n-1) would be subnormal), inf above EXP_MAX */
INLINE vec NAME(exp)(vec x)
{
    vec q, half;
    ivec low = (ivec)(x < (REAL)EXP_MIN), high = (ivec)(x > (REAL)EXP_MAX);
    vec inside = select_(high, splat((REAL)EXP_MAX), x);
    NAME(exp_parts)(inside, &q, &half);
    vec y = ((q * half + half) * (REAL)2);
    y = select_(high, splat((REAL)INFINITY), y);
    return (vec)((ivec)y & ~low);
}
#define exp_ NAME(exp)

/* exp(x) - 1, by the parts of exp: no cancellation at 0 */
INLINE vec NAME(expm1)(vec x)
{
    vec q, half;
    ivec high = (ivec)(x > (REAL)EXP_MAX);
    vec inside = select_(high, splat((REAL)EXP_MAX), x);
    inside = select_((ivec)(x < (REAL)-40), splat(-40), inside);
    NAME(exp_parts)(inside, &q, &half);
    return select_(high, splat((REAL)INFINITY), (q * half + (half - (REAL)0.5)) * (REAL)2);
}

/* The tail of the standard normal distribution: Q(a) = P(Z > a) for a >= 0, up to where it is below
 * the smallest number, and e = exp(-a^2 / 2). With t = (a - c) / (a + c), Q = e p(t) / (a + c); the
 * polynomial p interpolates at Chebyshev's points (relative error 1.5e-8 in float32, 4e-17 in
 * float64; the substitution is that of Shepherd and Laframboise, 1981). A rounding error of a^2 / 2
 * would be one of e relative to it, so the square is taken in two parts, the first exact. */
#if REAL_BYTES == 4
#define TAIL_END 14
#define TAIL_CENTRE 3.5f
#define TAIL_HIGH_BITS ~0xfff
#define TAIL_POLYNOMIAL                                                                            \
    1.24610199e-4f, 4.45032868e-4f, -4.9753213e-4f, -3.19303079e-3f, 6.49068442e-3f,               \
        1.74108471e-2f, -0.116052396f, 0.315424664f, -0.565561774f, 0.74441608f
#else
#define TAIL_END 39
#define TAIL_CENTRE 5.0
#define TAIL_HIGH_BITS ~0x7ffffff
#define TAIL_POLYNOMIAL                                                                            \
    2.2249387677164433e-9, 7.6304104178731823e-9, -1.0618274174239376e-8, -6.6675293392275716e-8,  \
        4.3758415982855749e-8, 4.3443907263764585e-7, -3.3749652035246319e-7,                      \
        -2.7703209441469523e-6, 3.9811827415325775e-6, 1.6681703609772679e-5,                      \
        -4.9762853165030136e-5, -5.9375866167360709e-5, 5.4489906269585206e-4,                     \
        -7.9786937489119333e-4, -2.9933767690944728e-3, 2.0795066797569856e-2,                     \
        -6.9118638706479819e-2, 0.16502036617050069, -0.31353315667129711, 0.49530561596997414,    \
        -0.66538250289005679, 0.76919304975006297
#endif

INLINE vec NAME(normal_tail)(vec a, vec *e)
{
    static const REAL c[] = {TAIL_POLYNOMIAL};
    vec h = (vec)((ivec)a & (BITS)TAIL_HIGH_BITS);
    vec high = h * h * (REAL)-0.5, low = (a - h) * (a + h) * (REAL)-0.5;
    vec t = (high + low) * (REAL)1.4426950408889634 + (REAL)ROUNDING;
    vec n = t - (REAL)ROUNDING;
    vec r = high - n * (REAL)LN2_HI;
    r = r + (low - n * (REAL)LN2_LO);
    vec q, half;
    NAME(exp_reduced)(r, t, &q, &half);
    *e = (vec)((ivec)((q * half + half) * (REAL)2) & ~(ivec)(high < (REAL)EXP_MIN));
    vec inverse = (REAL)1 / (a + (REAL)TAIL_CENTRE);
    vec x = (a - (REAL)TAIL_CENTRE) * inverse, p = splat(c[0]);
    UNROLL for (int k = 1; k < (int)(sizeof c / sizeof *c); k++) p = p * x + c[k];
    return *e * p * inverse;
}

/* tanh(x) = sign(x) (-m) / (2 + m), m = expm1(-2 |x|) = 2^n q + (2^n - 1): no cancellation at 0 */
INLINE vec NAME(tanh)(vec x)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    ivec sign = (ivec)x & sign_bit;
    vec y = (vec)((ivec)x & ~sign_bit) * (REAL)-2;
    y = select_((ivec)(y < (REAL)-40), splat(-40), y);
    vec q, half;
    NAME(exp_parts)(y, &q, &half);
    vec scale = half + half;
    vec m = q * scale + (scale - (REAL)1);
    vec magnitude = -m / (m + (REAL)2);
    return (vec)((ivec)magnitude | sign);
}

/* 1 / (1 + exp(-x)) */
INLINE vec NAME(logistic)(vec x) { return (REAL)1 / (exp_(-x) + (REAL)1); }

/* ln(v) for v >= 1: v = 2^e m, m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh(s), s = (m - 1)/(m + 1) */
INLINE vec NAME(log)(vec v)
{
    uvec bits = (uvec)v;
    uvec exponent = (bits - (UBITS)HALF_ROOT_BITS) >> MANTISSA;
    vec m = (vec)(bits - (exponent << MANTISSA));
    vec e = (vec)((uvec)splat((REAL)ROUNDING) + exponent) - (REAL)ROUNDING;
    vec s = (m - (REAL)1) / (m + (REAL)1), z = s * s, p = splat((REAL)(2.0 / (REAL_BYTES == 4 ? 11 : 23)));
#if REAL_BYTES == 8
    UNROLL for (int k = 21; k >= 13; k -= 2) p = p * z + (REAL)(2.0 / k);
    p = p * z + (REAL)(2.0 / 11);
#endif
    UNROLL for (int k = 9; k >= 3; k -= 2) p = p * z + (REAL)(2.0 / k);
    vec finite = e * (REAL)LN2_HI + ((s * z * p + e * (REAL)LN2_LO) + s * (REAL)2);
    return select_((ivec)((v != v) | (v > (REAL)(REAL_BYTES == 4 ? FLT_MAX : DBL_MAX))), v, finite);
}

/* ln(v) for v > 0, by its size: the error is small beside 1, not beside a result near 0 */
INLINE vec NAME(log_positive)(vec v)
{
    ivec below = (ivec)(v < (REAL)1);
    vec log_size = NAME(log)(select_(below, (REAL)1 / v, v));
    return select_(below, -log_size, log_size);
}

/* ln(1 + e) for 0 <= e <= 1: 2 atanh(s), s = e / (2 + e) <= 1/3 */
INLINE vec NAME(log1p)(vec e)
{
    vec s = e / (e + (REAL)2), z = s * s, p = splat((REAL)(2.0 / (REAL_BYTES == 4 ? 17 : 35)));
#if REAL_BYTES == 8
    UNROLL for (int k = 33; k >= 17; k -= 2) p = p * z + (REAL)(2.0 / k);
#endif
    UNROLL for (int k = 15; k >= 3; k -= 2) p = p * z + (REAL)(2.0 / k);
    return s * z * p + s * (REAL)2;
}

/* softplus(s) = ln(1 + exp(s)) = max(s, 0) + ln(1 + exp(-|s|)), and its slope logistic(s) */
INLINE vec NAME(softplus_parts)(vec s, vec *probability)
{
    const BITS sign_bit = (BITS)((UBITS)1 << (8 * REAL_BYTES - 1));
    vec e = exp_((vec)((ivec)s | sign_bit)); /* exp(-|s|) */
    vec smaller = e / (e + (REAL)1), larger = (REAL)1 / (e + (REAL)1);
    ivec positive = (ivec)(s > (REAL)0);
    *probability = select_(positive, larger, smaller);
    return select_((ivec)(s < (REAL)0), (vec){0}, s) + NAME(log1p)(e);
}

INLINE vec NAME(sqrt)(vec v)
{
#if defined(SQRT_F32) && REAL_BYTES == 4
    return (vec)SQRT_F32(v);
#elif defined(SQRT_F64) && REAL_BYTES == 8
    return (vec)SQRT_F64(v);
#else
    for (int l = 0; l < VL; l++)
        v[l] = REAL_BYTES == 4 ? (REAL)__builtin_sqrtf((float)v[l]) : (REAL)__builtin_sqrt(v[l]);
    return v;
#endif
}

/* m / (sqrt(v) + eps), v >= 0. Where the set has 14-bit estimates, Newton's iteration on them is
 * faster than the instructions for root and quotient; a last step on each residual leaves about one
 * ulp. */
INLINE vec NAME(over_root)(vec m, vec v, REAL eps)
{
#if (defined(RSQRT_F32) && REAL_BYTES == 4) || (defined(RSQRT_F64) && REAL_BYTES == 8)
#if REAL_BYTES == 4
    vec r = (vec)RSQRT_F32(select_((ivec)(v < FLT_MIN), splat(FLT_MIN), v));
#else
    vec r = (vec)RSQRT_F64(select_((ivec)(v < DBL_MIN), splat(DBL_MIN), v));
    r = r * ((REAL)1.5 - (v * (REAL)0.5) * (r * r));
#endif
    vec root = v * r;
    root = root + (v - root * root) * (r * (REAL)0.5);
    vec d = root + eps;
#if REAL_BYTES == 4
    vec q = (vec)RCP_F32(d);
#else
    vec q = (vec)RCP_F64(d);
    q = q * ((REAL)2 - d * q);
#endif
    q = q * ((REAL)2 - d * q);
    vec y = m * q;
    return y + q * (m - d * y);
#else
    return m / (NAME(sqrt)(v) + eps);
#endif
}
