"""The fits of a search: each a candidate on a fold, trained in parts or whole, scored, forgotten.

What is scored, and what an error becomes, is as in scikit-learn's searches.
"""

import inspect
import math
import time
from dataclasses import dataclass
from numbers import Number
from traceback import format_exc
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from sklearn.model_selection._validation import _fit_and_score, _score
from sklearn.utils.validation import _num_samples

from fastbp.engine.parallel import thread_ceiling
from fastbp.estimators.fitting import OpenFit
from fastbp.optimizers import is_full_batch
from fastbp.search.candidates import (
    cost_of,
    find_network,
    pays_on_all_cores,
    setting_of_steps,
)
from fastbp.search.control import StoppedError
from fastbp.search.keeping import Kept
from fastbp.search.parts import Part
from fastbp.training.minibatches import next_piece
from fastbp.training.stopping import ASKED, PAUSED

CURVES = {
    "loss": "loss_curve_",
    "validation_loss": "validation_loss_curve_",
    "validation_score": "validation_scores_",
}


@dataclass
class Plan:
    """What all fits of a search have in common."""

    estimator: Any  # not fitted; each fit has a copy
    scorer: Any
    error_score: Any
    return_train_score: bool
    control: Any
    report: Any
    whole: bool = False  # fits make no pauses
    keeper: Any = None  # of a search with a snapshot
    tasks: Any = None  # of a search with callbacks

    def scorer_sees_steps(self):
        """Whether a scorer may look at more than predictions: one of the user's own making."""
        scorers = [self.scorer]
        if isinstance(self.scorer, _MultimetricScorer):
            scorers = list(self.scorer._scorers.values())
        return not all(isinstance(one, _BaseScorer | _PassthroughScorer) for one in scorers)


def make_estimator(estimator, params):
    """Return a copy of an estimator with a candidate's parameters, also those that are objects."""
    return clone(estimator).set_params(**clone(params, safe=False))


def make_network(estimator, params):
    """Return a copy of the network alone, with a candidate's parameters: the steps cost more."""
    network, step = find_network(estimator)
    if step is None:
        return make_estimator(network, params)
    own = {name.removeprefix(f"{step}__"): value for name, value in params.items()
           if name.startswith(f"{step}__")}  # fmt: skip
    return make_estimator(params.get(step, network), own)


class CandidateFit:
    """A candidate on a fold.

    Parameters
    ----------
    plan : Plan
    params : dict
    part : Part
        The data.
    cost : float
    is_large : bool, default=False
        Whether all cores pay off for it.

    Attributes
    ----------
    ended : bool
        Whether it is fitted, or has failed.
    n_epochs : int
    error : str or None
        What was raised, with its traceback.
    latest : float or dict
        Score, or scores, when it was last scored.
    scores : dict of float to dict
        The results by share of `max_iter`.
    kept : Kept or None
        For the snapshot; what an earlier life of the search has left, until there is more.
    result : dict or None
        As scikit-learn's searches keep it, once it has ended and was scored.
    curves : dict
        Loss, validation loss and validation score of each epoch (None: not recorded).
    """

    def __init__(self, plan, params, part, cost, is_large=False):
        self.plan, self.params, self.part = plan, params, part
        self.cost, self.is_large, self.n_threads = cost, is_large, None
        self.network = self.open = self.error = self.result = None
        self.ended = self.left = False
        self.n_epochs, self.fit_time, self.score_time = 0, 0.0, 0.0
        self.curves, self.latest = dict.fromkeys(CURVES), float("nan")
        self.scores, self.share, self.ended_at = {}, 0.0, None
        self.kept, self.kept_at = None, time.perf_counter()

    def advance(self, share=1.0):
        """Train until this share of `max_iter` epochs, or to the end for 1.

        Raises
        ------
        StoppedError
            If the search is to end.
        Exception
            What the fit raised, with ``error_score="raise"``.
        """
        self.share = share
        if self.ended or self._knows(share):
            return
        begun = time.time()
        self.plan.report.begin_fit()
        try:
            if self.open is None:
                with self.plan.control.listening():
                    self._begin()
            if self._train(share):
                self.open.finish()
                self.ended = True
        except StoppedError:
            self.give_up()
            raise
        except Exception:
            if self.plan.error_score == "raise":
                raise
            self.error, self.ended = format_exc(), True
        finally:
            self.fit_time += time.time() - begun
            self.plan.report.pause_fit()
        if self.ended:
            self.ended_at = share
            self._keep_curves(lambda name: getattr(self.network, name, None))

    def _begin(self):
        whole = None
        if self.part.made or not self.part.preprocesses:
            self.network = make_network(self.plan.estimator, self.params)
        else:
            whole = make_estimator(self.plan.estimator, self.params)
            self.network = find_network(whole)[0]
        self.part.make(whole)
        network, given = self.network, self.part.fit_params
        if network.n_threads is None or isinstance(network.n_threads, int):  # else the fit says so
            self.n_threads = thread_ceiling(network.n_threads)
        if is_full_batch(network.solver):  # which is one part
            self._share_cores()
        network._asked_to_stop = self.plan.control.stop
        X, y = self.part.features(network), self.part.y_train
        if given and not set(given) <= set(inspect.signature(network.fit).parameters):
            network.fit(X, y, **given)  # says which argument it does not know
        validation = tuple(given.get(name) for name in ("X_val", "y_val", "sample_weight_val"))
        self.open = OpenFit(network, X, y, given.get("sample_weight"), validation,
                            state=self.kept and self.kept.state)  # fmt: skip

    def _share_cores(self):
        """Let what follows of the fit use its share of the cores, more when fewer fits are left."""
        if self.n_threads is not None:
            n_threads = min(self.n_threads, self.plan.control.share())
            self.network.n_threads = n_threads  # for predictions
            if self.open is not None:
                self.open.limit_threads(n_threads)

    def _train(self, share):
        """Train in pieces; return whether the fit has ended."""
        stop, training = self.plan.control.stop, self.open.training
        last = epochs_until(share, self.network.max_iter) if share < 1 else None
        piece, keeper = 1, self.plan.keeper
        while last is None or self.n_epochs < last:
            if stop.is_set():
                raise StoppedError
            if keeper is not None:
                piece = keeper.file.limit(piece, self.n_epochs)
            self._share_cores()
            until, begun = self.n_epochs + piece, time.perf_counter()
            ended = self.open.advance(until if last is None else min(until, last))
            if stop.is_set():  # an interrupt, perhaps in this very fit, which then is no whole one
                if keeper is not None and training is not None and training.end in (ASKED, PAUSED):
                    self.keep()
                raise StoppedError
            self.n_epochs = self.open.progress.n_iter
            if ended:
                return True
            if keeper is not None and training is not None:
                keeper.look(self)
            piece = next_piece(piece, time.perf_counter() - begun)
        return training is None

    def score(self):
        """Score what the fit has reached, on the rows that were left out; return the result."""
        known = self.scores.get(self.share, self.result)
        if known is not None:
            self.latest = known["test_scores"]
            return known
        plan, begun, result = self.plan, time.time(), {"fit_error": self.error}
        if self.error is not None:
            scores = plan.error_score
            if isinstance(plan.scorer, _MultimetricScorer):
                scores = dict.fromkeys(plan.scorer._scorers, plan.error_score)
            result["test_scores"] = scores
            if plan.return_train_score:
                result["train_scores"] = scores
        else:
            network = self.network if self.ended else self.open.look()
            for name, train in (("test_scores", False), ("train_scores", True)):
                if train and not (plan.return_train_score and self.ended):
                    continue
                *seen, params = self.part.seen_by(plan.scorer_sees_steps(), network, train=train)
                result[name] = _score(
                    seen[0], seen[1], seen[2], plan.scorer, params, plan.error_score
                )
        self.score_time += time.time() - begun
        self.latest = result["test_scores"]
        result |= {"fit_time": self.fit_time, "score_time": self.score_time}
        self.scores[self.share] = result
        if self.ended:
            self.result = result
            self._leave()
        if plan.keeper is not None:
            plan.keeper.note(self)
        return result

    def take_up(self, kept):
        """Go on from what an earlier life of the search has left."""
        # Copies: what is kept may be written by another thread while this one goes on.
        self.kept, self.scores, self.n_epochs = kept, dict(kept.scores), kept.n_epochs
        self.fit_time, self.score_time = kept.fit_time, kept.score_time
        self.curves |= kept.curves
        if kept.state is not None:
            self._keep_curves(kept.state.attributes().get)

    def _knows(self, share):
        """Whether an earlier life has trained this far; what had ended by then ends now."""
        kept = self.kept
        if kept is not None and kept.ended_at is not None and share >= kept.ended_at:
            self.ended, self.ended_at, self.error = True, kept.ended_at, kept.error
            self.result = self.scores[kept.ended_at]
            self._leave()
        return self.ended or share in self.scores

    def keep(self, *, state=True):
        """Keep what the fit has come to; of one that is discarded no state."""
        known = self.kept and self.kept.state
        if self.open is not None and self.open.training is not None and not self.ended:
            known = self.open.training.state()
        self.kept = Kept(
            dict(self.scores), self.ended_at, self.error, self.n_epochs, self.fit_time,
            self.score_time, dict(self.curves), known if state and not self.ended else None,
        )  # fmt: skip
        self.kept_at = time.perf_counter()

    def give_up(self):
        """End the fit as it is: it gets no score, but keeps its curves."""
        if self.open is not None and not self.ended:
            self.curves = self.read_curves()
            self.open.close()
        self._leave()

    def read_curves(self):
        """Return the curves as far as they are known."""
        if self.open is None or self.ended:
            return self.curves
        attributes = self.open.progress.attributes()
        curves = {name: attributes.get(attribute) for name, attribute in CURVES.items()}
        return {name: None if curve is None else list(curve) for name, curve in curves.items()}

    def _keep_curves(self, get):
        for name, attribute in CURVES.items():
            curve = get(attribute)
            self.curves[name] = None if curve is None else list(curve)

    def _leave(self):
        """Let go of the data and the network."""
        if not self.left:
            self.left = True
            self.part.leave()
        self.network = self.open = None


class WholeFit(CandidateFit):
    """A candidate on a fold, fitted and scored in one go, as scikit-learn's searches do it.

    For networks that make no pauses, and where callbacks are told of each fit: it shares no
    preprocessing.

    Parameters
    ----------
    plan, params, part, cost : as for `CandidateFit`
    number : int
        Among all fits of the search.
    """

    def __init__(self, plan, params, part, cost, number):
        super().__init__(plan, params, part, cost)
        self.number = number
        part.made = True  # no other fit need wait for it
        part.n_fits += 1

    def advance(self, share=1.0):
        """Fit and score, `share` being 1; raises as `CandidateFit.advance` does."""
        self.share = share
        if self.ended or self._knows(share):
            return
        stop = self.plan.control.stop
        self.plan.report.begin_fit()
        try:
            with self.plan.control.listening():
                result = self._fit_and_score(stop)
        except Exception:
            if not stop.is_set():
                raise
            result = None
        finally:
            self.plan.report.pause_fit()
        if stop.is_set():  # then it is no whole one
            self.give_up()
            raise StoppedError
        network = find_network(result.pop("estimator"))[0]
        self._keep_curves(lambda name: getattr(network, name, None))
        self.n_epochs, self.error = getattr(network, "n_iter_", 0), result["fit_error"]
        self.fit_time, self.score_time = result["fit_time"], result["score_time"]
        self.ended, self.ended_at, self.scores[share] = True, share, result

    def _fit_and_score(self, stop):
        plan, data = self.plan, self.part.data
        estimator = make_estimator(plan.estimator, self.params)
        find_network(estimator)[0]._asked_to_stop = stop
        return _fit_and_score(
            estimator, data.X, data.y, scorer=plan.scorer, train=self.part.train,
            test=self.part.test, verbose=0, parameters=None, fit_params=data.fit_params,
            score_params=data.score_params, return_train_score=plan.return_train_score,
            return_times=True, return_estimator=True, error_score=plan.error_score,
            caller=plan.tasks and plan.tasks.search,
            callback_ctx=plan.tasks and plan.tasks.fits[self.number],
        )  # fmt: skip

    def score(self):
        """Return the result, which `advance` has left."""
        result = self.scores[self.share]
        self.latest = result["test_scores"]
        if self.result is None:
            self.result = result
            self._leave()
            if self.plan.keeper is not None:
                self.plan.keeper.note(self)
        return result


def epochs_until(share, max_iter):
    """Return how many epochs a share of them is: no part of one is left out."""
    return math.ceil(share * max_iter * (1 - 1e-12))  # 49 * (1 / 49) is 49 epochs, not 50


def number_of_score(scores, metric):
    """Return the score that candidates are compared by; NaN for what is no number."""
    if isinstance(scores, dict):
        scores = scores.get(metric, next(iter(scores.values()), float("nan")))
    return float(scores) if isinstance(scores, Number) else float("nan")


def make_fits(plan, candidates, data, step):
    """Return a fit for each candidate and fold; those with the same steps share their data."""
    parts, fits, n_folds = {}, [], len(data.splits)
    n_samples, n_features, n_outputs = _shapes_of(data)
    known = set(plan.estimator.get_params())
    for params in candidates:
        if not known.issuperset(params):
            make_estimator(plan.estimator, params)  # says which name it does not know
        trial = make_network(plan.estimator, params)
        cost, of_step = cost_of(trial, n_samples, n_features, n_outputs)
        if plan.whole:
            fits.append([
                WholeFit(plan, params, Part(data, fold), cost, len(fits) * n_folds + fold)
                for fold in range(n_folds)
            ])  # fmt: skip
            continue
        is_large = pays_on_all_cores(trial, of_step, plan.control.cores)
        key, row = setting_of_steps(params, step), []
        for fold in range(n_folds):
            if (key, fold) not in parts:
                parts[key, fold] = Part(data, fold, preprocesses=step is not None)
            part = parts[key, fold].expect(trial)
            row.append(CandidateFit(plan, params, part, cost, is_large))
        fits.append(row)
    return fits


def _shapes_of(data):
    """Return samples, features and outputs, as far as they can be read off the data."""
    shape, n_outputs = np.shape(data.y), 1
    if len(shape) == 2:
        n_outputs = shape[1]
    elif data.y is not None and np.asarray(data.y).dtype.kind in "iubOU":
        n_outputs = min(len(set(np.asarray(data.y).ravel().tolist())), 1000)
    n_features = getattr(data.X, "shape", (0, 1))
    return _num_samples(data.X), n_features[1] if len(n_features) > 1 else 1, n_outputs
