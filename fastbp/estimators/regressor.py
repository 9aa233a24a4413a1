"""BackpropRegressor: its parameters, targets and their units, predictions and score."""

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Self

import numpy as np
from sklearn.base import (
    RegressorMixin,
)
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if

from fastbp.data.scaling import is_coarse, measure, narrow, restore, standardize
from fastbp.data.targets import check_targets, refuse_dates, targets_as_given
from fastbp.data.weights import as_numbers, check_sample_weight
from fastbp.estimators.annotations import (
    Activations,
    Features,
    Floats,
    LayerSizes,
    LearningRate,
    LossLike,
    RandomState,
    Scoring,
    Solver,
    Targets,
    Weights,
)
from fastbp.estimators.attributes import check_numbers, unchanged_on_error
from fastbp.estimators.base import BaseBackprop, partial_fit_exists
from fastbp.estimators.parameters import (
    REGRESSOR_PARAMETERS,
)
from fastbp.losses import NAMED_LOSSES, Quantile, loss_for
from fastbp.messages import explains_its_arguments, warn_user
from fastbp.streams.source import refuse_source
from fastbp.training.scoring import default_score, in_units


class BackpropRegressor(RegressorMixin, BaseBackprop):
    """Neural network regressor, trained by backpropagation in compiled code.

    Minimises the squared error, or another loss, by stochastic gradient descent, Adam or L-BFGS.
    Parameters, methods and fitted attributes are those of
    :class:`~sklearn.neural_network.MLPRegressor`; with ``dtype=None`` and the same `random_state`
    a run reproduces it (except for 'lbfgs' with several outputs, where scikit-learn's gradient
    does not belong to its loss).

    Parameters
    ----------
    loss : {'squared_error', 'absolute_error', 'huber', 'quantile', 'poisson', 'gamma', \
            'tweedie'}, object of fastbp.losses, function or Loss, default='squared_error'
        Half the squared error; the absolute error; Huber's loss; the pinball loss of a quantile
        (0.5); or half the Poisson (``y >= 0``), gamma (``y > 0``) or Tweedie (power 1.5, ``y >=
        0``) deviance with log link. A name has default settings; an object has yours:
        :class:`Huber(delta=2.0) <fastbp.losses.Huber>`, :class:`Quantile(0.9)
        <fastbp.losses.Quantile>` or ``Quantile([0.1, 0.5, 0.9])``, :class:`Tweedie(power=1.2)
        <fastbp.losses.Tweedie>`; a search varies ``loss__delta``. Or a scalar Python function
        ``g(y_true, raw)`` of yours, summed over the outputs; :class:`~fastbp.Loss` holds one with
        settings, such as its link.
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units of each hidden layer; ``()`` for none (a linear model).
    activation : {'identity', 'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'gelu', \
            'silu', 'mish', 'softplus'}, function, Activation or list, default='relu'
        Activation function of the hidden layers, or a list with one for each (formulas and
        sources: :doc:`/guide/activations`).  A function of yours
        is a scalar Python function ``f(z)``; Numba compiles it at the first fit (1 to 2 s)
        and differentiates it. :class:`~fastbp.Activation` holds one with settings.
    solver : {'adam', 'adamw', 'lbfgs', 'lion', 'rmsprop', 'sgd'} or object, default='adam'
        'lbfgs' is scipy's L-BFGS-B over the full batch, always in float64; the others step
        minibatch by minibatch. The names 'sgd', 'adam' and 'adamw' take `momentum`, `beta_1`, ...
        from below and otherwise the defaults of their classes in :mod:`fastbp.optimizers`; an
        object of these, such as ``fastbp.optimizers.AdamW(weight_decay=0.1)``, has settings of its
        own.
    alpha : float, default=0.0001
        Strength of the L2 penalty; ``alpha |W|^2 / (2 n)`` is added to the loss of n samples, with
        every solver. The `weight_decay` of 'adamw' and 'lion' acts besides, outside the gradient.
    batch_size : int or 'auto', default='auto'
        Rows per minibatch; 'auto' is ``min(200, n_samples)``. Not used by 'lbfgs'.
    learning_rate : {'constant', 'invscaling', 'adaptive', 'cosine', 'linear', 'one_cycle', \
            'plateau'}, object or function, default='constant'
        Schedule of the learning rate. 'cosine', 'linear' and 'one_cycle' change it from step to
        step over the `max_iter` epochs, 'plateau' lowers it after epochs without improvement: with
        every solver but 'lbfgs', by the classes of :mod:`fastbp.schedules`, of which an object,
        such as ``fastbp.schedules.Cosine(warmup=0.05)``, has settings of its own. A function
        ``f(step, n_steps)`` gives what `learning_rate_init` is multiplied by in each step, counted
        from 0. With ``solver='sgd'`` only, as in scikit-learn: 'invscaling' divides
        `learning_rate_init` by ``(t_ + 1)^power_t`` after each epoch; 'adaptive' divides it by 5
        each time training would stop for lack of progress, until it is 1e-6.
    learning_rate_init : float, default=0.001
        Learning rate that the schedule starts from or, with a warm-up, rises to; not used by
        'lbfgs'.
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Most epochs; with 'lbfgs' iterations.
    shuffle : bool, default=True
        Whether to shuffle the samples before each epoch.
    random_state : int, RandomState instance or None, default=None
        Draws initial weights, shuffles and validation set, exactly as scikit-learn draws them.
    tol : float, default=1e-4
        Improvement of the loss (or validation score) below which an epoch counts as none; for
        'lbfgs' the largest gradient at which it has converged.
    verbose : bool or int, default=False
        Whether to show the progress. True or 1: one live line in a terminal or notebook (epoch,
        loss, validation score, samples per second, time left); elsewhere a line after 1, 2, 5, 10,
        20, 50 ... epochs, at least one a minute, and after the last. From 2 on: every epoch, in
        scikit-learn's words.
    warm_start : bool or 'resume', default=False
        Whether `fit` starts from the weights of the last call: True with a fresh optimizer;
        'resume' with everything where the last call left it (last weights, optimizer, learning
        rate, order and shuffles, validation set), so that with an integer `random_state` two
        calls of 10 epochs are one of 20, bit for bit, also by way of a pickle. All of these calls
        need the setting (it keeps a number per sample), and data of the same length. An optimizer
        or a learning rate that is changed in between starts again (one function as `learning_rate`
        is taken for another, which goes on at the step reached). So do best score, best weights,
        best loss, count of epochs without progress, held-out rows and (but for 'resume') curves
        wherever the data, the weights, the objective (loss, `alpha`, `dropout`, class weights; with
        `alpha` the minibatches, too) or `scoring` are not those of the last call: what was best on
        other data is not the best on these.
    momentum : float, default=0.9
        Momentum of ``solver='sgd'``, from 0 to 1.
    nesterovs_momentum : bool, default=True
        Whether ``solver='sgd'`` uses Nesterov's momentum.
    early_stopping : bool, default=False
        Whether to set `validation_fraction` of the data aside, to stop when the score on it no
        longer improves, and to keep the weights that scored best; 'lbfgs' needs X_val and y_val in
        `fit` instead of that part.
    validation_fraction : float, default=0.1
        Share of the samples set aside with `early_stopping`.
    beta_1 : float, default=0.9
        Decay rate of the first moment of 'adam' and 'adamw', in [0, 1).
    beta_2 : float, default=0.999
        Decay rate of the second moment of 'adam' and 'adamw', in [0, 1).
    epsilon : float, default=1e-8
        Added to the root of this second moment, outside the bias correction.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement after which training stops (all solvers but 'lbfgs'): of the
        validation score with `early_stopping`, else of the training loss, also where `fit` gets
        X_val.
    max_fun : int, default=15000
        Most evaluations of the loss by 'lbfgs'.
    dtype : {'float32', 'float64'} or None, default='float32'
        Dtype of the arithmetic and of the weights, whatever the input; None follows X, as
        scikit-learn does. Predictions are float32 for float32 X, else float64.
    n_threads : int or None, default=None
        Most threads to use: None lets the engine decide, -1 is all cores. The result does not
        depend on it.
    engine : {'auto', 'cython', 'numba'}, default='auto'
        What computes: the compiled extension ('cython'), or code that Numba compiles when first
        used, in one thread. 'auto' is 'cython', or 'numba' where the extension was not built.
    matmul_precision : {'highest', 'high', 'medium'}, default='highest'
        How precise the operands of matrix products are in float32, with the meaning of
        ``torch.set_float32_matmul_precision``: 'medium' rounds them to bfloat16 (8 bits), 'high'
        makes each the sum of two (about 16 bits, three products), 'highest' takes them as they are
        (24 bits). Sums, weights, optimizer and everything else stay float32. Where the processor
        has no fast way, or a network or layer is too small for one, the next more precise one is
        taken: `matmul_precision_` says what was used. Predictions of less than 64 rows are
        'highest', and so are all products in float64 and therefore with 'lbfgs'. A column of X
        whose mean is more than 100 times its standard deviation loses much in 'medium': `fit`
        warns.
    init : {'auto', 'he', 'glorot', 'lecun'}, default='auto'
        How initial weights are drawn: 'auto' as scikit-learn draws them, with a gain that fits the
        activation; or uniform with the variance of He et al. (2015), Glorot & Bengio (2010) or
        LeCun et al. (1998), biases 0. The output's biases start at the best constant: the
        weighted mean of y, its logarithm with 'poisson', 'gamma' and 'tweedie', the median or the
        quantiles with 'absolute_error' and 'quantile', between mean and median with 'huber'; with
        functions of yours at 0. Under ``dtype=None`` those of 'squared_error' and 'poisson' start
        as drawn, as scikit-learn's do.
    dropout : float or list of float, default=0.0
        Probability with which a hidden unit is left out of a training step for a sample
        (Srivastava et al. 2014), for all hidden layers or one for each, in [0, 1). The other units
        are divided by one minus it; predictions and validation leave nothing out, `loss_curve_` is
        the loss with units left out. Not with 'lbfgs'.
    max_grad_norm : float or None, default=None
        Gradients, penalty included, with a larger norm over all weights and biases are scaled down
        to this norm before each step (Pascanu et al. 2013). Not with 'lbfgs'.
    ema_decay : float or None, default=None
        Predictions, `coefs_` and validation use an exponential moving average of the weights over
        the steps (Polyak & Juditsky 1992); training itself and `loss_curve_` do not. After step t
        the average moves by the share ``1 - min(ema_decay, (1 + t) / (10 + t))`` towards the
        weights, so it soon forgets where training began. `partial_fit` goes on from the weights
        and from the average; a new `fit` with `warm_start` from the average. Not with 'lbfgs'.
    scoring : str, callable or None, default=None
        What is measured on validation data, larger being better: None is R2, 'loss' the
        negative validation loss, else the name of one of scikit-learn's scorers or a callable
        ``scorer(estimator, X, y)``. It gets a fitted copy of the estimator and arrays, after each
        epoch, and `sample_weight` too where samples or classes have weights.
    max_time : float or None, default=None
        Seconds from the call of `fit` after which training ends, with a warning: after the current
        step (the epoch that is cut short counts in `n_iter_` and, with the mean loss of its samples
        so far, in `loss_curve_`), with 'lbfgs' after the current iteration.
    scale_targets : bool, default=False
        Whether to standardise y inside: the network is trained on targets of mean 0 and variance 1
        (each output; with the sample weights), and predictions come back on the original scale.
        Learning rate, `tol` and `alpha` are meant for such targets: without it the differences in a
        y of thousands are out of reach of Adam's small steps, and a y of thousandths ends training
        at `tol` before anything is learned. y may be of any size that float64 holds. Weights,
        `loss_` and `loss_curve_` belong to the scaled problem; scores do not change. `partial_fit`
        and `warm_start` keep the scale of the first call. Not for losses with a link, such as
        'poisson'.

    Attributes
    ----------
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float or None
        Lowest loss of an epoch; None with `early_stopping`. Not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch. Not set by 'lbfgs'.
    validation_scores_ : list of float or None
        What `scoring` says, by default what `score` gives, on the validation data after each
        epoch; None without such.
    validation_loss_curve_ : list of float or None
        Loss on the validation data after each epoch, without the L2 penalty; None without such.
    best_validation_score_ : float or None
        Best of `validation_scores_`: that of the weights that `fit` kept. None where there are
        none, or only NaN.
    best_iter_ : int or None
        Its epoch, counted from 1 along `validation_scores_`.
    t_ : int
        Number of samples seen, ``epochs * n_samples``.
    coefs_ : list of ndarray of shape (n_in, n_out)
        Weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,)
        Biases of each layer.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features; only where X had names that are all strings.
    n_iter_ : int
        Number of epochs (or iterations) of the last call.
    matmul_precision_ : {'highest', 'high', 'medium'}
        What the last call used: `matmul_precision`, or what was more precise where the processor,
        the sizes or the dtype gave nothing faster.
    n_layers_ : int
        Number of layers, input and output included.
    n_outputs_ : int
        Number of outputs: of targets, or of quantiles with a list of them.
    out_activation_ : str
        Output transform: 'identity'; 'exp' with the losses 'poisson', 'gamma' and 'tweedie';
        'cumulative_softplus' with a list of quantiles, where the first raw score is the lowest
        quantile and ``softplus`` of each other one is added to the quantile before.
    target_mean_, target_scale_ : float64 ndarray of shape (n_outputs,)
        What y was standardised with; only with `scale_targets`. A constant output has scale 1.

    See Also
    --------
    BackpropClassifier : Neural network classifier.
    find_learning_rate : A rate to begin with.

    Notes
    -----
    In the user guide: :doc:`scaling </guide/targets>`, :doc:`validation, early stopping, weights
    </guide/validation>`, :doc:`solvers and learning rates </guide/solvers>`, :doc:`losses
    </guide/losses>`, :doc:`activations, dropout </guide/activations>`, :doc:`callbacks
    </guide/progress>`, :doc:`going on with training </guide/continuing>`, :doc:`threads
    </guide/performance>`, :doc:`saving and handing over </guide/deployment>`.

    Callbacks of :mod:`sklearn.callback` (``set_callbacks``) see `fit` as a task and each epoch
    ('lbfgs': iteration) as a subtask: ``ProgressBar`` and ``ScoringMonitor`` work alone, in a
    pipeline and in a search. They get X, y and `sample_weight` as given to `fit`; the
    `fitted_estimator` is a copy, made only for a callback that asks for it. If one asks to stop,
    training ends after the epoch, as on its own. `partial_fit` calls none.

    The end of a fit gives at most one warning (:class:`~sklearn.exceptions.ConvergenceWarning`; of
    the data others may have come before): of limits that it reached before it converged, and if its
    loss is no better than that of a constant prediction and the cause can be named: a column of X
    with a root mean square above 30, a y with a standard deviation outside of 0.1 to 10 (or a large
    mean, where the output does not start there), an `alpha` or a weight decay that shrank the
    weights; or with stochastic solvers a learning rate at which the loss went up or nothing moved,
    a `dropout` that leaves hardly a unit, or a layer of rectified units of which nine tenths are 0
    for every sample.

    References
    ----------
    Rumelhart, Hinton & Williams (1986), Learning representations by back-propagating errors.
    Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward networks.
    Kingma & Ba (2014), Adam: A method for stochastic optimization.
    Srivastava et al. (2014), Dropout: A simple way to prevent neural networks from overfitting.
    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks.
    Polyak & Juditsky (1992), Acceleration of stochastic approximation by averaging.
    PyTorch 2, torch.set_float32_matmul_precision, whose names and meaning `matmul_precision` has.
    Henry, Tang & Heinecke (2019), Leveraging the bfloat16 artificial intelligence datatype for
    higher-precision computations.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.preprocessing import scale
    >>> from fastbp import BackpropRegressor
    >>> X, y = make_regression(n_samples=200, n_features=10, random_state=0)
    >>> reg = BackpropRegressor(solver="lbfgs", tol=0.01, random_state=0).fit(X, scale(y))
    >>> print(reg.predict(X[:3]).round(1), scale(y)[:3].round(1))
    [ 0.4 -0.4 -2.5] [ 0.3 -0.5 -2.5]
    >>> print(f"R2 {reg.score(X, scale(y)):.2f}")
    R2 0.98

    The same with y as it came, watched by a callback:

    >>> from sklearn.callback import ScoringMonitor
    >>> monitor = ScoringMonitor(scoring="r2")
    >>> reg = BackpropRegressor(solver="lbfgs", tol=0.01, scale_targets=True, random_state=0)
    >>> print(f"R2 {reg.set_callbacks(monitor).fit(X, y).score(X, y):.2f}")
    R2 0.98
    >>> scores = [entry["r2"] for entry in monitor.get_logs().data]
    >>> print(f"after the best iteration {max(scores):.2f}")
    after the best iteration 0.98
    """

    __module__ = "fastbp"

    _parameter_rules = REGRESSOR_PARAMETERS

    @explains_its_arguments
    def __init__(
        self,
        loss: LossLike = "squared_error",
        hidden_layer_sizes: LayerSizes = (100,),
        activation: Activations = "relu",
        *,
        solver: Solver = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: LearningRate = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: RandomState = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool | str = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dtype: str | None = "float32",
        n_threads: int | None = None,
        engine: str = "auto",
        matmul_precision: str = "highest",
        init: str = "auto",
        dropout: float | Sequence[float] = 0.0,
        max_grad_norm: float | None = None,
        ema_decay: float | None = None,
        scoring: Scoring = None,
        max_time: float | None = None,
        scale_targets: bool = False,
    ) -> None:
        self._store(locals())

    @available_if(partial_fit_exists)
    @explains_its_arguments
    def partial_fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: Weights = None,
        *,
        X_val: Features | None = None,
        y_val: Targets | None = None,
        sample_weight_val: Weights = None,
    ) -> Self:
        """Train one epoch on X and y, going on from the weights and optimizer of the last call.

        The optimizer is made by the first call (or by `fit`), with the settings of that time, and
        lives on, also in a copy or a pickle. A schedule over the steps runs over `max_iter` calls
        (of this size), then keeps its last rate. A function as `learning_rate` is no part of it:
        each call asks the present parameter, whatever it is by then. `max_time` is not looked at.
        The curves of validation data go on as long as these, the objective and `scoring` stay the
        same; `best_loss_` as long as the objective is that of the last call of `partial_fit` (or of
        a `fit` with `warm_start`), whatever the parts of the data.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Target values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.
        X_val, y_val, sample_weight_val : as for `fit`, default=None
            Loss and score on these data are recorded; which weights are kept does not depend on it.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError, TypeError
            For bad parameters or data, and if training diverges.  The estimator stays as it was.
        """
        with unchanged_on_error(self):
            refuse_source(X)
            validation = X_val, y_val, sample_weight_val
            return self._fit(X, y, sample_weight, validation, incremental=True)

    def _check_y(self, y, n_samples, dtype, *, fresh, incremental):
        """Targets and loss of y; sets `n_outputs_`."""
        loss = loss_for(self.loss, "real")
        given = np.float64 if self.scale_targets else dtype
        targets = check_targets(self, y, n_samples, given, loss)
        self.n_outputs_ = len(loss.hyper) if loss.target == "shared" else targets.shape[1]
        return targets, loss

    def _scale(self, targets, weights, dtype, *, fresh):
        """Standardised targets with `scale_targets`; sets `target_mean_` and `target_scale_`."""
        self._learn_scale(partial(measure, targets, weights), fresh=fresh)
        if not self.scale_targets:
            return targets
        return standardize(targets, self.target_mean_, self.target_scale_, dtype)

    def _learn_scale(self, measure, *, fresh):
        """Keep mean and scale of the targets, ``measure()``, where a new fit scales them."""
        state = vars(self)
        if fresh:
            state.pop("target_mean_", None)
            state.pop("target_scale_", None)
        elif self.scale_targets != ("target_scale_" in state):
            raise ValueError(
                f"Training goes on with a network that was begun with scale_targets="
                f"{'target_scale_' in state}, but now scale_targets={self.scale_targets}. Set it "
                "back, or call fit with warm_start=False to start again."
            )
        if self.scale_targets and fresh:
            self.target_mean_, self.target_scale_ = measure()

    def _answers(self, y, targets):
        """Targets as scorers take them: as given."""
        return targets_as_given(y)

    def predict(self, X: Features) -> Floats:
        """Predict target values.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            float32 for float32 X, else float64 (``dtype=None``: as scikit-learn); float64 also
            where float32 cannot hold them. One column for each quantile with a list of quantiles
            as loss.

        Raises
        ------
        ValueError
            If float64 cannot hold them either.
        """
        return self._values_of(*self._raw_scores(X))

    def _values_of(self, predictions, engine, dtype):
        """Values, in units of y, of raw scores."""
        link, state = self.out_activation_, vars(self)
        if link != "identity" or "target_scale_" in state:  # numbers leave the range of the scores
            predictions = predictions.astype(np.float64)
            engine.transform_into(link, predictions)
            if "target_scale_" in state:
                mean, scale = self.target_mean_, self.target_scale_
                predictions = restore(predictions, mean, scale)
                if is_coarse(mean, scale).any():  # as a scale is that is not positive, too
                    check_numbers(state)
                    dtype = np.float64
            if not engine.all_finite(predictions):
                self._refuse(predictions)
        predictions = narrow(predictions, dtype)
        one_column = predictions.shape[1] == 1 and self.out_activation_ != "cumulative_softplus"
        return predictions.ravel() if one_column else predictions

    def score(self, X: Features, y: Targets, sample_weight: Weights = None) -> float:
        """Score the predictions: R2, or the D2 of the loss.

        D2 is the share of the loss that predicting a constant (the mean of y, or its quantile)
        leaves and the network takes away: 1 is perfect, R2 is that of the squared error. The
        quantile losses have the D2 of the pinball loss (a list: the mean over its quantiles),
        'gamma' and 'tweedie' that of their deviance; 'squared_error', 'absolute_error', 'huber',
        functions of yours and 'poisson' have R2, as scikit-learn's MLPRegressor.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True values.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If y is not what the loss needs.
        """
        loss = loss_for(self.loss, "real")
        y_pred = self.predict(X)
        if loss.metric[0] == "r2":
            refuse_dates(y, "y")
            if sample_weight is not None:
                sample_weight = as_numbers(sample_weight)
            y = targets_as_given(y)
            if y.shape == y_pred.shape:  # else r2_score says so
                y, y_pred = in_units(y, y_pred)
            with np.errstate(over="ignore"):
                return r2_score(y, y_pred, sample_weight=sample_weight)
        y_true = check_targets(self, y, len(y_pred), np.float64, loss)
        weights = check_sample_weight(self, sample_weight, len(y_pred), np.float64)
        if len(y_pred) < 2:  # as scikit-learn's metrics
            warn_user("D2 is not defined for less than two samples.", UndefinedMetricWarning)
            return float("nan")
        return default_score(loss, y_true, y_pred.reshape(len(y_pred), -1), weights)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        loss = NAMED_LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        many = isinstance(loss, Quantile) and not isinstance(loss.quantile, Real)
        tags.target_tags.multi_output = not many
        tags.target_tags.positive_only = getattr(loss, "target_min", None) == 0.0
        return tags
