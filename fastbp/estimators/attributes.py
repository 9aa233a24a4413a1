"""Fitted attributes: what they must be, wherever they come from.

Users edit them, and files and other libraries' models bring them; the engines take them as arrays
of known shapes.  This is the one place that knows what fits together: `network_of` asks at every
prediction, `check_attributes` asks more where training goes on, and where a model is saved, loaded
or handed over.  Nothing here trains or changes an estimator.
"""

import reprlib
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np

from fastbp.descriptions import instance_rule, is_allowed, name_rule, number_rule, refusal
from fastbp.engine import FLOATS
from fastbp.engine.precision import PRECISIONS
from fastbp.losses import TRANSFORMS
from fastbp.optimizers import OPTIMIZERS
from fastbp.schedules import Function, recreate
from fastbp.values import is_mersenne_state

KIND = "_target_kind"
# The kinds of target (None: real numbers), and the output transforms that each can have.
OUTPUTS = {
    "binary": ("logistic",),
    "multiclass": ("softmax",),
    "multilabel": ("logistic",),
    None: tuple(output for output in TRANSFORMS.values() if output != "softmax"),
}


# ------------------------------------------------------------------------------- the network


def network_of(state, engine=None):
    """Weights and biases of fitted attributes that make a network.

    What `fit` makes is returned as it is.  Other arrays of floats are converted: of any dtype,
    order and strides, in lists or tuples.

    Parameters
    ----------
    state : dict
        An estimator's attributes.
    engine : module or None, default=None
        Gives the usual answer in a hundredth of the time that a prediction takes.

    Returns
    -------
    coefs : list or tuple of ndarray of shape (n_in, n_out)
    intercepts : list or tuple of ndarray of shape (n_out,)
        C-contiguous, of one dtype, float32 or float64.

    Raises
    ------
    ValueError
        Names the attribute that does not fit the others, what was expected and what it is.
    """
    plain = False
    if engine is not None:
        try:
            coefs, intercepts = state["coefs_"], state["intercepts_"]
            n_outputs = state["n_outputs_"]
            plain = engine.are_layers(
                coefs, intercepts, state["n_features_in_"], n_outputs
            ) and has_outputs(state, n_outputs)
        except Exception:  # whatever an edited attribute raises: it is named below
            plain = False
    if not plain:
        coefs, intercepts = _convert(state)
    check_scale(state)
    return coefs, intercepts


def has_outputs(state, n_outputs):
    """Whether transform and classes are what so many outputs have."""
    kind, output = state.get(KIND), state["out_activation_"]
    return (
        isinstance(output, str)
        and output in OUTPUTS[kind]
        and (_fit(state["classes_"], kind, n_outputs) if kind else "classes_" not in state)
    )


def _fit(classes, kind, n_outputs):
    """Whether `classes_` is an array of a class for each output, or one or two for a single one."""
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        return False
    if kind == "binary":
        return n_outputs == 1 and len(classes) in (1, 2)
    return len(classes) == n_outputs


def _convert(state):
    """Weights and biases as arrays of one dtype; an error where they make no network."""
    coefs, intercepts, width, before = chain_of(state)
    check_outputs(state, width, f"the columns of {before}")
    found = np.result_type(*coefs, *intercepts)
    dtype = np.float32 if np.can_cast(found, np.float32) else np.float64
    with np.errstate(over="ignore"):  # of longdouble
        return tuple(
            [np.ascontiguousarray(array, dtype) for array in arrays]
            for arrays in (coefs, intercepts)
        )


def chain_of(state):
    """Arrays of layers that follow each other, the width of the last one, and its name."""
    coefs, intercepts = _arrays_of(state, "coefs_", 2), _arrays_of(state, "intercepts_", 1)
    if not coefs:
        raise wrong_attribute("coefs_", "the weights of each layer", coefs)
    if len(coefs) != len(intercepts):
        wanted = f"one array for each of the {len(coefs)} arrays of coefs_"
        raise wrong_attribute("intercepts_", wanted, found=f"{len(intercepts)} arrays")
    width, before = _count_of(state, "n_features_in_"), "n_features_in_"
    for layer, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        name, (n_in, n_out) = f"coefs_[{layer}]", W.shape
        if not (n_in == width and n_out):
            wanted = f"an array with {width} rows, to follow {before}, and at least one column"
            raise wrong_attribute(name, wanted, W)
        if b.shape != (n_out,):
            wanted = f"an array with a number for each of the {n_out} columns of {name}"
            raise wrong_attribute(f"intercepts_[{layer}]", wanted, b)
        width, before = n_out, name
    return coefs, intercepts, width, before


def check_outputs(state, width, what):
    """Refuse a number of outputs, a transform or classes that do not belong to so many scores."""
    if _count_of(state, "n_outputs_") != width:
        raise wrong_attribute("n_outputs_", f"{width}, {what}", state["n_outputs_"])
    output, has_classes = value_of(state, "out_activation_"), "classes_" in state
    kind = value_of(state, KIND) if has_classes else state.get(KIND)
    if not (isinstance(kind, str | None) and kind in OUTPUTS) or (has_classes and kind is None):
        raise wrong_attribute(KIND, f"one of {sorted(filter(None, OUTPUTS))}", kind)
    if not (isinstance(output, str) and output in OUTPUTS[kind]):
        names = " or ".join(map(repr, OUTPUTS[kind]))
        raise wrong_attribute("out_activation_", f"{names} for {kind or 'real'} targets", output)
    if kind is not None and not _fit(value_of(state, "classes_"), kind, width):
        wanted = "1 or 2 labels, for one output" if kind == "binary" else f"{width} labels"
        raise wrong_attribute("classes_", f"an array of {wanted}", state["classes_"])


def _arrays_of(state, name, n_dims):
    """Attribute `name` as a list of arrays of real numbers of so many dimensions."""
    values = value_of(state, name)
    if not isinstance(values, list | tuple):
        raise wrong_attribute(name, "a list of arrays, one for each layer", values)
    arrays = []
    for layer, value in enumerate(values):
        try:
            array = np.asarray(value)
        except Exception:  # foreign objects raise what they like
            array = None
        if array is None or array.ndim != n_dims or array.dtype.kind != "f":
            wanted = f"an array of floats of {n_dims} dimension{'s' * (n_dims > 1)}"
            raise wrong_attribute(f"{name}[{layer}]", wanted, value)
        arrays.append(array)
    return arrays


def value_of(state, name):
    """Value of a fitted attribute, which must be there."""
    if name not in state:
        raise ValueError(f"The fitted attribute {name} is missing. Fit again.")
    return state[name]


def _count_of(state, name):
    count = value_of(state, name)
    if not isinstance(count, Integral):
        raise wrong_attribute(name, "an int", count)
    return count


def check_scale(state):
    """Refuse what predictions of scaled targets cannot be put back with."""
    if "target_scale_" not in state and "target_mean_" not in state:
        return
    shared = state["out_activation_"] == "cumulative_softplus"  # quantiles of one target
    wanted = (1 if shared else state["n_outputs_"],)
    for name in ("target_mean_", "target_scale_"):
        value = value_of(state, name)
        is_array = isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
        if not (is_array and value.shape == wanted):
            raise wrong_attribute(name, f"an array of real numbers of shape {wanted}", value)


def check_numbers(state, coefs=(), intercepts=()):
    """Refuse a scale of targets, weights and biases that make no finite predictions.

    Parameters
    ----------
    state : dict
        An estimator's attributes.
    coefs, intercepts : as `network_of` returns them, default=()

    Raises
    ------
    ValueError
        Names the attribute.
    """
    for name, arrays in (("coefs_", coefs), ("intercepts_", intercepts)):
        for layer, array in enumerate(arrays):
            refuse_infinite(f"{name}[{layer}]", array)
    if "target_scale_" in state:
        mean, scale = state["target_mean_"], state["target_scale_"]
        usable = np.isfinite(scale) & (scale > 0)
        refuse_infinite("target_mean_", mean)
        if not usable.all():
            raise _refuse_number("target_scale_", "positive and finite", scale, usable)


def refuse_infinite(name, array):
    """Refuse an array with a number that is not finite."""
    finite = np.isfinite(array)
    if not finite.all():
        raise _refuse_number(name, "finite", array, finite)


def _refuse_number(name, wanted, array, good):
    """Make the error about a number of an attribute that is not as it must be."""
    place = np.unravel_index(np.argmin(good), array.shape)
    found = f"{array[place]} at {', '.join(map(str, place))}"
    return wrong_attribute(name, wanted, found=found)


def wrong_attribute(name, wanted, value=None, *, found=None):
    """Make the error about an attribute that is not as it must be."""
    return ValueError(
        f"The fitted attribute {name} must be {wanted}, but it is {found or _describe(value)}. "
        "Set it back, or fit again."
    )


def _describe(value):
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return reprlib.repr(value)


# ------------------------------------------------------------------- what training goes on from

_COUNT = number_rule(Integral, "[", 0, 2.0**62, "]")
_NUMBER = instance_rule(Real)
_NONE = (lambda value: value is None, "None")
_LIST = (instance_rule(list, tuple)[0], "a list of numbers")  # as long as there were epochs
_STATE = (instance_rule(dict)[0], "what fit left there")
_PLACE_KEYS = {"order", "held_out", "stream", "params"}
_PLACE = (
    lambda value: isinstance(value, dict) and value.keys() >= _PLACE_KEYS, "what fit left there"
)  # fmt: skip
# What training and the displays read besides the network; where it is not there, it is not needed.
_RULES = {
    "n_iter_": (_COUNT,),
    "t_": (_COUNT,),
    "loss_": (_NUMBER,),
    "best_loss_": (_NUMBER, _NONE),
    "loss_curve_": (_LIST,),
    "validation_scores_": (_LIST, _NONE),
    "validation_loss_curve_": (_LIST, _NONE),
    "best_validation_score_": (_NUMBER, _NONE),
    "best_iter_": (_COUNT, _NONE),
    "_no_improvement_count": (_COUNT,),
    "_optimizer": (_STATE, _NONE),
    "_place": (_PLACE, _NONE),
    "_seen": (_STATE,),
    "matmul_precision_": (name_rule(*PRECISIONS),),
    "_class_weights": (_LIST,),  # and see `_check_class_weights`
}
# Of the optimizer's state, and of the place where training left off.
_OPTIMIZER_RULES = {
    "learning_rate_init": (_NUMBER,),
    "learning_rate": (_NUMBER,),
    "max_grad_norm": (number_rule(Real, "(", 0.0, np.inf, ")"), _NONE),
    "ema_decay": (number_rule(Real, "(", 0.0, 1.0, ")"), _NONE),
    "dropout_seed": (number_rule(Integral, "[", 0, 2.0**63, ")"), _NONE),
    "t": (_COUNT,),
    "step": (_COUNT,),
}


def complete(state):
    """Add what later versions of fastbp came to keep to attributes, fitted by an older one."""
    if "n_iter_" in state:
        state.setdefault("matmul_precision_", PRECISIONS[0])


def check_attributes(state, *, goes_on=True):
    """Check everything that a fitted estimator holds.

    Parameters
    ----------
    state : dict
        An estimator's attributes.
    goes_on : bool, default=True
        Whether training may go on with the optimizer and from the place of the last call, so that
        these must fit the network.

    Returns
    -------
    coefs, intercepts : as `network_of` returns them

    Raises
    ------
    ValueError
        Names what is wrong, what was expected and what it is.
    """
    coefs, intercepts = network_of(state)
    check_records(state)
    if goes_on:
        n_params = sum(array.size for array in (*coefs, *intercepts))
        _check_inner(state.get("_optimizer"), n_params, _check_optimizer, "optimizer's state")
        _check_inner(state.get("_place"), n_params, _check_place, "place where training left off")
    return coefs, intercepts


def check_records(state):
    """Check what there is besides the network: units of y, curves, weights of classes."""
    check_numbers(state)
    for name, rules in _RULES.items():
        if name in state and not is_allowed(state[name], rules):
            raise wrong_attribute(name, " or ".join(text for _, text in rules), state[name])
    if "_class_weights" in state:
        _check_class_weights(state)


def _check_class_weights(state):
    """Refuse weights of classes that are not those of this network's classes."""
    kind, weights = state.get(KIND), state["_class_weights"]
    if kind is None:
        raise wrong_attribute("_class_weights", "absent: these targets have no classes", weights)
    n_classes = len(state["classes_"])
    sizes = [2] * n_classes if kind == "multilabel" else [n_classes]
    fits = len(weights) == len(sizes) and all(
        isinstance(table, np.ndarray)
        and table.shape == (size,)
        and table.dtype.kind == "f"
        and ((table >= 0) & np.isfinite(table)).all()
        for table, size in zip(weights, sizes, strict=True)
    )
    if not fits:
        one = (
            "an array of the weights of its two values"
            if kind == "multilabel"
            else (f"an array of {n_classes} weights")
        )
        wanted = f"a list of {len(sizes)}, for each column of targets {one}"
        raise wrong_attribute("_class_weights", wanted, weights)


def _check_inner(inner, n_params, check, title):
    """Check a dict of the estimator's own; whatever is wrong with it, the way out is the same."""
    if inner is None:
        return
    try:
        check(inner, n_params)
    except Exception as error:  # it may hold anything
        raise ValueError(
            f"The {title} does not belong to a network of {n_params} weights and biases ({error}): "
            "training cannot go on with it. Fit again; with warm_start=True that begins with the "
            "present weights."
        ) from error


def _require(condition, what):
    if not condition:
        raise ValueError(what)


def _check_optimizer(optimizer, n_params):
    entry = OPTIMIZERS[optimizer["solver"]]
    type(entry)(**optimizer["hyperparameters"]).check("solver")
    if optimizer["schedule"] != Function.name:  # that is the estimator's parameter
        recreate(optimizer["schedule"], optimizer["schedule_parameters"]).check("learning_rate")
    for name, rules in _OPTIMIZER_RULES.items():
        if not is_allowed(optimizer[name], rules):
            raise refusal(f"{name} of it", optimizer[name], rules)
    for name, shape in (("slots", (entry.n_slots, n_params)), ("weights", (n_params,))):
        array = optimizer[name]
        _require(array is None or _is_real(array, shape), f"{name} must be of shape {shape}")


def _check_place(place, n_params):
    order, held_out, params = place["order"], place["held_out"], place["params"]
    rows = order if held_out is None else np.concatenate([order, held_out])
    _require(
        rows.ndim == 1
        and rows.dtype.kind in "iu"
        and (not len(rows) or (rows.min() >= 0 and rows.max() < len(rows))),
        "order and held_out must name rows",
    )
    _require(params is None or _is_real(params, (n_params,)), "params has another length")
    stream = place["stream"]
    _require(stream["bit_generator"] != "MT19937" or is_mersenne_state(stream), "stream is damaged")


def check_state(state, n_params, n_samples):
    """Refuse the state of a training that is not one of this network and so many rows."""
    try:
        _check_state(state, n_params, n_samples)
    except Exception as error:  # it may hold anything
        raise ValueError(
            "The state to go on from does not belong to a training of "
            f"{n_params} parameters on {n_samples} rows: {error}."
        ) from error


def _check_state(state, n_params, n_samples):
    place, held_out = state.place, state.place["held_out"]
    _require(_is_real(state.params, (n_params,)), f"it has not so many parameters: {n_params}")
    _check_place(place, n_params)
    if "parts" in place:
        _check_parts(place["parts"], n_samples)
    else:
        n_rows = len(place["order"]) + (0 if held_out is None else len(held_out))
        _require(n_rows == n_samples, f"it has {n_rows} rows")
    if not state.ended:
        _check_optimizer(state.optimizer, n_params)
        _require(0 <= state.n_iter <= len(state.loss_curve), "its curves are damaged")


def _check_parts(parts, n_samples):
    """Refuse a place in rows that pass by in windows that is none."""
    seed, epoch, n_rows, loss = (parts[name] for name in ("seed", "epoch", "n_rows", "loss"))
    _require(seed is None or (type(seed) is int and seed >= 0), "the seed of its order is none")
    _require(type(epoch) is int and epoch >= 0, "its epoch is none")
    _require(type(n_rows) is int and 0 <= n_rows <= n_samples, f"it is at row {n_rows}")
    _require(type(loss) is float and np.isfinite(loss), "its loss is not finite")


def _is_real(array, shape):
    return isinstance(array, np.ndarray) and array.shape == shape and array.dtype in FLOATS


@contextmanager
def unchanged_on_error(estimator):
    """Put every attribute of `estimator` back if the block raises.

    Fitted arrays and lists are replaced, never written to, so that the references are enough; a
    RandomState given as `random_state` is advanced only by a fit that succeeds (`own_stream`).
    """
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise
