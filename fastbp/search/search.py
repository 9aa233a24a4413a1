"""BackpropSearchCV: its parameters, and what happens in `fit`, in its order."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy, deepcopy
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import _fit_context, clone, is_classifier
from sklearn.callback import with_callbacks
from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import _safe_indexing, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_method_params, _num_samples

from fastbp.messages import explains_its_arguments
from fastbp.search.candidates import (
    STRATEGIES,
    check_candidates,
    check_names,
    find_network,
    list_candidates,
)
from fastbp.search.cluster import check_client, count_fits_at_a_time, hand_over
from fastbp.search.control import Control
from fastbp.search.fits import Plan, make_estimator
from fastbp.search.keeping import SearchKeeper, check_snapshots, lend_snapshot
from fastbp.search.live import SearchReport
from fastbp.search.parts import Data
from fastbp.search.results import (
    curves_of,
    format_results,
    say_end,
    say_warnings,
    warn_of_choice,
)
from fastbp.search.strategies import Search
from fastbp.search.tasks import has_callbacks, watch_search
from fastbp.training.snapshots import Snapshot, as_snapshot


class BackpropSearchCV(BaseSearchCV):
    """Search for the best parameters of a network, by cross-validation.

    A search estimator as scikit-learn's, for fastbp's networks: "grid" and "random" give the
    results of :class:`~sklearn.model_selection.GridSearchCV` and
    :class:`~sklearn.model_selection.RandomizedSearchCV` bit for bit, for any `n_jobs`, with less
    work; "halving" gives up poor candidates after a few epochs.

    Parameters
    ----------
    estimator : BackpropClassifier, BackpropRegressor or Pipeline
        Not fitted; a Pipeline ends in one of them, and parameters of all its steps can be
        searched. TabularClassifier and TabularRegressor are taken for "grid" and "random": their
        fits make no pauses, and nor do those of an estimator (or a search) that has callbacks, and
        of subclasses with a `fit` of their own; such whole fits share no preprocessing.
    params : dict or list of dict
        Names of parameters and the values to try: lists, or with "random" and "halving" also
        distributions, which have a method ``rvs``.
    strategy : {'grid', 'random', 'halving'}, default='grid'
        All combinations; `n_candidates` draws; or successive halving (after Jamieson & Talwalkar):
        all candidates are trained for a share of their `max_iter`, the best of them are trained on,
        and so on until the last are trained to the end. A rung is a pause in a fit: schedule, order
        and stopping are those of `max_iter` epochs, so that who comes through is its unpaused fit,
        bit for bit, and no epoch is trained twice. The networks of all candidates (and their
        preprocessed folds) are kept meanwhile. Not with 'lbfgs'.
    n_candidates : int or None, default=10
        Draws of "random" and "halving"; "halving" takes the whole grid where that has no more, or
        with None.
    factor : float, default=3
        Of "halving": the rungs are a tenth, two fifths and all of `max_iter`, each with `factor`
        times fewer candidates than the one before it.
    scoring : str, callable, list, tuple, dict or None, default=None
        As in GridSearchCV. Of several scores "halving" compares the one that `refit` names, or the
        first.
    cv : int, splitter, iterable or None, default=None
        As in GridSearchCV.
    refit : bool, str or callable, default=True
        As in GridSearchCV.
    n_jobs : int or None, default=None
        Fits at a time, in threads; None is one for each core, but networks so large that all cores
        pay off for a single one are trained one after the other. The cores that are left go to the
        fits' own threads (`n_threads`). The results do not depend on it. Of whole fits
        None is one at a time, which has all cores. With `client` fits that are handed over at a
        time: None is two for each thread that the workers have when the search begins; a cluster
        that is still to grow needs a number.
    client : distributed.Client or None, default=None
        Client of a Dask cluster (``pip install -e ".[dask]"``), whose workers then run the fits,
        each fit whole on one of them. The results are the local ones, bit for bit where the
        workers' processors have the same instruction set; a fit whose worker is lost is run again.
        The best candidate is refitted here. A pickle of the search has no client. See Notes.
    random_state : int, RandomState instance or None, default=None
        Draws the candidates.
    error_score : 'raise' or number, default=np.nan
        As in GridSearchCV.
    return_train_score : bool, default=False
        As in GridSearchCV.
    verbose : int, default=0
        1 shows one live line (candidates finished, fits running, discarded, best score, time), 2 a
        line for each candidate, too.
    max_time : float or None, default=None
        Seconds after which the search ends with the candidates that are finished, with a warning;
        the refit of the best one comes after. Candidates are then tried in their order, rather than
        the longest first. Ctrl-C ends a search in the same way, and with nothing finished raises
        KeyboardInterrupt.
    early_discard : bool, default=False
        For "grid" and "random": whether to give up hopeless candidates, by a median rule (after
        Golovin et al. 2017). A quarter of the candidates (at least three, always the same draw) is
        trained to the end. Each other one is looked at after a quarter and a half of its
        `max_iter`; it is discarded if its mean score over the folds is below the median of theirs
        at the same share.
    snapshot : path, fastbp.Snapshot or None, default=None
        File that keeps what the fits have come to, every 5 s or as the Snapshot says. After a crash
        the same call goes on from there: fits that had ended are not run again, those that had
        begun go on, and the results are those of a search that was never stopped, bit for bit
        (times excepted). Fits that failed are tried again. With `client` paused fits of a halving
        are not in the file. The refit has a file of its own, whose name ends in ``.refit``.
        `random_state` must be an int where candidates are drawn. `max_time` counts from each call.

    Attributes
    ----------
    cv_results_ : dict of str to array
        The columns of GridSearchCV. With "halving" or `early_discard`, and where the search was
        ended early, also "status": "finished", "failed" (a fit raised), "discarded" or
        "unfinished"; the last two have NaN scores and rank last. With "halving" also "rung", the
        last that each candidate completed, from 0. The time of a preprocessing step counts for the
        fit that was the first to need it.
    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, \
            multimetric_, classes_, n_features_in_, feature_names_in_
        As in GridSearchCV.
    candidate_curves_ : list of list of dict
        For each candidate and fold "loss", "validation_loss" and "validation_score", arrays with a
        number for each epoch; None where not recorded, as by tabular estimators.
    rungs_ : list of tuple of (float, int)
        Of "halving": share of `max_iter` and number of candidates of each rung.

    Notes
    -----
    Steps of a Pipeline before the network are fitted once for each fold and setting of theirs, and
    dropped when the last candidate that needs them is finished. Without such steps fits read rows
    of the one X by index, converted once to their dtype; X is never pickled. Each fit copies, for
    as long as it needs them, the rows to score on, and with 'lbfgs', `warm_start` and sparse X
    those to train on. Scorers of scikit-learn's get the network and the transformed rows; any other
    gets the fitted Pipeline and rows as they came, which are then transformed once more.

    With `client` each worker gets the data once, and preprocesses a fold once for each setting of
    the steps. A paused fit of a halving goes on where it was; one whose worker is lost, or which
    another worker takes over, is trained again from its beginning.

    References
    ----------
    Jamieson & Talwalkar (2016), Non-stochastic best arm identification and hyperparameter
    optimization.
    Golovin et al. (2017), Google Vizier: A service for black-box optimization.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastbp import BackpropClassifier, BackpropSearchCV
    >>> X, y = load_digits(return_X_y=True)
    >>> net = BackpropClassifier((30,), tol=1e-3, random_state=0)
    >>> params = {"learning_rate_init": [1e-4, 1e-3, 1e-2], "alpha": [1e-4, 1e-2, 1.0]}
    >>> search = BackpropSearchCV(net, params, strategy="halving", cv=3).fit(X / 16, y)
    >>> search.rungs_
    [(0.1, 9), (0.4, 3), (1.0, 1)]
    >>> search.best_params_["learning_rate_init"]
    0.01
    """

    __module__ = "fastbp"
    _doc_link_module = "fastbp"
    _doc_link_template = "https://fastbp.readthedocs.io/en/latest/api/fastbp.{estimator_name}.html"

    _run_search = None  # scikit-learn's way to run the fits
    _fitted_names = (
        "cv_results_", "candidate_curves_", "n_splits_", "rungs_", "scorer_", "multimetric_",
        "best_index_", "best_score_", "best_params_", "best_estimator_", "refit_time_",
        "feature_names_in_",
    )  # fmt: skip

    _parameter_constraints: ClassVar[dict] = {
        **{k: v for k, v in BaseSearchCV._parameter_constraints.items() if k != "pre_dispatch"},
        "estimator": "no_validation",  # see `find_network`
        "params": [dict, list],
        "strategy": [StrOptions(set(STRATEGIES))],
        "n_candidates": [Interval(Integral, 1, None, closed="left"), None],
        "factor": [Interval(Real, 1, None, closed="neither")],
        "random_state": ["random_state"],
        "client": [HasMethods(["submit", "scatter", "run"]), None],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "early_discard": ["boolean"],
        "snapshot": [str, PathLike, Snapshot, None],
    }

    @explains_its_arguments
    def __init__(
        self,
        estimator: Any,
        params: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        strategy: Literal["grid", "random", "halving"] = "grid",
        n_candidates: int | None = 10,
        factor: float = 3,
        scoring: Any = None,
        cv: Any = None,
        refit: bool | str | Callable = True,
        n_jobs: int | None = None,
        client: Any = None,
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        verbose: int = 0,
        max_time: float | None = None,
        early_discard: bool = False,
        snapshot: Snapshot | str | PathLike[str] | None = None,
    ) -> None:
        self.estimator = estimator
        self.params = params
        self.strategy = strategy
        self.n_candidates = n_candidates
        self.factor = factor
        self.scoring = scoring
        self.cv = cv
        self.refit = refit
        self.n_jobs = n_jobs
        self.client = client
        self.random_state = random_state
        self.error_score = error_score
        self.return_train_score = return_train_score
        self.verbose = verbose
        self.max_time = max_time
        self.early_discard = early_discard
        self.snapshot = snapshot

    def _validate_params(self):
        check_names(self)  # scikit-learn's check suggests none
        super()._validate_params()

    def __sklearn_tags__(self):
        tags, own = super().__sklearn_tags__(), deepcopy(get_tags(self.estimator))
        for name in ("input_tags", "target_tags", "transformer_tags", "non_deterministic"):
            setattr(tags, name, getattr(own, name))
        return tags

    def __sklearn_is_fitted__(self):
        return "best_estimator_" in vars(self) or ("cv_results_" in vars(self) and not self.refit)

    def __sklearn_clone__(self):
        bare = copy(self)
        bare.client = None  # a connection: shared, not copied
        return super(BackpropSearchCV, bare).__sklearn_clone__().set_params(client=self.client)

    def __getstate__(self):
        return super().__getstate__() | {"client": None}

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Try all candidates, and fit the best one on all rows.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        **params : dict of str to object
            As in GridSearchCV: `groups` for the splitter, `sample_weight` and what else `fit` of
            the estimator takes (``net__sample_weight`` for a step), or as metadata routing says.

        Returns
        -------
        self : BackpropSearchCV

        Raises
        ------
        TypeError
            For an estimator that is not fastbp's.
        ValueError
            For bad parameters, if all fits failed, or if `max_time` was over before a candidate was
            finished.
        """
        return self._fit(X, y, params)

    @_fit_context(prefer_skip_nested_validation=False)
    @with_callbacks
    def _fit(self, X, y, params):
        network, step = find_network(self.estimator)
        check_snapshots(self, params)
        if self.client is not None:
            check_client(self.client)
        candidates = list_candidates(self)
        whole = self._makes_no_pauses(candidates, network, step)
        scorers, metric = self._get_scorers()
        X, y = indexable(X, y)
        params = _check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        splits = self._split(X, y, routed.splitter.split)
        data = Data(X, y, routed.estimator.fit, routed.scorer.score, splits)
        control = Control(self._count_jobs(whole), self.max_time)
        n_fits = len(candidates) * len(splits)
        report = SearchReport(self.verbose, len(candidates), n_fits)
        plan = Plan(
            clone(self.estimator), scorers, self.error_score, self.return_train_score, control,
            report, whole,
        )  # fmt: skip
        plan.tasks = watch_search(self, candidates, X, y, params, n_fits)
        snapshot = as_snapshot(self.snapshot)
        if snapshot is not None:
            plan.keeper = SearchKeeper(snapshot, self, network, candidates, data)
        with hand_over(self.client, plan, candidates, data, step) as fits:
            if plan.keeper is not None:
                plan.keeper.follow(fits)
            compared = metric
            if callable(self.scoring) and isinstance(self.refit, str):
                compared = self.refit  # among several scores, which it may return
            searched = Search(candidates, fits, control, report, compared)
            try:
                with control.clock():
                    self._train(searched)
            finally:
                searched.close()
                report.close()
                if plan.keeper is not None:
                    plan.keeper.write()
        finished = say_end(searched, control)
        results, example = format_results(
            searched, self, len(splits),
            tells_status=self.early_discard or self.strategy == "halving",
        )  # fmt: skip
        for name in self._fitted_names:
            self.__dict__.pop(name, None)  # of an earlier call
        self.cv_results_, self.candidate_curves_ = results, curves_of(searched)
        self.n_splits_ = len(splits)
        if self.strategy == "halving":
            self.rungs_ = searched.rungs
        self.scorer_ = scorers._scorers if isinstance(scorers, _MultimetricScorer) else scorers
        self._choose(searched, metric, example, finished=finished)
        with nullcontext() if plan.tasks is None else plan.tasks.ending():
            if self.refit:
                self._refit_best(plan, X, y, routed.estimator.fit)
        say_warnings(control.warnings)
        return self

    @available_if(lambda self: hasattr(self.estimator, "transform"))
    def fit_transform(self, X: Any, y: Any = None, **params: Any) -> Any:
        """Search, and transform X by the best estimator: ``fit(X, y).transform(X)``.

        Parameters
        ----------
        X, y, **params : as for `fit`

        Returns
        -------
        activations : ndarray of shape (n_samples, n_units)
        """
        return self.fit(X, y, **params).transform(X)

    def _makes_no_pauses(self, candidates, network, step):
        """Check the candidates; return whether their fits are whole ones."""
        halving = self.strategy == "halving"
        if self.early_discard and halving:
            raise ValueError(
                "early_discard is for strategy='grid' and 'random'; 'halving' discards by itself."
            )
        watched = has_callbacks(self, candidates)
        if watched and self.client is not None:
            raise ValueError(
                "Callbacks do not see fits on other machines. Take them off (set_callbacks()), or "
                "search without client."
            )
        in_parts = check_candidates(candidates, network, step, halving=halving) and not watched
        if not in_parts and (halving or self.early_discard):
            raise ValueError(
                "strategy='halving' and early_discard need fits that can be paused: those of "
                "BackpropClassifier and BackpropRegressor without callbacks. Use strategy='grid' "
                "or 'random' alone."
            )
        return not in_parts

    def _count_jobs(self, whole):
        if self.client is not None:
            return count_fits_at_a_time(self.client, self.n_jobs)
        return 1 if whole and self.n_jobs is None else self.n_jobs

    def _split(self, X, y, params):
        """Return rows to train and to score on, of each fold."""
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        n_splits = cv.get_n_splits(X, y, **params)
        splits = list(cv.split(X, y, **params))
        if not splits:
            raise ValueError(f"cv must make at least one fold. Got none from cv={self.cv!r}.")
        if len(splits) != n_splits:
            raise ValueError(
                "cv.split and cv.get_n_splits return inconsistent results. Expected "
                f"{n_splits} splits, got {len(splits)}"
            )
        rows = np.arange(_num_samples(X))
        for train, test in splits:  # rows that are not there: an IndexError before any work
            _safe_indexing(rows, train), _safe_indexing(rows, test)
        return splits

    def _train(self, searched):
        if self.strategy == "halving":
            max_iter = [_max_iter_of(self.estimator, params) for params in searched.candidates]
            searched.halve(self.factor, min(max_iter, default=1))
        elif self.early_discard:
            searched.train_promising()
        else:
            searched.train_all(by_candidate=self.max_time is not None)

    def _choose(self, searched, metric, example, *, finished):
        """Find the best candidate."""
        results = self.cv_results_
        self.multimetric_ = isinstance(example, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(example)
            metric = self.refit
        if self.refit or not self.multimetric_:
            if finished:
                self.best_index_ = self._select_best_index(self.refit, metric, results)
            else:
                self.best_index_ = searched.best_of_rung
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
            elif finished:
                warn_of_choice(searched, self.best_index_)
            self.best_params_ = results["params"][self.best_index_]

    def _refit_best(self, plan, X, y, params):
        best = make_estimator(plan.estimator, self.best_params_)
        told = nullcontext() if plan.tasks is None else plan.tasks.refit(best)
        with told, lend_snapshot(find_network(best)[0], self.snapshot):
            begun = time.time()
            best.fit(X, y, **params)
            self.best_estimator_, self.refit_time_ = best, time.time() - begun
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


def _max_iter_of(estimator, params):
    """Return the epochs of a candidate; 1 where they are no number, which the fit will say."""
    network, step = find_network(estimator)
    network = params.get(step, network)
    value = params.get("max_iter" if step is None else f"{step}__max_iter", network.max_iter)
    return value if isinstance(value, Integral) else 1
