"""Dual numbers: a value and its derivative, carried together through a user's scalar function.

Forward-mode differentiation as a Numba type: a function written for floats, with branches, local
variables and calls of `math` or `numpy`, is compiled for `Dual` instead and returns its value and
its slope.  Plain numbers that meet a dual number take its dtype, so that ``1.0 + z`` stays float32;
where only the value is used LLVM drops the derivative.  Here live the type and how a rule is
registered; the rules, one per operator and function, are in `derivatives`.
"""

from numba import njit, types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_cast,
    make_attribute_wrapper,
    models,
    overload,
    register_jitable,
    register_model,
)

from fastbp.engine.numba.caching import INSIDE, OPTIONS, cached

INLINE = {"forceinline": True, "fastmath": {"contract"}, **INSIDE}
PLAIN = (types.Integer, types.Float, types.Boolean)


class Dual(types.Type):
    """Type of a dual number with value and slope of the float type `real`."""

    def __init__(self, real):
        self.real = real
        super().__init__(name=f"Dual({real})")

    def can_convert_from(self, typing_context, other):
        """Let plain numbers become duals with slope 0."""
        return Conversion.safe if isinstance(other, PLAIN) else None

    def unify(self, typing_context, other):
        """Let a variable hold a dual in one branch and a plain number in another."""
        return self if isinstance(other, PLAIN) else None


@register_model(Dual)
class _DualModel(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, [("value", kind.real), ("slope", kind.real)])


make_attribute_wrapper(Dual, "value", "value")
make_attribute_wrapper(Dual, "slope", "slope")


def _build(context, builder, kind, value, slope):
    pair = cgutils.create_struct_proxy(kind)(context, builder)
    pair.value, pair.slope = value, slope
    return pair._getvalue()


@lower_cast(types.Integer, Dual)
@lower_cast(types.Float, Dual)
@lower_cast(types.Boolean, Dual)
def _from_plain(context, builder, given, kind, number):
    value = context.cast(builder, number, given, kind.real)
    return _build(context, builder, kind, value, context.get_constant(kind.real, 0))


@intrinsic
def dual(typing_context, value, slope):
    """Make the dual number of a value and a slope of one float type."""

    def generate(context, builder, signature, arguments):
        return _build(context, builder, signature.return_type, *arguments)

    return Dual(value)(value, value), generate


@intrinsic
def lift(typing_context, x, partner):
    """X as a dual number of the type that x or its partner has."""
    kind = x if isinstance(x, Dual) else partner

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], x, kind)

    return kind(x, partner), generate


@intrinsic
def value_as(typing_context, x, like):
    """Value of x, a dual or a plain number, in the float type of `like`."""

    def generate(context, builder, signature, arguments):
        pair = context.cast(builder, arguments[0], x, Dual(like))
        return cgutils.create_struct_proxy(Dual(like))(context, builder, pair).value

    return like(x, like), generate


@intrinsic
def slope_as(typing_context, x, like):
    """Slope of x, a dual or a plain number (then 0), in the float type of `like`."""

    def generate(context, builder, signature, arguments):
        pair = context.cast(builder, arguments[0], x, Dual(like))
        return cgutils.create_struct_proxy(Dual(like))(context, builder, pair).slope

    return like(x, like), generate


def is_pair(x, y):
    """Whether an operation of x and y is one of duals."""
    kinds = [kind for kind in (x, y) if isinstance(kind, Dual)]
    return bool(kinds) and all(isinstance(kind, (Dual, *PLAIN)) for kind in (x, y))


def operation(*functions, n=2, result=None):
    """Register ``rule(builder, *pairs)``, which writes LLVM's instructions itself, for `functions`.

    Each operation of a formula would otherwise be two functions to compile (20 ms each, November
    2026), for which the first fit waits.  It is given `n` numbers, of which at least one is dual,
    as pairs of LLVM values (value, slope), and returns such a pair, or one value of the Numba type
    `result`.  Plain numbers are cast to duals before.
    """

    class Rule(AbstractTemplate):
        def generic(self, arguments, keywords):
            if len(arguments) != n or keywords or not is_pair(arguments[0], arguments[-1]):
                return None
            kind = next(kind for kind in arguments if isinstance(kind, Dual))
            return signature(kind if result is None else result, *[kind] * n)

    def register(rule):
        def generate(context, builder, kinds, arguments):
            proxies = (
                cgutils.create_struct_proxy(kind)(context, builder, argument)
                for kind, argument in zip(kinds.args, arguments, strict=True)
            )
            made = rule(builder, *((pair.value, pair.slope) for pair in proxies))
            return made if result else _build(context, builder, kinds.return_type, *made)

        for function in functions:
            infer_global(function)(type(f"Rule_{function.__name__}", (Rule,), {}))
            lower_builtin(function, *[Dual] * n)(generate)
        return rule

    return register


def _jit_rule(rule):
    """Jit a rule; on disk, too, unless it closes over another function (numba issue 6264)."""
    if rule.__closure__:
        return register_jitable(**INLINE)(rule)
    return cached(njit, rule, forceinline=True, **INSIDE, **OPTIONS)


def rule_of_one(*functions):
    """Register ``rule(x)`` as what `functions` do with a dual number."""

    def register(rule):
        rule = _jit_rule(rule)
        for function in functions:

            def choose(x):
                return (lambda x: rule(x)) if isinstance(x, Dual) else None

            overload(function, jit_options=INLINE)(choose)
        return rule

    return register


def rule_of_two(*functions):
    """Register ``rule(x, y)`` for two numbers of which at least one is dual."""

    def register(rule):
        rule = _jit_rule(rule)
        for function in functions:

            def choose(x, y):
                if is_pair(x, y):
                    return lambda x, y: rule(lift(x, y), lift(y, x))
                return None

            overload(function, jit_options=INLINE)(choose)
        return rule

    return register


def smooth(value, derivative, *functions):
    """Register a function by its value and its derivative ``derivative(x, y)``, y the value."""
    derivative = register_jitable(**INLINE)(derivative)

    @rule_of_one(*functions)
    def rule(x):
        y = value_as(value(x.value), x.value)
        # As duals, so that numbers in the derivative take the dtype; their slopes are dropped.
        slope = derivative(dual(x.value, x.slope), dual(y, x.slope))
        return dual(y, x.slope * value_as(slope, x.value))
