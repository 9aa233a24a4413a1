"""The door between the Python rooms and the compiled engines.

Every engine is a module that offers the same verbs: `Session` (train, predict_into,
loss_and_gradient, params_into, slots_into, close), `predict_into`, `transform_into`, `all_finite`,
`instruction_set`.  This file only chooses the module; it computes nothing.
"""

from importlib import import_module

ENGINES = {"cython": "fastbp.engine.native.engine"}
ENGINE_NAMES = ("auto", *ENGINES)

_LOADED = {}


def get_engine(name="auto"):
    """Engine module of a name.

    Parameters
    ----------
    name : {"auto", "cython"}, default="auto"
        "auto" takes the compiled extension.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        When the engine's extension module was not built; the message says how to build it.
    """
    module = _LOADED.get(name)
    if module is None:
        module = _LOADED[name] = _load(name)
    return module


def _load(name):
    if name not in ENGINE_NAMES:
        raise ValueError(f"engine must be one of {set(ENGINE_NAMES)}. Got {name!r} instead.")
    path = ENGINES["cython" if name == "auto" else name]
    try:
        return import_module(path)
    except ImportError as error:
        from fastbp.engine.copies import explain_copies

        raise ImportError(
            f"fastbp's compiled engine ({path}) cannot be imported: {error}. {explain_copies()} "
            "To build the engine, install a C compiler (for example `apt install gcc`) and install "
            "fastbp again; with the environment variable FASTBP_REQUIRE_EXTENSION=1 the install "
            "shows why it fails."
        ) from error
