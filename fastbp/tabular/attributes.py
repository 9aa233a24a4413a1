"""What the fitted attributes of a tabular estimator and of its networks must be.

As `estimators.attributes` does for one network: users may edit, and `predict` names what does not
fit.  Also the one refusal of all who look at a single network.
"""

from typing import Any, NoReturn

import numpy as np

from fastbp.estimators.attributes import (
    chain_of,
    check_numbers,
    check_outputs,
    check_records,
    check_scale,
    has_outputs,
    refuse_infinite,
    value_of,
    wrong_attribute,
)
from fastbp.tabular.encoder import TableEncoder

MEMBERS = ("member_scales_", "member_coefs_", "member_intercepts_")


def members_of(state, engine=None):
    """Arrays of a network with members, in the order of the flat vector.

    What `fit` makes is returned as it is; other arrays of floats are converted.

    Parameters
    ----------
    state : dict
        A network's attributes.
    engine : module or None, default=None
        Gives the usual answer fast.

    Returns
    -------
    coefs, intercepts : lists of ndarray
    scales, member_coefs, member_intercepts : ndarray
        C-contiguous, of float32 as encoded columns are, or of float64.

    Raises
    ------
    ValueError
        Names the attribute, what was expected and what it is.
    """
    plain, n_features = False, state.get("n_features_in_")
    if engine is not None:
        try:
            coefs, intercepts = state["coefs_"], state["intercepts_"]
            scales, outputs, biases = (state[name] for name in MEMBERS)
            n_members, n_hidden, n_outputs = outputs.shape
            plain = (
                engine.are_layers(coefs, intercepts, n_features, n_hidden)
                and state["n_outputs_"] == n_outputs
                and scales.shape == (n_members, n_features)
                and biases.shape == (n_members, n_outputs)
                and all(
                    type(array) is np.ndarray
                    and array.dtype == coefs[0].dtype
                    and array.flags.carray
                    for array in (scales, outputs, biases)
                )
                and n_members > 0
                and has_outputs(state, n_outputs)
            )
        except Exception:  # whatever an edited attribute raises: it is named below
            plain = False
    if not plain:
        coefs, intercepts, scales, outputs, biases = _convert(state)
    check_scale(state)
    return coefs, intercepts, scales, outputs, biases


def _convert(state):
    """All arrays in one dtype; an error where they make no network."""
    coefs, intercepts, width, _ = chain_of(state)
    scales, outputs, biases = (_array_of(state, name) for name in MEMBERS)
    if outputs.ndim != 3 or outputs.shape[1] != width or 0 in outputs.shape:
        wanted = f"an array of shape (n_members, {width}, n_outputs), to follow coefs_[-1]"
        raise wrong_attribute("member_coefs_", wanted, outputs)
    n_members, _, n_outputs = outputs.shape
    n_features = state["n_features_in_"]
    for name, array, shape in [
        ("member_scales_", scales, (n_members, n_features)),
        ("member_intercepts_", biases, (n_members, n_outputs)),
    ]:
        if array.shape != shape:
            wanted = f"an array of shape {shape}, for the {n_members} members of member_coefs_"
            raise wrong_attribute(name, wanted, array)
    check_outputs(state, n_outputs, "the outputs of member_coefs_")
    found = np.result_type(*coefs, *intercepts, scales, outputs, biases)
    dtype = np.float32 if np.can_cast(found, np.float32) else np.float64
    with np.errstate(over="ignore"):  # of longdouble
        as_lists = ([np.ascontiguousarray(a, dtype) for a in part] for part in (coefs, intercepts))
        return (*as_lists, *(np.ascontiguousarray(a, dtype) for a in (scales, outputs, biases)))


def _array_of(state, name):
    value = value_of(state, name)
    try:
        array = np.asarray(value)
    except Exception:  # foreign objects raise what they like
        array = None
    if array is None or array.dtype.kind != "f":
        raise wrong_attribute(name, "an array of floats", value)
    return array


def check_members(state):
    """Check everything that a network with members holds, as `check_attributes` does for one.

    Raises
    ------
    ValueError
        Names what is wrong.
    """
    parts = members_of(state)
    refuse_numbers(state, parts)
    check_records(state)
    if state.get("_n_members") != len(parts[-1]):
        found = repr(state.get("_n_members"))
        raise wrong_attribute("_n_members", f"{len(parts[-1])}, as its arrays have", found=found)


def refuse_numbers(state, parts):
    """Refuse numbers that make no finite predictions; `parts` are those of `members_of`."""
    check_numbers(state, *parts[:2])
    for name, array in zip(MEMBERS, parts[2:], strict=True):
        refuse_infinite(name, array)


def check_ensemble(state, kind):
    """Check what a tabular estimator predicts with.

    Parameters
    ----------
    state : dict
        Its attributes.
    kind : type
        Class of its networks.

    Raises
    ------
    ValueError
        Names what is wrong.
    """
    networks = state["networks_"]
    if not (isinstance(networks, list | tuple) and networks):
        raise wrong_attribute("networks_", "a list of at least one network", networks)
    encoder = value_of(state, "encoder_")
    if type(encoder) is not TableEncoder or "_plan" not in vars(encoder):
        raise wrong_attribute("encoder_", "a fitted TableEncoder", encoder)
    width = encoder._plan.n_outputs
    for i, one in enumerate(networks):
        name = f"networks_[{i}]"
        if type(one) is not kind or "coefs_" not in vars(one):
            found = "not fitted" if type(one) is kind else f"a {type(one).__name__}"
            raise wrong_attribute(name, f"a fitted {kind.__name__}", found=found)
        if _outputs_of(one) != _outputs_of(networks[0]):
            for each in networks:
                members_of(vars(each))  # names what an edit has broken
            wanted = "a network with n_outputs_ and out_activation_ of networks_[0]"
            raise wrong_attribute(name, wanted, found="one with others")
        if vars(one).get("n_features_in_") != width:
            found = f"one of {vars(one).get('n_features_in_')!r}"
            raise wrong_attribute(name, f"a network of the {width} encoded columns", found=found)
    if "classes_" in state:
        classes, own = state["classes_"], vars(networks[0]).get("classes_")
        if classes is not own and not np.array_equal(classes, own):
            raise wrong_attribute("classes_", f"networks_[0].classes_, {own!r}", classes)


def range_of(state):
    """Lowest and highest y of each target, between which predictions stay."""
    found, one = value_of(state, "_range"), state["networks_"][0]
    shared = one.out_activation_ == "cumulative_softplus"  # quantiles of one target
    wanted = (1 if shared else one.n_outputs_,)
    fits = isinstance(found, tuple | list) and len(found) == 2
    if not (fits and all(_is_finite(end, wanted) for end in found)):
        text = f"two arrays of finite numbers of shape {wanted}"
        raise wrong_attribute("_range", text, found)
    return found


def _is_finite(array, shape):
    return (
        isinstance(array, np.ndarray)
        and array.shape == shape
        and array.dtype.kind == "f"
        and bool(np.isfinite(array).all())
    )


def _outputs_of(one):
    return [vars(one).get(name) for name in ("n_outputs_", "out_activation_")]


ADVICE = (
    "A tabular estimator predicts with several networks of members, on encoded columns: use its "
    "own predict, encoder_.summary() and sklearn.inspection (permutation_importance, "
    "PartialDependenceDisplay), which see the raw table; or fit a BackpropClassifier or "
    "BackpropRegressor on TableEncoder's columns where one network is needed."
)


def refuse_ensemble(estimator, what):
    """Refuse a tabular estimator, or one of its networks, where a single network is needed.

    Parameters
    ----------
    estimator : object
        Any; others pass.
    what : str
        Who needs one.

    Raises
    ------
    TypeError
    """
    is_ensemble = getattr(type(estimator), "_is_ensemble", False)
    if is_ensemble:
        raise TypeError(f"{what} looks at one network. Got {type(estimator).__name__}. {ADVICE}")


def refusing(name):
    """Make a method that says that ensembles have none of this name."""

    def method(self: Any, *arguments: Any, **keywords: Any) -> NoReturn:
        refuse_ensemble(self, name)
        raise TypeError(name)

    method.__name__ = name
    method.__doc__ = (
        "Raise TypeError: this is no single network; :ref:`what can be handed over "
        "<handing_over_tables>`."
    )
    return method
