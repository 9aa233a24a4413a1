"""How fastbp speaks to its user: warnings at the user's own line, and "did you mean".

Here lives the search for the nearest name, and the table of what other libraries call a parameter
of the estimators or an argument of `fit`.  Other words for an activation, a loss, a solver or a
score stand beside the names themselves (`OTHER_WORDS` of those files).  Nothing here refuses, and
no message is composed here: who refuses or warns does that.
"""

import contextlib
import difflib
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import joblib
import sklearn

from fastbp.engine.copies import PACKAGE_PATH

# Names elsewhere, without case and underscores: the parameter, or a sentence's part that names it.
PARAMETERS = {
    "hidden_layer_sizes": "hidden_layers hidden_sizes hidden_units hidden_dims layers units "
    "n_hidden n_units architecture topology",
    "activation": "act activations activation_function nonlinearity hidden_activation",
    "loss": "loss_function loss_fn criterion objective cost",
    "solver": "optimizer optim algorithm training_algorithm",
    "alpha": "l2 l2_regularization reg reg_lambda regularization lambda lam penalty "
    "kernel_regularizer",
    "alpha (the L2 penalty), or solver=fastbp.optimizers.AdamW(weight_decay=...)": "decay "
    "weight_decay",
    "batch_size": "batch minibatch_size mini_batch_size",
    "learning_rate": "scheduler schedule lr_scheduler lr_schedule learning_rate_schedule",
    "learning_rate_init": "lr eta eta0 step_size initial_lr init_lr lr_init rate max_lr "
    "initial_learning_rate",
    "n_networks": "ensemble_size n_models",
    "max_iter": "epochs n_epochs max_epochs num_epochs nb_epoch n_iter iterations n_estimators "
    "max_iterations num_iterations num_boost_round",
    "random_state": "seed random_seed rng",
    "tol": "tolerance min_delta",
    "validation_fraction": "validation_split val_fraction val_size val_split train_split",
    "n_iter_no_change": "patience stopping_rounds early_stopping_rounds early_stopping_patience",
    "early_stopping": "restore_best_weights load_best",
    "n_threads": "n_jobs num_threads threads nthread n_workers n_cores",
    "dtype": "precision",
    "engine": "backend device",
    "matmul_precision": "float32_matmul_precision fp32_precision default_matmul_precision "
    "mixed_precision amp autocast bf16 bfloat16 use_bf16 tf32 allow_tf32",
    "class_weight": "class_weights weights_per_class is_unbalance pos_weight scale_pos_weight",
    "init": "initializer kernel_initializer weight_init initialization",
    "dropout": "dropout_rate p_dropout drop_rate dropout_p",
    "max_grad_norm": "clipnorm clip_norm grad_clip gradient_clip gradient_clipping "
    "gradient_clip_val clip_grad_norm max_norm global_clipnorm",
    "ema_decay": "ema polyak averaging use_ema ema_momentum",
    "scoring": "metric metrics eval_metric score scorer monitor",
    "max_time": "timeout time_limit max_seconds time_budget",
    "scale_targets": "scale_y scale_target normalize_y standardize_targets normalize_targets",
    "nesterovs_momentum": "nesterov use_nesterov",
    "epsilon": "eps",
    "params": "param_grid param_distributions param_space search_space grid",
    "n_candidates": "n_iter n_trials n_configs num_samples",
    "factor": "eta reduction_factor",
    "strategy": "search_strategy searcher",
    "categorical_features": "cat_features categorical_columns categorical_feature categories",
    "n_bins": "bins max_bins n_quantiles",
    "max_levels": "max_categories max_one_hot_cat_size one_hot_max_size",
    "min_frequency": "min_count min_samples",
}
FIT_ARGUMENTS = {
    "X_val=, y_val=": "eval_set evaluation_set eval_data validation_data validation_set val_data "
    "val_set valid_data valid_sets test_set val validation",
    "X_val=": "x_valid x_validation x_eval x_test valid_x validation_x eval_x test_x val_x "
    "val_features val_inputs",
    "y_val=": "y_valid y_validation y_eval y_test valid_y validation_y eval_y test_y val_y "
    "val_labels val_targets",
    "sample_weight=": "weights weight sample_weights w",
    "sample_weight_val=": "eval_sample_weight sample_weight_eval_set sample_weights_val "
    "val_sample_weight weights_val",
    "set_callbacks(...), before the fit": "callbacks callback",
}


# Share of two words that must be alike: "alfa" and "alpha" have 0.67, "warm_start" and
# "random_state" 0.60.
NEAR = 0.65


def _plain(name):
    """Return a name without case, underscores and other signs."""
    return "".join(filter(str.isalnum, name.lower()))


def _turned(table):
    """Return what each word means, a list: no estimator has two parameters of one list."""
    turned: dict[str, list[str]] = {}
    for meaning, words in table.items():
        for word in words.split():
            turned.setdefault(_plain(word), []).append(meaning)
    return turned


_PARAMETERS, _FIT_ARGUMENTS = _turned(PARAMETERS), _turned(FIT_ARGUMENTS)


def find_name(
    word: object,
    names: Iterable[str],
    other_words: Mapping[str, str] | None = None,
    *,
    near: bool = True,
) -> str | None:
    """Find the name that a word probably means, or None.

    Parameters
    ----------
    word : object
        Case, underscores and signs do not count.
    names : iterable of str
        What is allowed.
    other_words : mapping of str to str, default=None
        What else names are called; those that lead to none of `names` do not count.
    near : bool, default=True
        Whether a name that is only similar counts.
    """
    if not isinstance(word, str):
        return None
    known = {_plain(name): name for name in names}
    more = {_plain(w): name for w, name in (other_words or {}).items() if name in known.values()}
    known = more | known
    word = _plain(word)
    if near and word not in known:
        close = difflib.get_close_matches(word, known, n=1, cutoff=NEAR)
    else:
        close = [word]
    return known.get(close[0]) if close else None


def find_parameter(word, names):
    """Find the constructor's parameter that a word probably means, or None, as `find_name`."""
    for meaning in _PARAMETERS.get(_plain(word), []):
        if meaning.split(" ")[0] in names:
            return meaning
    return find_name(word, names)


def _find_fit_argument(kind, word, arguments):
    """Find the argument of `fit` that a word means, or None; similar words do not count."""
    for meaning in _FIT_ARGUMENTS.get(_plain(word), []):
        first, is_argument, _ = meaning.partition("=")
        if first in arguments if is_argument else hasattr(kind, "set_callbacks"):
            return meaning
    return f"{word}=" if word in arguments and word not in ("X", "y") else None


def _explain_argument(estimator, method, word, arguments):
    """Say what an unknown keyword of a method probably means, or nothing ("")."""
    kind = type(estimator).__name__
    parameters = type(estimator)._get_param_names()
    if method == "__init__":
        accepted = inspect.signature(type(estimator).fit).parameters
        meaning = _find_fit_argument(type(estimator), word, accepted)
        if meaning is not None:
            whose = " of fit" if "=" in meaning else ""
            return f" Did you mean {meaning}{whose}?"
        meaning = find_parameter(word, parameters)
        return f" Did you mean {meaning}?" if meaning else ""
    meaning = _find_fit_argument(type(estimator), word, arguments)
    if meaning is not None:
        return f" Did you mean {meaning}?"
    if word in parameters or _plain(word) in _PARAMETERS:
        meaning = word if word in parameters else find_parameter(word, parameters)
        if meaning is None:
            return ""
        written = f"{kind}({meaning}=...)" if meaning.isidentifier() else meaning
        return f" Did you mean the parameter of the constructor, {written}?"
    meaning = find_name(word, arguments)
    return f" Did you mean {meaning}=?" if meaning else ""


Method = TypeVar("Method", bound=Callable)


def explains_its_arguments(method: Method) -> Method:
    """Let a method's TypeError for a wrong call name the public class and the probable argument.

    The call itself is Python's, and so are signature and cost.
    """
    signature = inspect.signature(method)

    @functools.wraps(method)
    def called(self, /, *arguments, **keywords):
        try:
            return method(self, *arguments, **keywords)
        except TypeError:
            message = _explain_call(self, method.__name__, signature, arguments, keywords)
            if message is None:  # the error is not about the call
                raise
        raise TypeError(message)

    return called  # type: ignore[return-value]


def _explain_call(estimator, method, signature, arguments, keywords):
    """Return what is wrong with a call, or None."""
    try:
        signature.bind(estimator, *arguments, **keywords)
    except TypeError as error:
        names = list(signature.parameters)[1:]
        hints = [
            _explain_argument(estimator, method, word, names)
            for word in keywords
            if word not in names
        ]
        wrong = f"got {error}" if str(error).startswith(("too", "multiple")) else str(error)
        return (
            f"{type(estimator).__name__}.{method}() {wrong}.{hints[0] if hints else ''} It takes "
            f"{', '.join(names)}."
        )
    return None


# What may stand between the user's line and a warning: packages, and files of Python's own.
INSIDE = (
    str(PACKAGE_PATH) + os.sep,
    *(str(Path(str(module.__file__)).parent) + os.sep for module in (sklearn, joblib)),
    contextlib.__file__,
    functools.__file__,
)


_KEPT: ContextVar[list | None] = ContextVar("fastbp_kept_warnings", default=None)


@contextlib.contextmanager
def keep_warnings(kept):
    """Put what `warn_user` is told in this block, and in this thread, on the list `kept`.

    A thread that works for the user's own has no line of the user's to warn at.
    """
    token = _KEPT.set(kept)
    try:
        yield
    finally:
        _KEPT.reset(token)


_FIXED: ContextVar[tuple[str, ...]] = ContextVar("fastbp_fixed_parameters", default=())


@contextlib.contextmanager
def without_advice(*names):
    """Let no message of this block, and of this thread, advise parameters that a user lacks.

    Of networks that an estimator makes for itself, some parameters are not its user's.
    """
    token = _FIXED.set((*_FIXED.get(), *names))
    try:
        yield
    finally:
        _FIXED.reset(token)


def may_advise(name):
    """Whether a message may speak of a parameter."""
    return name not in _FIXED.get()


def warn_user(message, category=UserWarning):
    """Warn, with the line of the user's as the place: the first one outside of `INSIDE`."""
    kept = _KEPT.get()
    if kept is not None:
        kept.append((message, category))
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
