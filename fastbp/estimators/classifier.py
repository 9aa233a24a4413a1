"""BackpropClassifier: its parameters, labels and class weights, predictions and probabilities."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import (
    ClassifierMixin,
)
from sklearn.metrics import accuracy_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples

from fastbp.data.scaling import narrow
from fastbp.data.targets import (
    are_plain_labels,
    check_labels,
    encode_indicators,
    encode_labels,
    find_classes,
    join_classes,
    kind_of_target,
    labels_as_given,
)
from fastbp.data.weights import as_numbers, count_codes, find_class_weights
from fastbp.engine import get_engine, network
from fastbp.estimators.annotations import (
    Activations,
    ClassWeight,
    Features,
    Floats,
    Labels,
    LayerSizes,
    LearningRate,
    LossLike,
    RandomState,
    Scoring,
    Solver,
    Targets,
    Weights,
)
from fastbp.estimators.attributes import check_attributes, network_of, unchanged_on_error
from fastbp.estimators.base import BaseBackprop, partial_fit_exists
from fastbp.estimators.parameters import (
    CLASSIFIER_PARAMETERS,
)
from fastbp.losses import loss_for
from fastbp.messages import explains_its_arguments
from fastbp.streams.source import refuse_source
from fastbp.tables import write_labels
from fastbp.training.growing import grow
from fastbp.training.sameness import identify_weights


def _classes_of_all_calls(classes):
    """Return the classes that partial_fit is told, at least one."""
    found = find_classes(classes, "classes")
    if not len(found):
        raise ValueError(f"`classes` must name at least one class. Got {classes!r}.")
    return found


class BackpropClassifier(ClassifierMixin, BaseBackprop):
    """Neural network classifier, trained by backpropagation in compiled code.

    Minimises the log loss, or another, by stochastic gradient descent, Adam or L-BFGS. Parameters,
    methods and fitted attributes are those of :class:`~sklearn.neural_network.MLPClassifier`; with
    ``dtype=None`` and the same `random_state` a run reproduces it.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Number of units of each hidden layer; ``()`` for none (a linear model).
    activation : {'identity', 'logistic', 'tanh', 'relu', 'leaky_relu', 'elu', 'selu', 'gelu', \
            'silu', 'mish', 'softplus'}, function, Activation or list, default='relu'
        Activation function of the hidden layers, or a list with one for each (formulas and
        sources: :doc:`/guide/activations`).  A function of yours
        is a scalar Python function ``f(z)``; Numba compiles it at the first fit (1 to 2 s)
        and differentiates it. :class:`~fastbp.Activation` holds one with settings.
    loss : {'log_loss', 'focal'}, object of fastbp.losses, function or Loss, default='log_loss'
        Cross-entropy of the softmax (multiclass) or logistic (binary, multilabel) output, or the
        focal loss of its probabilities. A name has default settings; an object has yours:
        :class:`LogLoss(label_smoothing=0.1) <fastbp.losses.LogLoss>`,
        :class:`Focal(gamma=1.0) <fastbp.losses.Focal>`. Or, for binary and multilabel targets, a
        scalar Python function ``g(y_true, raw)`` of yours, with `y_true` 0 or 1 and the score
        before the logistic function.
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
        Share of the samples set aside with `early_stopping`; stratified
        by class in the binary case, as in scikit-learn.
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
    class_weight : dict, 'balanced', list of dict or None, default=None
        Weight of each class, multiplied into the sample weights; 'balanced' is
        ``n_samples / (n_classes * count)`` (not in `partial_fit`, which sees parts); a list has one
        dict with the weights of 0 and 1 for each label of multilabel y. Classes that are not named
        weigh 1; names of classes that y lacks are allowed where all of its classes have one (a fold
        may lack some). The weights count in validation loss and score, too.
    init : {'auto', 'he', 'glorot', 'lecun'}, default='auto'
        How initial weights are drawn: 'auto' as scikit-learn draws them, with a gain that fits the
        activation; or uniform with the variance of He et al. (2015), Glorot & Bengio (2010) or
        LeCun et al. (1998), biases 0. The output's biases start at the best constant: log-odds
        (multiclass: logarithms) of the weighted class frequencies, of the smoothed ones with
        `label_smoothing`; with 'focal' the scores at which it is least; with functions of yours 0.
        Under ``dtype=None`` those of 'log_loss' start as drawn, as scikit-learn's do.
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
        What is measured on validation data, larger being better: None is accuracy, 'loss' the
        negative validation loss, else the name of one of scikit-learn's scorers or a callable
        ``scorer(estimator, X, y)``. It gets a fitted copy of the estimator and arrays, after each
        epoch, and `sample_weight` too where samples or classes have weights.
    max_time : float or None, default=None
        Seconds from the call of `fit` after which training ends, with a warning: after the current
        step (the epoch that is cut short counts in `n_iter_` and, with the mean loss of its samples
        so far, in `loss_curve_`), with 'lbfgs' after the current iteration.
    new_classes : {'error', 'grow'}, default='error'
        What `partial_fit` does with classes that it has not met: raise, as scikit-learn does, or
        give the network an output for each. `classes_` stays sorted, and columns of predictions
        move with it. The odds of the old classes among each other stay what they were, for every
        sample; the new ones together begin with less than a tenth of the probability, and with an
        optimizer that knows nothing of them. Then `classes` need not be passed in the first call.
        Not for multilabel y; `fit` and `warm_start` do not read it.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float or None
        Lowest loss of an epoch; None with `early_stopping`. Not set by 'lbfgs'.
    loss_curve_ : list of float
        Loss of each epoch. Not set by 'lbfgs'.
    validation_scores_ : list of float or None
        Accuracy (or what `scoring` says) on the validation data after each epoch; None without
        such.
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
        Number of outputs.
    out_activation_ : str
        Output transform: 'softmax' (multiclass) or 'logistic'.

    See Also
    --------
    BackpropRegressor : Neural network regressor.
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
    with a root mean square above 30, an `alpha` or a weight decay that shrank the weights; or with
    stochastic solvers a learning rate at which the loss went up or nothing moved, a `dropout` that
    leaves hardly a unit, or a layer of rectified units of which nine tenths are 0 for every sample.

    If y has one class only, as in a fold that lacks the others, `fit` warns (RuntimeWarning) and
    that class is predicted, with a probability of 1 in the one column of `predict_proba`. The
    network is that of two classes, but no score tells its epochs apart: accuracy is 1, and what
    scikit-learn's metrics do not define for one class (such as 'roc_auc' and 'neg_log_loss') is
    NaN, without an error or a further warning; then there is no best epoch, and the last weights
    are kept. A scorer of yours is asked as ever.

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
    >>> from sklearn.datasets import make_classification
    >>> from fastbp import BackpropClassifier
    >>> X, y = make_classification(n_samples=200, random_state=0)
    >>> clf = BackpropClassifier(tol=0.01, random_state=0).fit(X, y)
    >>> print(clf.predict_proba(X[:2]).round(1))
    [[0.6 0.4]
     [0.5 0.5]]
    >>> print(f"accuracy {clf.score(X, y):.1f}")
    accuracy 0.9

    Regularised, with a learning rate that rises and falls:

    >>> from fastbp.optimizers import AdamW
    >>> from fastbp.schedules import Cosine
    >>> clf = BackpropClassifier(
    ...     solver=AdamW(weight_decay=0.05), learning_rate=Cosine(warmup=0.05), dropout=0.2,
    ...     max_grad_norm=1.0, ema_decay=0.99, tol=0.01, random_state=0,
    ... ).fit(X, y)
    """

    __module__ = "fastbp"

    _parameter_rules = CLASSIFIER_PARAMETERS

    classes_: NDArray[Any]

    @explains_its_arguments
    def __init__(
        self,
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
        loss: LossLike = "log_loss",
        dtype: str | None = "float32",
        n_threads: int | None = None,
        engine: str = "auto",
        matmul_precision: str = "highest",
        class_weight: ClassWeight = None,
        init: str = "auto",
        dropout: float | Sequence[float] = 0.0,
        max_grad_norm: float | None = None,
        ema_decay: float | None = None,
        scoring: Scoring = None,
        max_time: float | None = None,
        new_classes: str = "error",
    ) -> None:
        self._store(locals())

    @available_if(partial_fit_exists)
    @explains_its_arguments
    def partial_fit(
        self,
        X: Features,
        y: Targets,
        sample_weight: Weights = None,
        classes: ArrayLike | None = None,
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
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels; they need not contain every class, and may hold new ones with
            ``new_classes="grow"``.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample; not negative, not all zero.
        classes : array-like of shape (n_classes,), default=None
            All classes of all calls; required in the first call, but for ``new_classes="grow"``.
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
            if self.new_classes == "grow":
                self._meet_classes(y, classes)
            else:
                self._check_partial_fit_classes(classes)
            validation = X_val, y_val, sample_weight_val
            return self._fit(X, y, sample_weight, validation, incremental=True)

    def _check_partial_fit_classes(self, classes):
        known = vars(self).get("classes_")
        if classes is None:
            if known is None and not self.__sklearn_is_fitted__():
                raise ValueError("classes must be passed on the first call to partial_fit.")
            return
        found = _classes_of_all_calls(classes)
        if known is None:
            self.classes_ = found
        elif not np.array_equal(known, found):
            raise ValueError(
                f"`classes={write_labels(found)}` is not the same as on last call to partial_fit, "
                f"was: {write_labels(known)}"
            )

    def _meet_classes(self, y, classes):
        """Take the classes of y, and of partial_fit's `classes`, into `classes_`."""
        labels, is_multilabel, _ = check_labels(self, y, None if y is None else _num_samples(y))
        if is_multilabel:
            raise ValueError(
                'new_classes="grow" is for one label per row: the columns of a multilabel y are '
                'known from the first call on. Use new_classes="error".'
            )
        found = [find_classes(labels)]
        if classes is not None:
            found.append(_classes_of_all_calls(classes))
        known, fitted = vars(self).get("classes_"), self.__sklearn_is_fitted__()
        if fitted:
            network_of(vars(self))  # names what is wrong with edited attributes
        if known is not None:
            found.append(known)
        if len({labels.dtype.kind in "US" for labels in found}) > 1:
            raise ValueError(
                f"Labels must be of one type, text or numbers. Got {write_labels(found[0])} after "
                f"{write_labels(found[-1])}."
            )
        classes = join_classes(found)
        if fitted and self._target_kind == "multilabel":
            return  # refused by what checks y
        if fitted and len(classes) > len(self.classes_):
            self._grow(classes)
        elif not fitted:
            self.classes_ = classes

    def _grow(self, classes):
        """Give the network an output for each of `classes`, which has those of `classes_`."""
        coefs, intercepts = check_attributes(vars(self))
        sizes, growth = network.layer_sizes_of(coefs), grow(self.classes_, classes)
        params = network.flatten(coefs, intercepts, coefs[0].dtype)
        engine, seen = get_engine(self.engine), dict(vars(self).get("_seen") or {})
        as_left = seen.pop("weights", None) == identify_weights(engine, coefs, intercepts)
        kind, n_outputs = kind_of_target(False, classes), growth.scores.shape[1]
        wide = (*sizes[:-1], n_outputs)
        self.coefs_, self.intercepts_ = network.views(growth.widen(params, sizes), wide)
        if vars(self).get("_optimizer") is not None:
            self._optimizer = growth.widen_optimizer(self._optimizer, sizes)
        if as_left:  # what the optimizer keeps beside the weights still belongs to them
            seen["weights"] = identify_weights(engine, self.coefs_, self.intercepts_)
        seen.pop("goal", None)  # scores of fewer classes are not comparable
        self._keep("_seen", seen or None)
        self._keep("_place", None)
        self._keep("_class_weights", None)  # this call finds those of the new classes
        self.classes_, self._target_kind, self.n_outputs_ = classes, kind, n_outputs
        self.out_activation_ = loss_for(self.loss, kind).output

    def _check_y(self, y, n_samples, dtype, *, fresh, incremental):
        """Targets and loss of y; sets `classes_`, `n_outputs_` and the kind of target."""
        y, is_multilabel, is_sparse = check_labels(self, y, n_samples)
        if fresh:
            if not incremental:
                self.classes_ = np.arange(y.shape[1]) if is_multilabel else find_classes(y)
            self._target_kind = kind_of_target(is_multilabel, self.classes_)
            self._sparse_labels = is_sparse
        elif is_multilabel != (self._target_kind == "multilabel"):
            forms = ("labels of shape (n_samples,)", "label indicators of shape (n_samples, k)")
            raise ValueError(
                f"y holds {forms[is_multilabel]}, got shape {y.shape}, but the network has "
                f"{self._target_kind} targets: expected {forms[not is_multilabel]}. (A fit with "
                "warm_start=False starts again, with any form of y.)"
            )
        self.n_outputs_ = 1 if self._target_kind == "binary" else len(self.classes_)
        if is_multilabel:
            targets = encode_indicators(y, self.classes_, dtype)
        else:
            complete = not (fresh or incremental)
            targets = encode_labels(y, self.classes_, dtype, complete=complete)
        return targets, loss_for(self.loss, self._target_kind)

    @property
    def _has_one_class(self):
        """Whether every sample that `fit` saw had the same label."""
        return self._target_kind == "binary" and len(self.classes_) == 1

    def _find_class_weights(self, targets, *, incremental, counts=None):
        """Weights of the classes for each column of targets (or of counts), or None."""
        if self.class_weight is None:
            return None
        multilabel = self._target_kind == "multilabel"
        if counts is None:
            counts = count_codes(targets, 2 if multilabel else len(self.classes_))
        return find_class_weights(
            self.class_weight,
            self.classes_,
            counts,
            multilabel=multilabel,
            incremental=incremental,
        )

    def _answers(self, y, targets):
        """Labels as scorers take them: of `classes_`, or indicators."""
        if self._target_kind == "multilabel":
            return targets.astype(np.int64)
        return self.classes_[targets[:, 0].astype(np.intp)]

    def predict(self, X: Features) -> Labels:
        """Predict classes.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            Class labels; label indicators (sparse if they were in `fit`) for multilabel.
        """
        return self._labels_of(self._raw_scores(X)[0])

    def _labels_of(self, scores):
        """Class labels of raw scores."""
        if self._target_kind == "multiclass":
            return self.classes_[scores.argmax(axis=1)]
        if self._target_kind == "binary":  # clip: where there is one class, it is predicted
            return self.classes_.take((scores[:, 0] > 0).astype(np.intp), mode="clip")
        labels = (scores > 0).astype(np.int64)
        if vars(self).get("_sparse_labels"):
            as_matrix = get_config().get("sparse_interface") == "spmatrix"
            return (scipy.sparse.csr_matrix if as_matrix else scipy.sparse.csr_array)(labels)
        return labels

    def predict_proba(self, X: Features) -> Floats:
        """Probability of each class.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`; rows sum to 1 except for multilabel. float32 for float32
            X, else float64 (``dtype=None``: as scikit-learn).

        Raises
        ------
        ValueError
            If the network's scores are beyond the range of float64.
        """
        return self._probabilities_of(*self._raw_scores(X))

    def _probabilities_of(self, scores, engine, dtype):
        """Probabilities of raw scores, (n_samples, n_classes)."""
        if self._has_one_class:
            return np.ones(scores.shape, dtype)
        scores = scores.astype(np.result_type(scores, dtype), copy=False)
        binary, second_is_larger = self._target_kind == "binary", scores > 0
        if binary:  # the smaller of two directly, the larger as its complement: no digits are lost
            np.negative(np.abs(scores, out=scores), out=scores)
        engine.transform_into(self.out_activation_, scores)
        if binary:
            pair = np.hstack([1 - scores, scores])
            scores = np.where(second_is_larger, pair[:, ::-1], pair)
        return scores.astype(dtype, copy=False)

    def predict_log_proba(self, X: Features) -> Floats:
        """Logarithm of the probability of each class, from the raw scores: never -inf.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        log_y_prob : ndarray of shape (n_samples, n_classes)
            In the order of `classes_`, with the dtype of `predict_proba`; float64 where float32
            cannot hold them.
        """
        return self._log_probabilities_of(*self._raw_scores(X))

    def _log_probabilities_of(self, scores, engine, dtype):
        """Logarithms of the probabilities of raw scores, (n_samples, n_classes)."""
        if self._has_one_class:
            return np.zeros(scores.shape, dtype)
        scores = scores.astype(np.result_type(scores, dtype), copy=False)
        if self._target_kind == "binary":
            scores = np.hstack([-scores, scores])
        engine.transform_into(f"log_{self.out_activation_}", scores)
        return narrow(scores, dtype)

    def score(self, X: Features, y: Targets, sample_weight: Weights = None) -> float:
        """Score the predictions: accuracy; that of whole rows for multilabel.

        Parameters
        ----------
        X : array-like, data frame or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample.

        Returns
        -------
        float
        """
        if sample_weight is not None:
            sample_weight = as_numbers(sample_weight)
        found = self.predict(X)
        if sample_weight is None and are_plain_labels(y, found):
            return float(np.mean(y == found))
        return accuracy_score(labels_as_given(y), found, sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
