"""`save` and `load`: a model in a file that holds numbers and names, and no code.

A saved model is a sealed safetensors file (`fastbp.safetensors`, which says why).  Its metadata are

``format``, ``fastbp``
    The number of this format, and the version that saved.  A reader refuses what is newer.
``model``
    JSON: class, parameters and attributes; or of a pipeline its networks, each as if it were alone,
    and what is around them as bytes (`fastbp.saving.pipelines`); the form of values is in
    `fastbp.values`.

Loading makes plain types, arrays, and objects of the classes in fastbp's tables, whose constructors
only keep what they are given.  The seal tells damage, not intent; but a forged file meets the same
checks of every name, type and shape, and can do no more than predict badly.
"""

import json
import re
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from fastbp import safetensors
from fastbp.estimators import BackpropClassifier, BackpropRegressor
from fastbp.estimators.attributes import complete
from fastbp.safetensors import require
from fastbp.tabular import TableEncoder, TabularClassifier, TabularRegressor
from fastbp.tabular.networks import MembersClassifier, MembersRegressor
from fastbp.values import Writer, decode
from fastbp.versions import __version__, refuse_newer

FORMAT = 1

ESTIMATORS = {
    kind.__name__: kind
    for kind in (
        BackpropClassifier, BackpropRegressor, TabularClassifier, TabularRegressor, TableEncoder,
    )
}  # fmt: skip
# What is found within these only.
INNER = {kind.__name__: kind for kind in (TableEncoder, MembersClassifier, MembersRegressor)}
PARAMETERS = {name for kind in ESTIMATORS.values() for name in kind._get_param_names()}
# What scikit-learn keeps in an estimator besides: callbacks, which watch a training and are no part
# of the model, and the requests for metadata, which go into the file by themselves.
NOT_OF_THE_MODEL = {
    "_skl_callbacks",
    "_skl_callbacks_to_teardown",
    "_callback_fit_ctx",
    "_parent_callback_ctx",
    "_metadata_request",
}


def save(estimator: Any, path: str | PathLike[str]) -> None:
    """Save a model without pickle: parameters, weights, and all that training on needs.

    Parameters
    ----------
    estimator : estimator of fastbp, TableEncoder or Pipeline
        Fitted or not.  Callbacks are left out.  A :class:`~sklearn.pipeline.Pipeline` with one of
        them as a step, its own or of a pipeline within, needs skops (``pip install
        'fastbp[skops]'``); its other steps are scikit-learn's own transformers.  Arrays of another
        byte order come back in that of the machine, with the same values.
    path : str or path-like
        File to write, by custom with the suffix ``.safetensors``.  An existing file is replaced
        when the new one is complete.

    Raises
    ------
    TypeError
        If the estimator is of another class.
    ValueError
        If a parameter, an attribute or a step is something that a file without code cannot hold,
        such as a function of your own or a masked array: the message names it.  Nothing is written
        then.
    ImportError
        If a pipeline is to be saved and skops is not installed.

    See Also
    --------
    load : Load what was saved.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = fastbp.BackpropClassifier(max_iter=500, tol=0.01, random_state=0).fit(X, y)
    >>> print(clf.predict_proba(X[:1]).round(1))
    [[0.7 0.2 0.2]]
    >>> path = os.path.join(tempfile.mkdtemp(), "iris.safetensors")
    >>> fastbp.save(clf, path)
    >>> print(fastbp.load(path).predict_proba(X[:1]).round(1))
    [[0.7 0.2 0.2]]
    """
    writer = Writer(PARAMETERS)
    if (type(estimator).__module__, type(estimator).__name__) == ("sklearn.pipeline", "Pipeline"):
        model = {"pipeline": _describe_pipeline(estimator, writer)}
    else:
        model = _describe(estimator, writer)
    metadata = {
        "format": str(FORMAT),
        "fastbp": __version__,
        "model": json.dumps(model, allow_nan=False, separators=(",", ":")),
    }
    safetensors.write(path, metadata, writer.arrays)


def _describe(estimator, writer):
    """Turn an estimator into JSON, with its arrays in `writer`."""
    kind = type(estimator)
    if kind not in ESTIMATORS.values():
        hint = (
            "What is around one (a search, a class of your own) is code of other packages: save "
            "the fitted network in it, or use joblib.dump for the whole."
        )
        if hasattr(estimator, "to_local"):
            hint = "Save its to_local(), which is one."
        raise TypeError(
            f"fastbp.save expects a {' or a '.join(ESTIMATORS)}, or a Pipeline with one, got "
            f"{kind.__name__}. {hint}"
        )
    return _describe_one(estimator, writer)


def _describe_one(estimator, writer):
    """Describe an estimator that may be within another."""
    kind, state, parameters = type(estimator), vars(estimator), estimator.get_params(deep=False)
    if estimator.__sklearn_is_fitted__():
        estimator._check_fitted()
    parts, learned = _special_names(kind)
    attributes = {
        name: value
        for name, value in state.items()
        if name not in parameters and name not in {*NOT_OF_THE_MODEL, *parts, *learned}
    }
    for name in attributes:
        if not _may_be_attribute(name, kind):
            raise ValueError(
                f"The attribute {name!r} cannot be saved: it is a name of {kind.__name__}'s own, "
                "or none that a saved model can have. Give it another name, such as 'note'."
            )
    model = {
        "class": kind.__name__,
        "parameters": {name: writer.encode(v, name) for name, v in parameters.items()},
        "attributes": {name: writer.encode(value, name) for name, value in attributes.items()},
        "requests": writer.encode(_requests_of(state), "_metadata_request"),
    }
    if parts and estimator.__sklearn_is_fitted__():
        model["parts"] = {name: _describe_part(state[name], writer) for name in parts}
    if learned:
        model["learned"] = writer.encode(estimator._describe_learned(), "learned")
    return model


def _describe_part(part, writer):
    """Describe an estimator within another, or a list of them."""
    if isinstance(part, list | tuple):
        return [_describe_one(one, writer) for one in part]
    return _describe_one(part, writer)


def _special_names(kind):
    """Names of attributes that are estimators, and of those that their class itself describes."""
    return getattr(kind, "_saved_parts", ()), getattr(kind, "_learned_names", ())


def _describe_pipeline(pipeline, writer):
    """Turn a pipeline into JSON: its networks as ever, and what is around them as bytes."""
    from fastbp.saving.pipelines import take_apart  # on demand: it imports much of scikit-learn

    if not _has_network(pipeline):
        kinds = ", ".join(type(step).__name__ for _, step in pipeline.steps)
        raise TypeError(
            f"fastbp.save expects a {' or a '.join(ESTIMATORS)}, or a Pipeline with one among its "
            f"steps (or those of a Pipeline in it), got Pipeline of {kinds}. If there is a network "
            "within such a step, save the fitted network itself, or use joblib.dump for the whole; "
            "a pipeline without a network is what skops.io.dump saves."
        )
    skeleton, networks = take_apart(pipeline, ESTIMATORS.values(), NOT_OF_THE_MODEL)
    return {
        "networks": {name: _describe(network, writer) for name, network in networks.items()},
        "skops": writer.encode(np.frombuffer(skeleton, np.uint8), "skops"),
    }


def _has_network(pipeline):
    """Whether a network is among the steps of a pipeline, or of one within."""
    return any(
        _has_network(step) if type(step) is type(pipeline) else type(step) in ESTIMATORS.values()
        for _, step in pipeline.steps
    )


def _may_be_attribute(name, kind):
    """Whether an attribute of this name can be saved: it hides nothing of the class."""
    return (
        isinstance(name, str)
        and name.isidentifier()
        and not name.startswith("__")
        and (not hasattr(kind, name) or name in getattr(kind, "_saved_names", ()))
    )


def load(path: str | PathLike[str]) -> Any:
    """Load a model that `save` wrote; no code in the file is run, for there is none.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    estimator : estimator of fastbp, TableEncoder or Pipeline
        With the parameters, the predictions and the future (`partial_fit`, `warm_start`) of the
        saved one, bit for bit on the same engine and instruction set.

    Raises
    ------
    ValueError
        If the file is damaged or no saved model, or was saved by a newer fastbp.
    ImportError
        If it holds a pipeline and skops is not installed.
    OSError
        If the file cannot be read.

    See Also
    --------
    save : Save a model.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastbp
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> fastbp.save(fastbp.BackpropRegressor(hidden_layer_sizes=(8, 4)), path)
    >>> fastbp.load(path)
    BackpropRegressor(hidden_layer_sizes=(8, 4))
    """
    content = Path(path).read_bytes()
    try:
        metadata, header, data = safetensors.open_sealed(content)
        if "snapshot" in metadata:
            raise ValueError(
                f"it is the snapshot of a {metadata['snapshot']}, which the same call of fit "
                "takes: fit(..., snapshot=path)."
            )
        _refuse_newer_format(metadata)
        arrays = safetensors.read_arrays(header, data)
        model = json.loads(metadata["model"])
        if "pipeline" not in model:
            return _restore(model, arrays)
        model = model["pipeline"]
        from fastbp.saving.pipelines import put_together

        networks = {name: _restore(one, arrays) for name, one in model["networks"].items()}
        return put_together(decode(model["skops"], arrays).tobytes(), networks)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be loaded: {error}") from error
    except (TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be loaded: it is not a model of format {FORMAT} "
            f"({type(error).__name__}: {error})."
        ) from error


def _refuse_newer_format(metadata):
    number, version = metadata["format"], metadata["fastbp"]
    require(re.fullmatch(r"[1-9]\d{0,8}", number), f"its format number is {number!r}")
    if int(number) > FORMAT:
        raise ValueError(
            f"it was saved by fastbp {version} in format {number}; this is fastbp {__version__}, "
            f"which reads formats up to {FORMAT}. Install fastbp {version} or later."
        )
    refuse_newer(version, "it")


# ------------------------------------------------------------------------- the estimator


def _restore(model, arrays, kinds=None):
    """Estimator of a decoded file, after a check that its parts fit together."""
    kind = (kinds or ESTIMATORS)[model["class"]]
    estimator = kind(**{name: decode(v, arrays) for name, v in model["parameters"].items()})
    attributes = {name: decode(v, arrays) for name, v in model["attributes"].items()}
    parts, learned = _special_names(kind)
    for name in attributes:
        require(
            _may_be_attribute(name, kind)
            and name not in vars(estimator)
            and name not in {*parts, *learned},
            f"{name!r} is not a fitted attribute",
        )
    if "parts" in model:
        require(set(model["parts"]) == set(parts), "an ensemble lacks a part")
        for name, part in model["parts"].items():
            attributes[name] = _restore_part(part, arrays)
    complete(attributes)
    vars(estimator).update(attributes)
    if model.get("learned") is not None:
        require(learned, f"{kind.__name__} learns nothing of columns")
        estimator._take_learned(decode(model["learned"], arrays))
    if estimator.__sklearn_is_fitted__():
        estimator._check_fitted()
    requests = decode(model["requests"], arrays)
    if requests is not None:
        estimator._metadata_request = MetadataRequest(owner=estimator)
        for method, wanted in requests.items():
            for name, alias in wanted.items():
                getattr(estimator._metadata_request, method).add_request(param=name, alias=alias)
    return estimator


def _restore_part(part, arrays):
    """Estimator within another, or a list of them."""
    if isinstance(part, list):
        return [_restore(one, arrays, INNER) for one in part]
    return _restore(part, arrays, INNER)


def _requests_of(state):
    """Return what `set_fit_request` and its like have set, by method, or None."""
    request = state.get("_metadata_request")
    if request is None:
        return None
    return {method: one.requests for method, one in vars(request).items() if method != "owner"}
