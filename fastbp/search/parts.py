"""The data of a search: folds, and what the steps before the network make of them, each once.

A fold's rows are not copied for the fits: these read the one X by index (`SharedRows`), converted
once to the dtype of the arithmetic and checked once.  Copied are, by each fit and for as long as it
needs them, the rows to score on, and for 'lbfgs', `warm_start` and sparse X those to train on.
After preprocessing a fold is what the steps return, shared by all candidates with the same steps,
and dropped after the last.
"""

import threading
from copy import copy

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, clone
from sklearn.utils import _safe_indexing
from sklearn.utils._metadata_requests import _routing_enabled
from sklearn.utils.validation import _check_method_params, _num_samples

from fastbp.data.features import check_features
from fastbp.data.row_source import SharedRows
from fastbp.engine import get_engine
from fastbp.optimizers import is_full_batch
from fastbp.search.control import StoppedError

LARGE = 2**25  # bytes of X, from which folds are preprocessed one at a time


class Receiver(BaseEstimator):
    """Stands in the place of the network in a Pipeline: takes what the steps before hand on."""

    def __init__(self, network=None):
        self.network = network

    def fit(self, X, y=None, **params):
        """Remember the data and the other arguments that `fit` of the network would get."""
        self.X_, self.params_ = X, params
        return self

    def get_metadata_routing(self):
        """Ask for what the network asks for."""
        return self.network.get_metadata_routing()


class CheckedArrays:
    """X as networks compute with it, for each of their dtypes: checked and converted once."""

    def __init__(self, X):
        self.X, self.found, self.lock = X, {}, threading.Lock()

    def of(self, network):
        """Return array, dtype that was given and names; None where `fit` must take X itself.

        That is so for `warm_start` and sparse X (for 'lbfgs' nobody asks), and for an X or a
        setting that the checks refuse: `fit` will say why, or never gets the rows at fault.
        """
        if network.warm_start:
            return None
        key = str(network.dtype)
        with self.lock:
            if key not in self.found:
                self.found[key] = self._check(network)
            return self.found[key]

    def _check(self, network):
        probe = clone(network)
        try:
            X, given = check_features(
                probe, self.X, probe._training_dtype, get_engine(network.engine), reset=True
            )
        except Exception:
            return None
        if scipy.sparse.issparse(X):
            return None
        return X, given, getattr(probe, "feature_names_in_", None)


class Data:
    """What a search was given, for all its fits.

    Parameters
    ----------
    X, y : as given to `fit` of the search
    fit_params, score_params : dict
        Further arguments of `fit` and of the scorers, such as sample weights.
    splits : list of (train, test)
        Rows of each fold.
    """

    def __init__(self, X, y, fit_params, score_params, splits):
        self.X, self.y, self.splits = X, y, splits
        self.fit_params, self.score_params = fit_params, score_params
        self.checked = CheckedArrays(X)


class Part:
    """One fold, as one setting of the steps before the network makes it.

    Parameters
    ----------
    data : Data
    fold : int
    preprocesses : bool, default=False
        Whether there are such steps.
    """

    def __init__(self, data, fold, *, preprocesses=False):
        self.data, self.preprocesses, self.n_fits = data, preprocesses, 0
        self.train, self.test = map(np.asarray, data.splits[fold])
        self.lock, self.being_made, self.made = threading.Lock(), False, False
        self.is_large = preprocesses and getattr(data.X, "nbytes", 0) >= LARGE
        self.error = self.steps = None
        self.kinds = set()  # of networks, by what they need X for
        self.places = []  # on a cluster: candidate and fold of each fit

    def expect(self, network):
        """Count a fit of a network that will use the data."""
        self.n_fits += 1
        self.kinds.add(
            (is_full_batch(network.solver), bool(network.warm_start), str(network.dtype))
        )
        return self

    def make(self, pipeline):
        """Index y and weights, and fit the steps of a pipeline (None: there are none), once.

        Raises
        ------
        Exception
            What a step raised, to each fit that asks.
        """
        with self.lock:
            if not self.made:
                self.being_made = True
                try:
                    self._make(pipeline)
                except Exception as error:
                    self.error = error
                except BaseException:  # an interrupt: nobody gets half of it
                    self.error = StoppedError()
                    raise
                finally:
                    self.made, self.being_made = True, False
        if self.error is not None:
            raise self.error

    def _make(self, pipeline):
        data, X = self.data, self.data.X
        self.y_train, self.y_test = self._rows(data.y, self.train), self._rows(data.y, self.test)
        self.fit_params = _check_method_params(X, params=data.fit_params, indices=self.train)
        self.score_params = _check_method_params(X, params=data.score_params, indices=self.test)
        self.X_train, self.checked = None, data.checked
        self.rows = np.arange(_num_samples(X))[self.train]  # of masks and counts from the end, too
        self.X_test = self.X_seen = None  # transformed rows to score on, to be checked once
        if pipeline is not None:
            name, network = pipeline.steps[-1]
            pipeline.steps = [*pipeline.steps[:-1], (name, Receiver(network))]
            pipeline.fit(_safe_indexing(X, self.train), self.y_train, **self.fit_params)
            receiver, self.steps = pipeline.steps[-1][1], pipeline
            self.X_train, self.fit_params = receiver.X_, receiver.params_
            pipeline.steps[-1] = (name, network)
            self.checked, self.rows = CheckedArrays(self.X_train), None
            self.X_test = self._see(self.test)

    @staticmethod
    def _rows(y, rows):
        return None if y is None else _safe_indexing(y, rows)

    def _transform(self, X):
        for _, step in () if _routing_enabled() else self.steps.steps[:-1]:
            if step is not None and step != "passthrough":
                X = step.transform(X)
        return X

    def _see(self, rows):
        """Return transformed rows to score on; no X where a step cannot transform them.

        A category that no row of the fold's had, say: as in scikit-learn's searches it is the score
        that fails, not the fit.
        """
        try:
            return CheckedArrays(self._transform(_safe_indexing(self.data.X, rows)))
        except Exception:
            return CheckedArrays(None)

    def features(self, network):
        """Return X to train a network on."""
        found = None if is_full_batch(network.solver) else self.checked.of(network)
        if found is not None:
            array, given, names = found
            if self.steps is not None and len(self.kinds) == 1:  # nobody needs it but converted
                self.X_train = self.checked.X = None
            return SharedRows(array, given, names, self.rows)
        return _safe_indexing(self.data.X, self.train) if self.steps is None else self.X_train

    def seen_by(self, scorer_sees_steps, network, *, train=False):
        """Return what a scorer is called with: a fitted estimator, X, y and further arguments.

        The network and transformed X give what the pipeline would, and rows that were converted
        before what it would make of them; a scorer that is not of scikit-learn's making (or with
        metadata for the steps) gets the pipeline and X as given.
        """
        data, rows, y, params = self.data, self.test, self.y_test, None
        if train:
            rows, y = self.train, self.y_train
            params = _check_method_params(data.X, params=data.score_params, indices=self.train)
        params = self.score_params if params is None else params
        if self.steps is not None and (scorer_sees_steps or _routing_enabled()):
            return self._whole(network), _safe_indexing(data.X, rows), y, params
        if self.steps is None:
            found = None if scorer_sees_steps else self._converted(data.checked, network)
            if found is None:
                return network, _safe_indexing(data.X, rows), y, params
            array, given, names = found
            return network, SharedRows(array[rows], given, names), y, params
        seen = self.X_test
        if train:
            with self.lock:
                if self.X_seen is None:
                    self.X_seen = self._see(rows)
            seen = self.X_seen
        found = self._converted(seen, network)
        if found is None and seen.X is None:  # dropped, or a step fails: then it says why
            return self._whole(network), _safe_indexing(data.X, rows), y, params
        if found is None:
            return network, seen.X, y, params
        if len(self.kinds) == 1:
            seen.X = None
        return network, SharedRows(*found), y, params

    def _whole(self, network):
        whole = copy(self.steps)
        whole.steps = [*whole.steps[:-1], (whole.steps[-1][0], network)]
        return whole

    @staticmethod
    def _converted(checked, network):
        """Return what `CheckedArrays.of` does, if that is what a prediction would make of X."""
        found = checked.of(network)
        if found is not None:
            array, given, _ = found
            if array.dtype != network._prediction_dtype(network.coefs_[0].dtype, given):
                return None
        return found

    def leave(self):
        """Count a fit that needs the data no more; the last one drops them."""
        with self.lock:
            self.n_fits -= 1
            if self.n_fits == 0 and self.made:
                self.X_train = self.X_test = self.X_seen = self.steps = self.checked = None
