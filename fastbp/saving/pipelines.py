"""Pipelines around networks: what is left of one without its networks, as bytes that skops writes.

`fastbp.saving.models` keeps the networks in its own format and these bytes beside them.  skops
(https://skops.readthedocs.io) writes scikit-learn's objects without pickle, and builds only types
that are trusted by name: scikit-learn's estimators, NumPy's arrays, dtypes and ufuncs, and here
scikit-learn's score functions for the selection of features.  Whatever else there is in a pipeline
is refused by name, when it is saved and when a file asks for it.  Nothing here knows of networks.
"""

import io
import zipfile
from copy import copy

from sklearn.pipeline import Pipeline

from fastbp.safetensors import require

PLACE = "passthrough"  # stands where a network was
BETWEEN = "__"  # names of a pipeline and of a step of it, as in set_params
NO_PLACE = "its pipeline has no place for its networks"
SCORES = ("chi2", "f_classif", "f_oneway", "f_regression", "r_regression")
TRUSTED = [
    "numpy.dtype",
    *(f"sklearn.feature_selection._univariate_selection.{name}" for name in SCORES),
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
]


def take_apart(pipeline, kinds, left_out):
    """Separate the networks from a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
    kinds : collection of type
        Classes of networks.
    left_out : collection of str
        Attributes of the pipeline that are not saved.

    Returns
    -------
    skeleton : bytes
        The pipeline without them, as `put_together` takes it.
    networks : dict of str to estimator
        Those that are steps of it, by the name of the step; of a pipeline within by both names.

    Raises
    ------
    ImportError
        Without skops.
    ValueError
        Names a step that is more than code of scikit-learn's and numbers.
    """
    skops = _import_skops("save a pipeline")
    networks = {}
    skeleton = _without_networks(skops, pipeline, kinds, left_out, networks, "")
    return _dump(skops, skeleton, "The pipeline"), networks


def _without_networks(skops, pipeline, kinds, left_out, networks, above):
    """Return a copy of a pipeline without its networks, which go into `networks`."""
    if pipeline.memory is not None:
        where = f"pipeline {above.removesuffix(BETWEEN)!r}" if above else "pipeline"
        raise ValueError(
            f"memory={pipeline.memory!r} of the {where} is a place on this machine, which is not "
            "saved. Set it to None: pipeline.set_params(memory=None)."
        )
    skeleton, steps = copy(pipeline), []
    for name, step in pipeline.steps:
        path = f"{above}{name}"
        if type(step) in kinds:
            if path in networks:
                raise ValueError(f"The pipeline has two steps of the name {path!r}.")
            networks[path], step = step, PLACE
        elif type(step) is Pipeline:
            step = _without_networks(skops, step, kinds, left_out, networks, path + BETWEEN)
        else:
            _dump(skops, step, f"The step {path!r}, a {type(step).__name__},")
        steps.append((name, step))
    for name in left_out:
        vars(skeleton).pop(name, None)
    skeleton.steps = steps
    return skeleton


def _dump(skops, thing, title):
    try:
        data = skops.dumps(thing)
        strange = sorted(set(skops.get_untrusted_types(data=data)) - set(TRUSTED))
    except Exception as error:  # whatever a foreign object raises when it is taken apart
        raise ValueError(f"{title} cannot be saved without code: {error}") from error
    if strange:
        raise ValueError(
            f"{title} holds {', '.join(strange)}: only scikit-learn's own transformers can be "
            "saved without code. Leave it out of the saved pipeline, or use joblib.dump if a "
            "pickle will do."
        )
    return data


def put_together(skeleton, networks):
    """Return the pipeline of which `take_apart` made these parts.

    Raises
    ------
    ImportError
        Without skops.
    ValueError
        If the parts are not of one pipeline, or ask for types that are not trusted.
    """
    skops = _import_skops("load a saved pipeline")
    try:
        pipeline = _build(skops, skeleton)
    except Exception as error:  # whatever nonsense in it makes zipfile and skops raise
        raise ValueError(f"its pipeline cannot be built: {error}") from error
    waiting = dict(networks)
    _put_into(pipeline, waiting, "")
    require(not waiting, NO_PLACE)
    return pipeline


def _put_into(pipeline, waiting, above):
    """Put networks back where their places are; what finds its place is `waiting` no longer."""
    require(type(pipeline) is Pipeline and pipeline.memory is None, NO_PLACE)
    steps = []
    for name, step in pipeline.steps:
        path = f"{above}{name}"
        if type(step) is Pipeline:
            _put_into(step, waiting, path + BETWEEN)
        elif isinstance(step, str) and step == PLACE:
            step = waiting.pop(path, step)
        steps.append((name, step))
    pipeline.steps = steps


def _build(skops, skeleton):
    """Let skops build what it trusts, from an archive that holds no more than its size."""
    with zipfile.ZipFile(io.BytesIO(skeleton)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > len(skeleton):
        raise ValueError(f"it would unpack to {size} bytes")
    return skops.loads(skeleton, trusted=TRUSTED)


def _import_skops(purpose):
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            f"To {purpose}, fastbp needs skops, which cannot be imported. Install it, for example "
            "by pip install 'fastbp[skops]'; or save the network alone: fastbp.save(pipeline[-1], "
            "path)."
        ) from error
    return skops.io
