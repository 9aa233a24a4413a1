"""`TabularClassifier`: labels and probabilities of raw tables."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin

from fastbp.data.targets import labels_as_given
from fastbp.data.weights import as_numbers
from fastbp.estimators.annotations import (
    Activations,
    ClassWeight,
    Floats,
    Labels,
    LayerSizes,
    LossLike,
    RandomState,
    Scoring,
    Targets,
    Weights,
)
from fastbp.losses import LogLoss
from fastbp.messages import explains_its_arguments
from fastbp.tabular.base import BaseTabular
from fastbp.tabular.networks import MembersClassifier
from fastbp.tabular.parameters import TABULAR_CLASSIFIER_PARAMETERS


class TabularClassifier(ClassifierMixin, BaseTabular):
    """Neural networks for raw tables: classes.

    A frame with numbers, text, categories, dates and missing values goes in as it is. Its columns
    are encoded by a `TableEncoder`; on them an ensemble of networks is trained whose settings were
    chosen by the results on real tables, and fit themselves to the number of rows.

    Parameters
    ----------
    categorical_features : "from_dtype", array-like of str, int or bool, or None, \
default="from_dtype"
        Which columns are categories, as in `TableEncoder`. "from_dtype": text, booleans, objects
        and dtypes of categories.
    loss : str, object of fastbp.losses, function or Loss, default="log_loss"
        As in `BackpropClassifier`. With "log_loss" and no `scoring` each network is calibrated on
        the rows that it holds out: the best epoch is that with the least loss after all raw scores
        were multiplied by the factor that makes it least [3]_, and the weights that are kept have
        that factor; `validation_scores_` are minus these losses, `validation_loss_curve_` those
        without a factor. With ``scoring="loss"``, or a source that is larger than memory, the loss
        is taken as it is.
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
    activation : str, callable, Activation or list of these, default="relu"
        As in `BackpropClassifier`.
    n_bins : int or "auto", default="auto"
        Pieces into which the range of a column of numbers is cut, as in `TableEncoder`.
    dropout : float, list of float or "auto", default="auto"
        Share of the hidden units left out in a step. "auto": 0 and 0.15 are tried on the first
        network, and the better one is used; with `max_time` 0.15, without a trial.
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
        profit from. Otherwise as in `BackpropClassifier`; a callable gets encoded columns.
    class_weight : "balanced", dict, list of dicts or None, default=None
        As in `BackpropClassifier`.
    random_state : int, RandomState instance or None, default=None
        Of the parts, the initial weights, the order of the rows and of dropout.
    n_threads : int or None, default=None
        Most threads; None: all cores. Results do not depend on it.
    engine : {"auto", "cython", "numba"}, default="auto"
        As in `BackpropClassifier`.
    matmul_precision : {"highest", "high", "medium"}, default="highest"
        As in `BackpropClassifier`; encoded columns never lose by it, for their layer stays float32.
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
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only where X had names that are all strings.
    n_iter_ : int
        Most epochs that a network took.
    matmul_precision_ : {"highest", "high", "medium"}
        What the networks used, as in `BackpropClassifier`.

    See Also
    --------
    TabularRegressor : The same for real numbers.
    TableEncoder : The encoding alone.
    BackpropClassifier : One network, on numbers.

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
    .. [3] Berta, Holzmüller, Jordan, Bach (2025), Rethinking early stopping: refine, then
       calibrate. The factor is the inverse of the temperature of Guo, Pleiss, Sun, Weinberger
       (2017), On calibration of modern neural networks.

    Examples
    --------
    >>> from fastbp import TabularClassifier
    >>> X = [[20, "blue"], [40, "red"], [None, "red"], [60, "green"]] * 25
    >>> y = ["no", "yes", "yes", "no"] * 25
    >>> clf = TabularClassifier(random_state=0).fit(X, y)
    >>> clf.predict([[41, "red"], [22, "blue"]])
    array(['yes', 'no'], dtype='<U3')
    """

    __module__ = "fastbp"

    classes_: Labels

    _network_class = MembersClassifier
    _has_classes = True
    _fitted_names = (*BaseTabular._fitted_names, "classes_")
    _parameter_rules = TABULAR_CLASSIFIER_PARAMETERS

    @explains_its_arguments
    def __init__(
        self,
        categorical_features: str | ArrayLike | None = "from_dtype",
        *,
        loss: LossLike = "log_loss",
        n_networks: int = 5,
        n_members: int | str = "auto",
        hidden_layer_sizes: LayerSizes | str = "auto",
        activation: Activations = "relu",
        n_bins: int | str = "auto",
        dropout: float | Sequence[float] | str = "auto",
        weight_decay: float = 0.02,
        learning_rate_init: float = 0.003,
        batch_size: int | str = "auto",
        max_iter: int | str = "auto",
        n_iter_no_change: int = 10,
        max_time: float | None = None,
        scoring: Scoring = None,
        class_weight: ClassWeight = None,
        random_state: RandomState = None,
        n_threads: int | None = None,
        engine: str = "auto",
        matmul_precision: str = "highest",
        verbose: bool | int = False,
    ) -> None:
        self._store(locals())

    def _parameters_of_network(self, settings):
        return {"loss": settings.loss, "class_weight": settings.class_weight}

    def _calibrates(self, settings):
        loss, is_plain = settings.loss, settings.scoring is None
        if isinstance(loss, LogLoss):
            return is_plain and loss.label_smoothing == 0
        return is_plain and isinstance(loss, str) and loss == LogLoss.name

    def _take(self, encoder, networks, targets):
        super()._take(encoder, networks, targets)
        self.classes_ = networks[0].classes_

    def predict(self, X: Any) -> Labels:
        """Predict classes.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,)
        """
        scores, _, _ = self._raw_scores(X)
        return self.networks_[0]._labels_of(scores)

    def predict_proba(self, X: Any, return_std: bool = False) -> Any:
        """Probability of each class.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        return_std : bool, default=False
            Whether to return how far the members' probabilities spread, too.

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`, the mean over all members.
        y_std : ndarray of shape (n_samples, n_classes)
            Standard deviation over all members; only with `return_std`.
        """
        if return_std:
            return self._mean_and_std(X)
        scores = self._raw_scores(X)
        return self.networks_[0]._probabilities_of(*scores)

    def predict_log_proba(self, X: Any) -> Floats:
        """Logarithm of the probability of each class: never -inf.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
        """
        scores = self._raw_scores(X)
        return self.networks_[0]._log_probabilities_of(*scores)

    def decision_function(self, X: Any) -> Floats:
        """Scores of which the largest is the prediction.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            For two classes the logarithm of the odds of the second one.
        """
        scores, _, dtype = self._raw_scores(X)
        return scores[:, 0].astype(dtype) if scores.shape[1] == 1 else scores.astype(dtype)

    def score(self, X: Any, y: Targets, sample_weight: Weights = None) -> float:
        """Return the accuracy of the predictions.

        Parameters
        ----------
        X : data frame or array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        float
        """
        if sample_weight is not None:
            sample_weight = as_numbers(sample_weight)
        return super().score(X, labels_as_given(y), sample_weight)

    def _values_of_member(self, scores, engine, dtype):
        return self.networks_[0]._probabilities_of(scores, engine, dtype)
