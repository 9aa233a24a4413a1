"""exp, log and their relatives as code that LLVM turns into vectors, for float32 and float64.

The C library's functions are called element by element (about 4 ns each); these are a few dozen
multiplications and additions without a branch, so a loop over a block runs on whole vectors.
Errors are a few units in the last place; results below the smallest normal number become 0.  Here
live functions of plain floats only; their derivatives are in `derivatives`.
"""

import math
from types import SimpleNamespace

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fastbp.engine.numba.caching import INSIDE

INLINE = {"forceinline": True, **INSIDE}

FLOAT32 = SimpleNamespace(
    real=np.float32, bits=32, mantissa=23, bias=127, magic=1.5 * 2.0**23, high=88.72, low=-86.6,
    ln2_high=0.693359375, ln2_low=-2.12194440e-4, n_exp=7, n_log=4,
)  # fmt: skip
FLOAT64 = SimpleNamespace(
    real=np.float64, bits=64, mantissa=52, bias=1023, magic=1.5 * 2.0**52, high=709.78, low=-707.7,
    ln2_high=6.93147180369123816490e-01, ln2_low=1.90821492927058770002e-10, n_exp=13, n_log=11,
)  # fmt: skip
FORMATS = {types.float32: FLOAT32, types.float64: FLOAT64}


def polynomial(coefficients):
    """Make the function ``p(x) = c0 + c1 x + ...`` of x's own dtype, by Horner's rule."""

    @intrinsic
    def evaluate(typing_context, x):
        def generate(context, builder, signature, arguments):
            kind = context.get_value_type(x)
            result = ir.Constant(kind, coefficients[-1])
            for c in coefficients[-2::-1]:
                product = builder.fmul(result, arguments[0], flags=("contract",))
                result = builder.fadd(product, ir.Constant(kind, c), flags=("contract",))
            return result

        return x(x), generate

    return evaluate


@intrinsic
def half_power(typing_context, t):
    """2^(n - 1), as 2^n overflows for the last n; t = n + magic has n in its low bits."""

    def generate(context, builder, signature, arguments):
        form = FORMATS[t]
        integer = ir.IntType(form.bits)
        n = builder.bitcast(arguments[0], integer)
        n = builder.add(n, ir.Constant(integer, form.bias - 1))
        power = builder.shl(n, ir.Constant(integer, form.mantissa))
        return builder.bitcast(power, arguments[0].type)

    return t(t), generate


@intrinsic
def significand(typing_context, x):
    """(m, e, 2^-e) of a normal x = m 2^e with m from sqrt(1/2) to sqrt(2), all as floats."""

    def generate(context, builder, signature, arguments):
        form = FORMATS[x]
        integer = ir.IntType(form.bits)
        least = int(np.array(math.sqrt(0.5), form.real).view(f"i{form.bits // 8}"))
        mantissa = ir.Constant(integer, form.mantissa)
        bits = builder.bitcast(arguments[0], integer)
        e = builder.ashr(builder.sub(bits, ir.Constant(integer, least)), mantissa)
        shift = builder.shl(e, mantissa)
        m = builder.bitcast(builder.sub(bits, shift), arguments[0].type)
        one = ir.Constant(integer, form.bias << form.mantissa)
        down = builder.bitcast(builder.sub(one, shift), arguments[0].type)
        parts = [m, builder.sitofp(e, arguments[0].type), down]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(x, 3)(x), generate


@intrinsic
def add_freely(typing_context, total, x):
    """Return total + x; a loop may add in any order, and so keeps its vectors."""

    def generate(context, builder, signature, arguments):
        return builder.fadd(*arguments, flags=("reassoc", "nsz"))

    return x(x, x), generate


@intrinsic
def prefer_whole_vectors(typing_context):
    """Let the loops of the calling function use 512 bits, where LLVM prefers 256 (on Intel's)."""

    def generate(context, builder, signature, arguments):
        # llvmlite's own `add` takes only attributes that it has heard of.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


def vector_function(make):
    """Turn ``make(form)``, which builds a function for a float format, into one for jitted code."""

    def function(x):
        raise NotImplementedError("for jitted code")

    @overload(function, jit_options={"fastmath": {"contract"}, **INLINE})
    def choose(x):
        return make(FORMATS[x]) if x in FORMATS else None

    return function


@vector_function
def exp(form):
    """e^x = 2^n e^r, r between -ln(2) / 2 and ln(2) / 2."""
    real = form.real
    log2_e, magic, high, low = (real(c) for c in (1 / math.log(2), form.magic, form.high, form.low))
    ln2_high, ln2_low, zero, inf = (real(c) for c in (form.ln2_high, form.ln2_low, 0, math.inf))
    series = polynomial([1 / math.factorial(k) for k in range(form.n_exp + 1)])

    def implementation(x):
        c = x if x < high else high
        c = c if c > low else low
        t = c * log2_e + magic
        n = t - magic
        y = series((c - n * ln2_high) - n * ln2_low) * half_power(t)
        y = inf if x > high else y + y
        y = zero if x < low else y
        return x if x != x else y

    return implementation


@vector_function
def log(form):
    """Ln x = e ln 2 + ln m, ln m = 2 artanh(s) with s = (m - 1) / (m + 1)."""
    real = form.real
    least, up, shift = real(np.finfo(real).tiny), real(2.0**60), real(60)
    zero, one, inf, nan = real(0), real(1), real(math.inf), real(math.nan)
    ln2_high, ln2_low = real(form.ln2_high), real(form.ln2_low)
    series = polynomial([2 / (2 * k + 1) for k in range(1, form.n_log + 1)])

    def implementation(x):
        tiny = x < least
        m, e, _ = significand(x * up if tiny else x)
        e = e - shift if tiny else e
        s = (m - one) / (m + one)
        square = s * s
        y = e * ln2_high + (e * ln2_low + (s + s + s * square * series(square)))
        y = -inf if x == zero else y
        y = nan if x < zero else y
        return x if (x != x or x == inf) else y

    return implementation


@vector_function
def log1p(form):
    """Ln(1 + x) as `log` of u = 1 + x rounded, the rounding error added to m - 1."""
    real = form.real
    zero, one, two, far = real(0), real(1), real(2), real(2.0**60)
    inf, nan = real(math.inf), real(math.nan)
    ln2_high, ln2_low = real(form.ln2_high), real(form.ln2_low)
    series = polynomial([2 / (2 * k + 1) for k in range(1, form.n_log + 1)])

    def implementation(x):
        u = one + x
        error = x - (u - one) if x < one else one - (u - x)
        error = error if x < far else zero
        m, e, down = significand(u)
        f = (m - one) + error * down
        s = f / (two + f)
        square = s * s
        y = e * ln2_high + (e * ln2_low + (s + s + s * square * series(square)))
        y = -inf if u == zero else y
        y = nan if u < zero else y
        return x if (x != x or x == inf) else y

    return implementation


@vector_function
def expm1(form):
    """e^x - 1 = 2^n q + (2^n - 1), q = e^r - 1 with r as in `exp`: nothing cancels at 0."""
    real = form.real
    log2_e, magic, high, low = (real(c) for c in (1 / math.log(2), form.magic, form.high, -40))
    ln2_high, ln2_low, half, inf = (real(c) for c in (form.ln2_high, form.ln2_low, 0.5, math.inf))
    series = polynomial([1 / math.factorial(k + 2) for k in range(form.n_exp - 1)])

    def implementation(x):
        c = x if x < high else high
        c = c if c > low else low
        t = c * log2_e + magic
        n = t - magic
        r = (c - n * ln2_high) - n * ln2_low
        q = r + r * r * series(r)
        power = half_power(t)
        y = q * power + (power - half)
        y = inf if x > high else y + y
        return x if x != x else y

    return implementation


@vector_function
def tanh(form):
    """-d / (2 + d) with d = expm1(-2 abs(x)), and the sign of x."""
    two, zero = form.real(2), form.real(0)

    def implementation(x):
        size = abs(x)
        d = expm1(-(size + size))
        y = -d / (two + d)
        return -y if x < zero else y

    return implementation


@vector_function
def count_bad(form):
    """0 for a finite x, 1 for NaN and infinity."""
    largest, zero, one = form.real(np.finfo(form.real).max), form.real(0), form.real(1)
    return lambda x: zero if abs(x) <= largest else one


def spoilt(y, z):
    """1 where a finite z gave a y that is not finite, else 0; of their dtype, for jitted code."""
    raise NotImplementedError("for jitted code")


@overload(spoilt, jit_options=INLINE)
def _spoilt(y, z):
    real = FORMATS[y].real
    largest, zero, one = real(np.finfo(real).max), real(0), real(1)

    def implementation(y, z):
        finite = one if abs(z) <= largest else zero
        return zero if abs(y) <= largest else finite

    return implementation


@vector_function
def limit(form):
    """X, but no more than the largest finite number."""
    largest = form.real(np.finfo(form.real).max)
    return lambda x: largest if x > largest else x
