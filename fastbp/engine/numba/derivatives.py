"""The derivative of every operator and function that a user's formula may hold.

One rule each, for dual numbers; importing this file registers them with Numba.  No loops, no
arrays.
"""

import math
import operator

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from fastbp.engine.numba import elementary
from fastbp.engine.numba.duals import (
    INLINE,
    PLAIN,
    Dual,
    dual,
    is_pair,
    lift,
    operation,
    rule_of_one,
    rule_of_two,
    smooth,
    value_as,
)

LN_2, LN_10, TWO_BY_ROOT_PI = math.log(2), math.log(10), 2 / math.sqrt(math.pi)

# --- operators -----------------------------------------------------------------------------------

CONTRACT = ("contract",)  # products and sums may be one instruction


@operation(operator.add, operator.iadd, np.add)
def _add(builder, x, y):
    return [builder.fadd(a, b, flags=CONTRACT) for a, b in zip(x, y, strict=True)]


@operation(operator.sub, operator.isub, np.subtract)
def _subtract(builder, x, y):
    return [builder.fsub(a, b, flags=CONTRACT) for a, b in zip(x, y, strict=True)]


@operation(operator.mul, operator.imul, np.multiply)
def _multiply(builder, x, y):
    """Compute (a + a' e) (b + b' e) = a b + (a' b + a b') e."""
    left = builder.fmul(x[1], y[0], flags=CONTRACT)
    right = builder.fmul(x[0], y[1], flags=CONTRACT)
    product = builder.fmul(x[0], y[0], flags=CONTRACT)
    return product, builder.fadd(left, right, flags=CONTRACT)


@operation(operator.truediv, operator.itruediv, np.divide, np.true_divide)
def _divide(builder, x, y):
    """Compute (a + a' e) / (b + b' e) = q + (a' - q b') / b e, with q = a / b."""
    quotient = builder.fdiv(x[0], y[0], flags=CONTRACT)
    product = builder.fmul(quotient, y[1], flags=CONTRACT)
    rest = builder.fsub(x[1], product, flags=CONTRACT)
    return quotient, builder.fdiv(rest, y[0], flags=CONTRACT)


@operation(operator.neg, np.negative, n=1)
def _negate(builder, x):
    return [builder.fneg(part, flags=CONTRACT) for part in x]


def _comparison(sign, *functions):
    """Compare values alone; what is not a number is unequal to all."""

    @operation(*functions, result=types.boolean)
    def compare(builder, x, y):
        ask = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        return ask(sign, x[0], y[0], flags=CONTRACT)


_comparison("<", operator.lt)
_comparison("<=", operator.le)
_comparison(">", operator.gt)
_comparison(">=", operator.ge)
_comparison("==", operator.eq)
_comparison("!=", operator.ne)


@rule_of_two(operator.floordiv, operator.ifloordiv, np.floor_divide)
def _floor_divide(x, y):
    return dual(np.floor(x.value / y.value), value_as(0, x.value))


@rule_of_two(operator.mod, operator.imod, np.mod, np.remainder)
def _modulo(x, y):
    times = np.floor(x.value / y.value)
    return dual(x.value - times * y.value, x.slope - times * y.slope)


@rule_of_one(operator.pos, np.positive, float)
def _keep(x):
    return x


@rule_of_one(operator.truth, bool)
def _is_nonzero(x):
    return x.value != 0


@overload(operator.ipow, prefer_literal=True, jit_options=INLINE)
@overload(operator.pow, prefer_literal=True, jit_options=INLINE)
@overload(math.pow, prefer_literal=True, jit_options=INLINE)
@overload(np.power, prefer_literal=True, jit_options=INLINE)
def _power(x, y):
    if not is_pair(x, y):
        return None
    if isinstance(y, types.IntegerLiteral) and 1 <= y.literal_value <= 4:
        return (
            lambda x, y: x,
            lambda x, y: x * x,
            lambda x, y: x * x * x,
            lambda x, y: (x * x) * (x * x),
        )[y.literal_value - 1]
    if isinstance(y, PLAIN):  # any base: no logarithm of it is taken

        def implementation(x, y):
            exponent = value_as(y, x.value)
            below = x.value ** value_as(y - 1, x.value)
            return dual(x.value**exponent, x.slope * exponent * below)

        return implementation

    def implementation(x, y):
        base, exponent = lift(x, y), lift(y, x)
        result = base.value**exponent.value
        slope = base.slope * exponent.value * base.value ** value_as(exponent.value - 1, result)
        if exponent.slope != 0:
            slope += exponent.slope * result * elementary.log(base.value)
        return dual(result, slope)

    return implementation


# --- functions with a derivative -----------------------------------------------------------------


@rule_of_one(math.exp, np.exp)
def _exp(x):
    # The slope stays finite where the value overflows: 1 / (1 + exp(-z)) then has slope 0, not NaN.
    y = elementary.exp(x.value)
    return dual(y, x.slope * elementary.limit(y))


smooth(elementary.expm1, lambda x, y: y + 1, math.expm1, np.expm1)
smooth(elementary.log, lambda x, y: 1 / x, math.log, np.log)
smooth(elementary.log1p, lambda x, y: 1 / (1 + x), math.log1p, np.log1p)
smooth(elementary.tanh, lambda x, y: 1 - y * y, math.tanh, np.tanh)
smooth(math.log2, lambda x, y: 1 / (x * LN_2), math.log2, np.log2)
smooth(math.log10, lambda x, y: 1 / (x * LN_10), math.log10, np.log10)
smooth(np.exp2, lambda x, y: y * LN_2, np.exp2)
smooth(math.sqrt, lambda x, y: 0.5 / y, math.sqrt, np.sqrt)
smooth(math.sin, lambda x, y: math.cos(x.value), math.sin, np.sin)
smooth(math.cos, lambda x, y: -math.sin(x.value), math.cos, np.cos)
smooth(math.tan, lambda x, y: 1 + y * y, math.tan, np.tan)
smooth(math.sinh, lambda x, y: math.cosh(x.value), math.sinh, np.sinh)
smooth(math.cosh, lambda x, y: math.sinh(x.value), math.cosh, np.cosh)
smooth(math.asin, lambda x, y: 1 / math.sqrt(1 - x * x), math.asin, np.arcsin)
smooth(math.acos, lambda x, y: -1 / math.sqrt(1 - x * x), math.acos, np.arccos)
smooth(math.atan, lambda x, y: 1 / (1 + x * x), math.atan, np.arctan)
smooth(math.asinh, lambda x, y: 1 / math.sqrt(x * x + 1), math.asinh, np.arcsinh)
smooth(math.acosh, lambda x, y: 1 / math.sqrt(x * x - 1), math.acosh, np.arccosh)
smooth(math.atanh, lambda x, y: 1 / (1 - x * x), math.atanh, np.arctanh)
smooth(math.erf, lambda x, y: TWO_BY_ROOT_PI * math.exp(-x * x), math.erf)
smooth(math.erfc, lambda x, y: -TWO_BY_ROOT_PI * math.exp(-x * x), math.erfc)
smooth(np.square, lambda x, y: 2 * x, np.square)
smooth(np.reciprocal, lambda x, y: -y * y, np.reciprocal)
smooth(np.floor, lambda x, y: 0, math.floor, np.floor)
smooth(np.ceil, lambda x, y: 0, math.ceil, np.ceil)
smooth(np.trunc, lambda x, y: 0, math.trunc, np.trunc)
smooth(np.rint, lambda x, y: 0, np.rint)
smooth(np.sign, lambda x, y: 0, np.sign)
smooth(abs, lambda x, y: (x > 0) - (x < 0), abs, math.fabs, np.abs, np.fabs)


@rule_of_two(math.atan2, np.arctan2)
def _atan2(y, x):
    square = x.value * x.value + y.value * y.value
    slope = (y.slope * x.value - x.slope * y.value) / square
    return dual(math.atan2(y.value, x.value), slope)


@rule_of_two(math.hypot, np.hypot)
def _hypot(x, y):
    length = math.hypot(x.value, y.value)
    return dual(length, (x.value * x.slope + y.value * y.slope) / length)


@rule_of_two(np.logaddexp)
def _logaddexp(x, y):
    top = _maximum(x, y)
    return top + math.log1p(math.exp(-abs(x - y)))


# --- functions that choose -----------------------------------------------------------------------


@register_jitable(**INLINE)
def _choose(x, y, take_y):
    """X or y; of equal values the mean slope, as abs has slope 0 at 0."""
    mean = dual(x.value, (x.slope + y.slope) / value_as(2, x.value))
    return mean if x.value == y.value else (y if take_y else x)


@rule_of_two(max)
def _max(x, y):
    return _choose(x, y, y.value > x.value)


@rule_of_two(min)
def _min(x, y):
    return _choose(x, y, y.value < x.value)


@rule_of_two(np.maximum)
def _maximum(x, y):
    return _choose(x, y, not (x.value >= y.value or x.value != x.value))


@rule_of_two(np.minimum)
def _minimum(x, y):
    return _choose(x, y, not (x.value <= y.value or x.value != x.value))


@rule_of_two(np.fmax)
def _fmax(x, y):
    return _choose(x, y, not (x.value >= y.value or y.value != y.value))


@rule_of_two(np.fmin)
def _fmin(x, y):
    return _choose(x, y, not (x.value <= y.value or y.value != y.value))


@rule_of_two(math.copysign, np.copysign)
def _copysign(x, y):
    same = math.copysign(x.value, y.value) == x.value
    return x if same else -x


@rule_of_two(np.heaviside)
def _heaviside(x, at_zero):
    if x.value == 0:
        return at_zero
    return dual(value_as(x.value > 0, x.value), value_as(0, x.value))


@overload(np.where, jit_options=INLINE)
def _where(condition, x, y):
    if is_pair(x, y):
        return lambda condition, x, y: lift(x, y) if condition else lift(y, x)
    return None


@overload(np.clip, jit_options=INLINE)
def _clip(a, a_min, a_max):
    if isinstance(a, Dual):
        return lambda a, a_min, a_max: np.minimum(np.maximum(a, a_min), a_max)
    return None


def _question(judge, *functions):
    """Let a question about a number be asked about the value of a dual."""
    rule_of_one(*functions)(lambda x: judge(x.value))


_question(math.isnan, math.isnan, np.isnan)
_question(math.isinf, math.isinf, np.isinf)
_question(math.isfinite, math.isfinite, np.isfinite)
