"""What is searched: the network in the estimator, the candidates, and what a fit of each costs.

Nothing here trains or holds data.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.pipeline import Pipeline

from fastbp.descriptions import is_allowed, name_rule, refusal
from fastbp.engine import get_engine
from fastbp.engine.parallel import thread_ceiling
from fastbp.estimators.base import BaseBackprop
from fastbp.messages import warn_user
from fastbp.optimizers import is_full_batch
from fastbp.tabular.base import BaseTabular
from fastbp.training.scoring import OTHER_WORDS, explain_metric

PER_UNIT = 20.0  # operations of an activation beside the 2 of each weight; only their ratios matter
PER_STEP = 20_000.0  # of a minibatch, whatever its size
# Operations of a step for each core from which a fit has all cores to itself: about 1 ms. Then two
# threads are 1.9 to 2.0 times as fast as one (workloads c, d and e in bench/results/steps.md), and
# one network is in memory rather than one for each core.
LARGE_STEP = 1.5e8


STRATEGIES = ("grid", "random", "halving")
# What other libraries call them.
_STRATEGY_WORDS = {
    "exhaustive": "grid", "gridsearch": "grid", "randomized": "random", "randomsearch": "random",
    "successivehalving": "halving", "sha": "halving", "asha": "halving", "hyperband": "halving",
}  # fmt: skip


def check_names(search):
    """Refuse a strategy or a score that nobody knows, with the name that was probably meant."""
    scoring = search.scoring
    scores = scoring.values() if isinstance(scoring, dict) else scoring
    scores = [scoring] if isinstance(scoring, str) or not isinstance(scores, Iterable) else scores
    strategy = name_rule(*STRATEGIES, other_words=_STRATEGY_WORDS)
    score = name_rule(*get_scorer_names(), other_words=OTHER_WORDS)
    for name, value, rule in (
        ("strategy", search.strategy, strategy), *(("scoring", value, score) for value in scores)
    ):  # fmt: skip
        metric = explain_metric(value)
        if metric or (isinstance(value, str) and not is_allowed(value, (rule,))):
            whose = f"{name!r} parameter of {type(search).__name__}"
            raise refusal(whose, value, (rule,), metric or None)


def find_network(estimator):
    """Find the network that an estimator is or ends in.

    Returns
    -------
    network : BackpropClassifier, BackpropRegressor, TabularClassifier or TabularRegressor
    step : str or None
        Name of its step in a Pipeline.

    Raises
    ------
    TypeError
        For any other estimator.
    """
    network, step = estimator, None
    if isinstance(estimator, Pipeline) and estimator.steps:
        step, network = estimator.steps[-1]
    if isinstance(network, BaseBackprop | BaseTabular):
        return network, step
    raise TypeError(
        "BackpropSearchCV searches for BackpropClassifier, BackpropRegressor, TabularClassifier or "
        "TabularRegressor, alone or as the last step of a Pipeline. Got "
        f"{type(network).__name__ if step is None else f'a Pipeline that ends in {network!r}'}. "
        "Use sklearn.model_selection.GridSearchCV for other estimators."
    )


def fits_in_parts(network):
    """Whether a network's fit can be paused: its `fit` is fastbp's, not a subclass's own."""
    return isinstance(network, BaseBackprop) and type(network).fit is BaseBackprop.fit


def draws_candidates(search):
    """Whether candidates are drawn, rather than all combinations taken."""
    if search.strategy != "halving" or search.n_candidates is None:
        return search.strategy == "random"
    return _count_combinations(search.params) > search.n_candidates


def _find_distributions(params):
    """Return the names of parameters whose values are drawn."""
    grids = [params] if isinstance(params, dict) else params
    return [
        name for grid in grids if isinstance(grid, dict)
        for name, values in grid.items() if hasattr(values, "rvs")
    ]  # fmt: skip


def list_candidates(search):
    """Return the settings to try, a list of dicts, in the order of `cv_results_`.

    "grid" are all, as in GridSearchCV; "random" are `n_candidates` draws, as in
    RandomizedSearchCV; "halving" are draws, or the whole grid where there are no more, or where
    `n_candidates` is None.
    """
    params, n_candidates = search.params, search.n_candidates
    if isinstance(params, list) and not params:
        raise ValueError("params is an empty list: no candidate. Give {} for a single one.")
    if not draws_candidates(search):
        if found := _find_distributions(params):
            raise TypeError(
                f"A grid needs lists of values, and params[{found[0]!r}] is a distribution. Use "
                "strategy='random', or 'halving', with an int as n_candidates."
            )
        return list(ParameterGrid(params))
    if n_candidates is None:
        raise ValueError("n_candidates must be an int with strategy='random', got None.")
    n_combinations = _count_combinations(params)
    if n_combinations < n_candidates:
        warn_user(
            f"params has {n_combinations} combinations, fewer than n_candidates={n_candidates}: "
            "each is tried once, as with strategy='grid'."
        )
        n_candidates = n_combinations
    return list(ParameterSampler(params, n_candidates, random_state=search.random_state))


def _count_combinations(params):
    """Return how many settings there are; infinity where one is drawn from a distribution."""
    if _find_distributions(params):
        return float("inf")
    return len(ParameterGrid(params))


def check_candidates(candidates, network, step, *, halving):
    """Refuse, before any work, candidates that this search cannot try.

    Returns
    -------
    bool
        Whether the fits of all of them can be paused.
    """
    in_parts = True
    for params in candidates:
        found = params.get(step, network) if step is not None else network
        if not isinstance(found, BaseBackprop | BaseTabular):
            raise TypeError(
                f"A candidate puts {found!r} in the place of {step!r}, which must be an estimator "
                "of fastbp."
            )
        in_parts = in_parts and fits_in_parts(found)
        solver = getattr(found, "solver", None)
        solver = params.get("solver" if step is None else f"{step}__solver", solver)
        if halving and is_full_batch(solver):
            raise ValueError(
                "strategy='halving' compares fits after a few epochs, and solver='lbfgs' makes no "
                "pauses. Use strategy='grid' or 'random', or another solver."
            )
    return in_parts


def setting_of_steps(params, step):
    """Return what a candidate says of the steps before the network: a key that can be compared."""
    if step is None:
        return ()
    found = []
    for name in sorted(params):
        if name != step and not name.startswith(f"{step}__"):
            value = params[name]
            try:
                hash(value)
                found.append((name, type(value), value))
            except TypeError:  # a list or an array: the same object of the grid
                found.append((name, type(value), id(value)))
    return tuple(found)


def cost_of(network, n_samples, n_features, n_outputs):
    """Estimate the cost of a fit, and of a step of it, from shapes, in operations.

    They say which fits begin first and which have all cores, nothing more.
    """
    try:
        hidden = [int(size) for size in np.ravel(network.hidden_layer_sizes)]
        sizes = [n_features, *hidden, n_outputs]
        weights = sum(a * b for a, b in pairwise(sizes))
        batch = 200 if network.batch_size == "auto" else max(int(network.batch_size), 1)
        steps = -(-n_samples // batch)
        settings = vars(network)  # tabular estimators have no dtype and no solver
        in_float64 = settings.get("dtype", "float32") is None
        wide = 2.0 if in_float64 or is_full_batch(settings.get("solver")) else 1.0
        of_row = (6.0 * weights + PER_UNIT * sum(hidden)) * wide
        work = n_samples * of_row + PER_STEP * steps
        return float(work * network.max_iter), float(min(batch, n_samples) * of_row)
    except (TypeError, ValueError):  # the fit will say what is wrong with it
        return 0.0, 0.0


def pays_on_all_cores(network, of_step, n_cores):
    """Whether a fit whose steps cost so much is as fast on all cores as several side by side."""
    try:
        has_threads = get_engine(network.engine).NAME != "numba"
        most = thread_ceiling(network.n_threads)
    except (ImportError, TypeError, ValueError):  # the fit will say what is wrong with it
        return False
    return has_threads and most >= n_cores and of_step >= LARGE_STEP * n_cores
