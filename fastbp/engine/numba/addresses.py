"""C pointers in jitted code: arrays at an address, calls by an address, calls that may raise.

So one compiled loop serves any activation, loss and optimiser, and arrays that the caller may only
read (memory-mapped ones, for example) need no compilation of their own.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@intrinsic
def pointer(typing_context, address, like):
    """Pointer to elements of the dtype of the array `like`."""
    result = types.CPointer(like.dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(types.int64, like), generate


@intrinsic
def is_null(typing_context, place):
    """Whether a pointer is NULL."""

    def generate(context, builder, signature, arguments):
        return cgutils.is_null(builder, arguments[0])

    return types.boolean(place), generate


@intrinsic
def store_int(typing_context, address, number):
    """Write a 64-bit integer to an address."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store(arguments[1], place)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def store_real(typing_context, address, number):
    """Write a double to an address."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], ir.DoubleType().as_pointer())
        builder.store(arguments[1], place)
        return context.get_dummy_value()

    return types.void(types.int64, types.float64), generate


@intrinsic
def outcome(typing_context, function, arguments):
    """-1 if a jitted function raises for a tuple of arguments, else the truth that it returns.

    What ``try`` does too, but Numba takes three times as long to compile that.
    """
    resolved = function.get_call_type(typing_context, arguments.types, {})
    compiled = function.dispatcher.overloads[resolved.args]

    def generate(context, builder, signature, given):
        context.add_linking_libs([compiled.library])
        status, value = context.call_internal_no_propagate(
            builder, compiled.fndesc, compiled.signature, cgutils.unpack_tuple(builder, given[1])
        )
        truth = context.cast(builder, value, compiled.signature.return_type, types.int64)
        return builder.select(status.is_error, context.get_constant(types.int64, -1), truth)

    return types.int64(function, arguments), generate


def caller(result, *parameters):
    """Make ``call(address, arguments)`` for C functions of these types; pointers are int64."""

    @intrinsic
    def call(typing_context, address, arguments):
        def generate(context, builder, signature, given):
            kinds = [context.get_value_type(kind) for kind in parameters]
            returned = ir.VoidType() if result is types.void else context.get_value_type(result)
            function = builder.inttoptr(given[0], ir.FunctionType(returned, kinds).as_pointer())
            value = builder.call(function, cgutils.unpack_tuple(builder, given[1]))
            return context.get_dummy_value() if result is types.void else value

        return result(types.int64, types.Tuple(parameters)), generate

    return call


_INT, _REAL = types.int64, types.float64
call_forward = caller(types.void, _INT, _INT, _INT)  # a, slopes, n
call_slope = caller(types.void, _INT, _INT, _INT)  # delta, at, n
# targets, scores, weights, scale, row_loss, capacity, rows, n_outputs, hyper
call_loss = caller(types.void, _INT, _INT, _INT, _REAL, _INT, _INT, _INT, _INT, _INT)
call_prepare = caller(types.void, _INT, _REAL, _REAL, _INT)  # hyper, learning_rate, t, h
call_update = caller(_REAL, _INT, _INT, _INT, _INT, _INT, _REAL, _INT)  # w, g, s0, s1, n, l2, h
