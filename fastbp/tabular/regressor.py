"""`TabularRegressor`: real numbers from raw tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin

from fastbp.estimators import BackpropRegressor
from fastbp.estimators.annotations import (
    Activations,
    LayerSizes,
    LossLike,
    RandomState,
    Scoring,
    Targets,
    Weights,
)
from fastbp.estimators.parameters import has_link
from fastbp.messages import explains_its_arguments
from fastbp.tabular.attributes import range_of
from fastbp.tabular.base import BaseTabular
from fastbp.tabular.networks import MembersRegressor
from fastbp.tabular.parameters import TABULAR_REGRESSOR_PARAMETERS


class TabularRegressor(RegressorMixin, BaseTabular):
    """Neural networks for raw tables: real numbers.

    A frame with numbers, text, categories, dates and missing values goes in as it is. Its columns
    are encoded by a `TableEncoder`; on them an ensemble of networks is trained whose settings were
    chosen by the results on real tables, and fit themselves to the number of rows. Targets are
    standardised inside. Predictions stay within the range of y in `fit`: there is no extrapolation.

    Parameters
    ----------
    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
default="from_dtype"
        Which columns are categories, as in `TableEncoder`. "from_dtype": text, booleans, objects
        and dtypes of categories.
    loss : str, object of fastbp.losses, function or Loss, default="squared_error"
        As in `BackpropRegressor`; with ``Quantile([0.05, 0.5, 0.95])`` a column for each level.
    n_networks : int, default=5
        How many networks are trained. The rows are dealt into so many parts; each network holds one
        of them out and keeps the weights of the epoch that did best there, so that every row is
        trained on by all networks but one.
    n_members : int or "auto", default="auto"
        Members of each network (TabM [1]_); "auto": 4, or 8 below 2000 rows. They share the hidden
        layers; each has multipliers of its own on the inputs and an output layer of its own.
        Predictions are the mean over the members of all networks, of values or probabilities.
    hidden_layer_sizes : int, array-like of int or "auto", default="auto"
        Units of each hidden layer; "auto": two of 128, of 256 where y has more than 10 classes.
    activation : str, callable, Activation or list of these, default="mish"
        As in `BackpropRegressor`.
    n_bins : int or "auto", default="auto"
        Pieces into which the range of a column of numbers is cut, as in `TableEncoder`.
    dropout : float, list of float or "auto", default="auto"
        Share of the hidden units left out in a step. "auto": 0 and 0.15 are tried on the first
        network, and the better one is used; with `max_time` 0, without a trial.
    weight_decay : float, default=0.02
        By how much of itself, times the learning rate, a weight shrinks in a step (AdamW [2]_).
    learning_rate_init : float, default=0.003
        Learning rate of AdamW, the same in every step; predictions use an average of the weights
        over about the last epoch.
    batch_size : int or "auto", default="auto"
        Rows of a minibatch; "auto": a power of two from 32 to 256, about one in 32 rows.
    max_iter : int or "auto", default="auto"
        Most epochs of a network; "auto": from 256 for small tables down to 25 for 16 000 rows and
        10 for 250 000.
    n_iter_no_change : int, default=10
        A network's training ends after so many epochs without a better one on its held-out rows (or
        X_val); it always does.
    max_time : float or None, default=None
        Seconds after which `fit` ends, whatever it has reached by then: perhaps fewer networks.
    scoring : str, callable or None, default=None
        By what the best epoch is chosen; None is the loss, which is what probabilities and values
        profit from. Otherwise as in `BackpropRegressor`; a callable gets encoded columns.
    random_state : int, RandomState instance or None, default=None
        Of the parts, the initial weights, the order of the rows and of dropout.
    n_threads : int or None, default=None
        Most threads; None: all cores. Results do not depend on it.
    engine : {"auto", "cython", "numba"}, default="auto"
        As in `BackpropRegressor`.
    matmul_precision : {"highest", "high", "medium"}, default="highest"
        As in `BackpropRegressor`; encoded columns never lose by it, for their layer stays float32.
    verbose : bool or int, default=False
        Whether each network reports its epochs.

    Attributes
    ----------
    encoder_ : TableEncoder
        What the columns are taken for (``encoder_.summary()``), and how they are encoded.
    networks_ : list of estimators
        The networks, on encoded columns, with the attributes of a fitted estimator: `loss_curve_`,
        `validation_loss_curve_`, `best_iter_`, ...; with members `coefs_` and `intercepts_` are the
        hidden layers, `member_scales_`, of shape (n_members, n_encoded), what each multiplies its
        inputs by, `member_coefs_` (n_members, n_last_hidden, n_outputs) and `member_intercepts_`
        (n_members, n_outputs) the output layer of each.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only where X had names that are all strings.
    n_outputs_ : int
        Number of outputs: of targets, or of quantiles with a list of them.
    n_iter_ : int
        Most epochs that a network took.
    matmul_precision_ : {"highest", "high", "medium"}
        What the networks used, as in `BackpropRegressor`.

    See Also
    --------
    TabularClassifier : The same for classes.
    TableEncoder : The encoding alone.
    BackpropRegressor : One network, on numbers.

    Notes
    -----
    In the user guide: :doc:`a raw table </guide/raw_table>`, :doc:`how sure is it </guide/sure>`,
    :ref:`class weights or a threshold <class_weights>`, :ref:`validation rows <own_validation>`,
    :ref:`handing over <handing_over_tables>`.

    References
    ----------
    .. [1] Gorishniy, Kotelnikov, Babenko (2024), TabM: advancing tabular deep learning with
       parameter-efficient ensembling, arXiv 2410.24210.
    .. [2] Loshchilov & Hutter (2019), Decoupled weight decay regularization.

    Examples
    --------
    >>> from fastbp import TabularRegressor
    >>> X = [[20, "blue"], [40, "red"], [None, "red"], [60, "green"]] * 25
    >>> y = [2.0, 3.0, 3.5, 6.0] * 25
    >>> reg = TabularRegressor(random_state=0).fit(X, y)
    >>> reg.predict([[60, "green"], [20, "blue"]]).round(1)
    array([6., 2.])
    """

    __module__ = "fastbp"

    n_outputs_: int

    _network_class = MembersRegressor
    _has_classes = False
    _fitted_names = (*BaseTabular._fitted_names, "n_outputs_", "_range")
    _parameter_rules = TABULAR_REGRESSOR_PARAMETERS

    @explains_its_arguments
    def __init__(
        self,
        categorical_features: str | ArrayLike | None = "from_dtype",
        *,
        loss: LossLike = "squared_error",
        n_networks: int = 5,
        n_members: int | str = "auto",
        hidden_layer_sizes: LayerSizes | str = "auto",
        activation: Activations = "mish",
        n_bins: int | str = "auto",
        dropout: float | Sequence[float] | str = "auto",
        weight_decay: float = 0.02,
        learning_rate_init: float = 0.003,
        batch_size: int | str = "auto",
        max_iter: int | str = "auto",
        n_iter_no_change: int = 10,
        max_time: float | None = None,
        scoring: Scoring = None,
        random_state: RandomState = None,
        n_threads: int | None = None,
        engine: str = "auto",
        matmul_precision: str = "highest",
        verbose: bool | int = False,
    ) -> None:
        self._store(locals())

    def _parameters_of_network(self, settings):
        linked = has_link(settings.loss)
        return {"loss": settings.loss, "scale_targets": not linked}

    def _take(self, encoder, networks, targets):
        super()._take(encoder, networks, targets)
        self.n_outputs_ = networks[0].n_outputs_
        self._range = targets.min(axis=0), targets.max(axis=0)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict target values.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            Whether to return how far the members' predictions spread, too.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The mean over all members, within the range of y in `fit`.
        y_std : ndarray of the same shape
            Standard deviation over all members; only with `return_std`.
        """
        if return_std:
            return self._mean_and_std(X)
        scores = self._raw_scores(X)
        return self._values_of_member(*scores)

    def _values_of_member(self, scores, engine, dtype):
        """Values of raw scores, within the range of y."""
        values = self.networks_[0]._values_of(scores, engine, dtype)
        lowest, highest = range_of(vars(self))
        return np.clip(values, lowest, highest, dtype=values.dtype)

    def _check_fitted(self):
        super()._check_fitted()
        range_of(vars(self))

    def score(self, X: Any, y: Targets, sample_weight: Weights = None) -> float:
        """Score the predictions: R2, or the D2 of the loss, as `BackpropRegressor.score`.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        return BackpropRegressor.score(self, X, y, sample_weight)
